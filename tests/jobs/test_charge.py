"""Charge read-out in a job: trained through the circuit, or only measured in it; refused early."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from cnet_aihw.evaluation import evaluate_chips
from cnet_aihw.jobs.nodes import make
from cnet_aihw.jobs.schema import register_schema
from cnet_aihw.rram import Charge, LogNormalNoiseModel, RRAMRPUConfig, convert_to_analog
from cnet_aihw.rram.state_dict import load_snapshot
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.training import load_checkpoint
from cnet_aihw.zoo import ClippedMLP, digits

CONF = Path(__file__).parents[2] / "conf"
Cli = Callable[..., Any]


@pytest.fixture
def small(tiny: list[str]) -> list[str]:
    """A job of a second or two on a network that clips."""
    return [
        *(*tiny, "data.limit_train=100", "data.size=8", "model=clipped_mlp", "model.hidden=[16]"),
        *("training=plain", "training.lr=0.01", "training.optimizer=adam"),
        *("rram.readout=charge", "rram.time_steps=3", "rram.test_time_steps=4"),
    ]


def config(*words: str) -> Any:
    register_schema()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", [*words, "training=plain"])


def made(*words: str) -> Any:
    return make(config(*words).rram.rpu_config, "rram.rpu_config").readout


def test_the_keys_describe_the_circuit() -> None:
    assert made() is None
    assert made("rram.readout=charge") == Charge()
    words = [
        *("rram.readout=charge", "rram.e_rev=inf", "rram.e_minus=-2", "rram.time_steps=5"),
        *("rram.test_time_steps=6", "rram.random_offset=false", "rram.spike_noise=0"),
        *("rram.scale_plus=1.5", "rram.scale_minus=2"),
    ]
    assert made(*words) == Charge(math.inf, -2.0, 5, 6, False, 0.0, 1.5, 2.0)


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("rram.readout=chargee", "readout"),
        ("rram.e_minus=1.0", "e_minus"),
        ("rram.time_steps=0", "steps"),
        ("rram.adc_bits=8", "forward"),
        ("rram.weight_scaling=tile", "weight_scaling"),
    ],
)
def test_a_circuit_that_cannot_be_is_refused(word: str, key: str) -> None:
    with pytest.raises(CnetError) as error:
        made(*([] if "readout" in word else ["rram.readout=charge"]), word)
    assert str(error.value.key).removeprefix("rram.").endswith(key)


def read(path: str) -> Any:
    return json.loads(Path(path).read_text())


@pytest.mark.slow
def test_a_network_is_trained_through_the_circuit_and_mapped_to_it(
    cli: Cli, small: list[str]
) -> None:
    outcome = cli(*small, "rram.e_rev=1", "hydra.run.dir=through")
    assert outcome.code == 0, outcome.err
    outcome = cli(*small, "rram.e_rev=1", "rram.in_training=false", "hydra.run.dir=mapped")
    assert outcome.code == 0, outcome.err
    (through,), (mapped,) = (read(f"{run}/table.json")["rows"] for run in ("through", "mapped"))
    assert through["clean"] != mapped["clean"]

    data = digits(size=8, limit_train=100)
    plain = ClippedMLP(data.input_shape, data.classes, (16,), mean=data.mean, std=data.std)
    circuit = Charge(1.0, -1.0, 3, 4)
    model = convert_to_analog(
        plain, RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.5), readout=circuit)
    )
    load_snapshot(model, load_checkpoint("mapped/plain/best.safetensors").model)
    assert evaluate_chips(model, data.test, chips=2).mean == mapped["mean"]


@pytest.mark.parametrize("in_training", ["true", "false"])
def test_a_network_that_does_not_clip_is_refused_before_training(
    error_of: Callable[..., CnetError], small: list[str], in_training: str
) -> None:
    words = [word for word in small if not word.startswith(("model", "data.size"))]
    words += ["model=lenet5", f"rram.in_training={in_training}"]
    error = error_of(*words, "hydra.run.dir=run")
    assert error.key == "conv1"
    assert error.expected == "inputs in [0, 1]"
    assert not Path("run/plain").exists()
