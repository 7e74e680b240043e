"""`job=device`: numbers, a figure and warnings, without data or training."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cnet_aihw.evaluation import inspect_device
from cnet_aihw.rram import LogNormalNoiseModel, RRAMRPUConfig

Cli = Callable[..., Any]


def record() -> Any:
    return json.loads(Path("run/device.json").read_text())


def test_it_shows_and_records_the_library_s_numbers(cli: Cli) -> None:
    words = ["job=device", "rram.sigma=0.4", "evaluation.chips=3", "hydra.run.dir=run"]
    words += ["data.path=/nowhere", "data=arrays", "model=custom", "model._target_=x"]
    outcome = cli(*words, "training=plain")
    assert outcome.code == 0, outcome.err  # neither data nor network are looked at
    found = record()
    config = RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.4))
    expected = json.loads(json.dumps(inspect_device(config, chips=3).as_record()))
    assert {name: found[name] for name in expected} == expected
    assert found["rram"] == "lognormal"
    assert found["config"]["sigma"] == 0.4
    assert found["command"].startswith("cnet-aihw job=device rram.sigma=0.4")
    row = expected["rows"][0]
    assert f"{row['relative_std']:.4g}" in outcome.out
    assert f"{row['snr_db']:.4g}" in outcome.out
    assert Path("run/device.png").stat().st_size > 10_000
    assert Path("run/device.svg").exists()
    assert "WARNING" not in outcome.out


def test_times_of_the_evaluation_are_columns(cli: Cli) -> None:
    words = ["job=device", "rram=pcm", "evaluation.t_inference=[1.0,3600.0]", "evaluation.chips=2"]
    outcome = cli(*words, "training=plain", "hydra.run.dir=run")
    assert outcome.code == 0, outcome.err
    assert "after 1 s" in outcome.out
    assert " 3600 s" in outcome.out
    assert [row["t_inference"] for row in record()["rows"]] == [1.0, 3600.0]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["rram.sigma=0"], "nothing changes"),
        (["rram.sigma=5"], "times as large as meant"),
        (["rram.adc_bits=6", "rram.adc_range=0.2"], "the ADC clips"),
        (
            ["rram.per_conductance=true", "rram.g_min=24.9", "rram.sigma=0.1"],
            "of the weights change their sign",
        ),
    ],
)
def test_a_wrong_unit_is_warned_of(cli: Cli, words: list[str], sentence: str) -> None:
    outcome = cli("job=device", "training=plain", *words, "evaluation.chips=2", "hydra.run.dir=run")
    assert outcome.code == 0, outcome.err
    (line,) = [line for line in outcome.out.splitlines() if sentence in line]
    assert "WARNING" in line
    assert any(sentence in text for text in record()["warnings"])


@pytest.mark.parametrize(
    "word",
    [
        "rram.wire_resistance=1",
        "rram.sigma=500",
    ],
)
def test_impossible_values_are_one_line(cli: Cli, word: str) -> None:
    outcome = cli("job=device", "training=plain", word, "hydra.run.dir=run")
    assert outcome.code == 2
    assert len(outcome.err.strip().splitlines()) == 1
    assert not Path("run/device.json").exists()
