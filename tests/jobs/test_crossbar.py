"""Crossbars in a job: trained through them or only measured on them, and swept over."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cnet_aihw.evaluation import adc_use, calibrate_adc, evaluate_chips
from cnet_aihw.rram import (
    CrossbarMapping,
    LogNormalNoiseModel,
    RRAMRPUConfig,
    convert_to_analog,
    convert_to_digital,
    load_snapshot,
    periphery,
)
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.records import read_records
from cnet_aihw.training import load_checkpoint
from cnet_aihw.zoo import MLP, digits

Cli = Callable[..., Any]


@pytest.fixture
def small(tiny: list[str]) -> list[str]:
    """A job of a second or two on a network with two hidden layers."""
    return [*tiny, "data.limit_train=100", "model=mlp", "data.size=8", "training.lr=0.1"]


@pytest.fixture
def compensated() -> list[str]:
    """Compensation of one layer by a fit of one epoch."""
    return [
        *("compensation=paper", "compensation.placement={layers.fc1: 0.1}"),
        *("compensation.shared.epochs=1", "compensation.shared.validation_chips=2"),
        *("compensation.scan.chips=1", "compensation.scan.samples=20"),
    ]


def read(path: str) -> Any:
    return json.loads(Path(path).read_text())


def test_every_knob_goes_through_a_whole_job(cli: Cli, small: list[str]) -> None:
    """Training, scan, fit and measurement on split, converted, noisy crossbars with wires."""
    words = [
        *("rram.max_rows=64", "rram.max_columns=64", "rram.weight_scaling=tile"),
        *("rram.dac_bits=6", "rram.dac_range=3.0", "rram.adc_bits=8", "rram.adc_range=9.0"),
        *("rram.out_noise=0.01", "rram.inp_noise=0.01", "rram.wire_resistance=1.0"),
        *("rram.g_max=30.0", "rram.g_min=1.0", "rram.cell=reference"),
        *("rram.per_conductance=true", "rram.sigma=0.1", "compensation=paper"),
        "search=none",
        *("compensation.corrector.form=residual", "compensation.threshold=1.0"),
        *("compensation.shared.epochs=1", "compensation.shared.validation_chips=2"),
        *("compensation.scan.chips=1", "compensation.scan.samples=20"),
    ]
    outcome = cli(*small, *words, "training=lipschitz_noise", "hydra.run.dir=run")
    assert outcome.code == 0, outcome.err
    row = read("run/table.json")["rows"][0]
    # 1 x 4, 4 x 2 and 2 x 1 crossbars of the layers 64-256, 256-128 and 128-10
    conversions = 256 + 4 * 128 + 2 * 10
    assert row["adc_cost"] == conversions * 2**8
    assert row["adc_bits"] == 8
    assert row["levels"] is None
    assert "ADC steps" in outcome.out


def test_trained_without_the_crossbar_and_measured_with_it(
    cli: Cli, small: list[str], compensated: list[str]
) -> None:
    """The training is that of a perfect periphery; the measurement is the library's."""
    words = [*small, *compensated, "training=noise"]
    assert cli(*words, "hydra.run.dir=base").code == 0
    assert "ADC" not in Path("base/table.txt").read_text()
    assert set(read("base/noise/chips.json")["crossbar"].values()) == {None}
    edges = ["rram.adc_bits=4", "rram.adc_range=null", "rram.max_rows=32", "rram.in_training=false"]
    outcome = cli(*words, *edges, "hydra.run.dir=run")
    assert outcome.code == 0, outcome.err
    for name in ("best.safetensors", "compensation.safetensors"):
        assert Path("run/noise", name).read_bytes() == Path("base/noise", name).read_bytes()
    assert "ADC ranges of noise: layers.fc1/0 " in outcome.out

    data = digits(size=8, limit_train=100)
    model = convert_to_analog(MLP(data.input_shape, data.classes, hidden=(256, 128)))
    load_snapshot(model, load_checkpoint("run/noise/best.safetensors").model)
    config = RRAMRPUConfig(
        noise_model=LogNormalNoiseModel(0.5),
        forward=periphery(adc_bits=4, adc_range=None),
        mapping=CrossbarMapping(max_rows=32),
    )
    measured = convert_to_analog(convert_to_digital(model), config)
    calibrate_adc(measured, data.train.x[:1000])
    rows = read("run/table.json")["rows"]
    assert evaluate_chips(measured, data.test, chips=2).mean == rows[0]["mean"]
    assert rows[0]["mean"] != read("base/table.json")["rows"][0]["mean"]
    cost = sum(use.steps for use in adc_use(measured, data.val.x[:1]))
    assert [row["adc_cost"] for row in rows] == [cost, cost]

    # the same networks again, from that run, on other crossbars, without training or fitting
    edges[0] = "rram.adc_bits=10"
    words = [*small, "training=noise", "compensation=paper"]  # the placement is the source's
    outcome = cli(*words, *edges, "job=evaluate", "source=run", "hydra.run.dir=other")
    assert outcome.code == 0, outcome.err
    again = read("other/table.json")["rows"]
    assert [row["adc_bits"] for row in again] == [10, 10]
    assert again[1]["compensation"] == rows[1]["compensation"] is not None
    assert again[0]["mean"] != rows[0]["mean"]
    assert not list(Path("other").rglob("*.safetensors"))
    lines = read_records("other/noise/chips-compensated.jsonl")
    assert again[1]["mean"] == pytest.approx(sum(line["score"] for line in lines) / 2)


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["rram.adc_bits=6", "rram.adc_range=null"], "rram.adc_range"),
        (["rram.in_training=false", "rram.adc_bits=99"], None),
        (["rram.wire_resistance=2.0", "rram.in_training=false"], None),
        (["rram=lognormal_cpp", "compensation=paper"], "rram.rpu_config"),
        *(
            (["rram=lognormal_cpp", f"job.steps=[{steps}.train,{steps}_{step}]"], "rram.rpu_config")
            for steps in ("cnet_aihw.jobs.steps",)
            for step in ("attack.attack", "tune.tune", "uncertainty.uncertainty")
        ),
    ],
    ids=lambda words: "-".join(words)[-40:] if isinstance(words, list) else words,
)
def test_impossible_crossbars_are_reported_before_training(
    error_of: Callable[..., CnetError], small: list[str], words: list[str], key: str | None
) -> None:
    error = error_of(*small, *words, "training=plain", "hydra.run.dir=run")
    assert key in (None, error.key)
    assert not Path("run/plain").exists()


def test_the_cpp_tile_measures_what_was_trained_on_the_torch_tile(
    cli: Cli, small: list[str]
) -> None:
    pytest.importorskip("aihwkit.simulator.rpu_base")
    words = [*small, "training=noise"]
    outcome = cli(*words, "rram=lognormal_cpp", "hydra.run.dir=run")
    assert outcome.code == 0, outcome.err
    assert cli(*words, "hydra.run.dir=torch").code == 0
    best = "noise/best.safetensors"
    assert Path("run", best).read_bytes() == Path("torch", best).read_bytes()
    (here,), (there,) = (read(f"{folder}/table.json")["rows"] for folder in ("run", "torch"))
    assert here["mean"] == pytest.approx(there["mean"], abs=0.01)  # off, it is the same chip
    noisy = ["rram.w_noise=3.0", "job=evaluate", "source=run", "hydra.run.dir=noisy"]
    outcome = cli(*words, "rram=lognormal_cpp", *noisy)
    assert outcome.code == 0, outcome.err
    assert abs(read("noisy/table.json")["rows"][0]["mean"] - here["mean"]) > 0.02


def test_levels_and_adc_bits_are_swept_over_networks_trained_once(
    cli: Cli, small: list[str], trained_once: Path
) -> None:
    grid = ["rram.levels=64", "rram.adc_bits=3,8"]
    words = ["-m", "experiment=adc_levels", f"source={trained_once}", *grid]
    outcome = cli(
        *words,
        *small,
        "training=plain",
        "hydra.sweep.dir=sweep",
        "hydra.sweep.subdir=${hydra.job.num}",
    )
    assert outcome.code == 0, outcome.err
    sweep = read("sweep/sweep.json")
    assert sweep["varied"] == ["rram.adc_bits"]
    rows = sweep["rows"]
    assert len(rows) == 2
    wanted = ("levels", "adc_bits", "adc_cost", "mean", "std", "q05", "chips")
    by_point = {(row["levels"], row["adc_bits"]): [row[name] for name in wanted] for row in rows}
    assert set(by_point) == {(64, 3), (64, 8)}
    assert all(value is not None for values in by_point.values() for value in values)
    # 1 x 2, 2 x 1 and 1 x 1 crossbars of 128 x 128 for 64-256, 256-128, 128-10
    conversions = 256 + 2 * 128 + 10
    assert {point: values[2] for point, values in by_point.items()} == {
        point: conversions * 2 ** point[1] for point in by_point
    }
    clean = {point: row["clean"] for row in rows for point in [(row["levels"], row["adc_bits"])]}
    assert clean[64, 8] >= clean[64, 3]
    assert outcome.out.count("rram.adc_bits") >= 1
    assert "ADC bits" not in outcome.out.split("sweep over")[1]
