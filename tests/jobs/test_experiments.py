"""Every file of conf/ composes, names real arguments and runs."""

import inspect
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from hydra.utils import get_object
from omegaconf import OmegaConf

import cnet_aihw.conf
from cnet_aihw.jobs.nodes import make
from cnet_aihw.jobs.schema import register_schema
from cnet_aihw.rram import CompositeNoiseModel, StochasticCellNoiseModel

from .conftest import in_own_process

Cli = Callable[..., Any]
Only = Callable[[Callable[[Any], Any]], str]
CONF = Path(cnet_aihw.conf.__file__).parent


def files(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def command_of(experiment: str) -> list[str]:
    """The words of the command that stands on top of an experiment file."""
    lines = (CONF / "experiment" / f"{experiment}.yaml").read_text().splitlines()
    assert lines[0] == "# @package _global_"
    words = shlex.split(lines[1].removeprefix("# "))
    assert words[0] == "cnet-aihw"
    assert f"experiment={experiment}" in words
    return words[1:]


SWEEPS = {"adc_levels": ["rram.levels=4", "rram.adc_bits=6"]}
"""Experiments that are sweeps over what earlier ones trained -> words for one of their points."""


@pytest.mark.parametrize("experiment", [*SWEEPS, "best"])
def test_the_command_on_top_composes(cli: Cli, only: Only, experiment: str) -> None:
    seen: list[Any] = []
    outcome = cli(*command_of(experiment), *SWEEPS.get(experiment, []), only(seen.append))
    assert outcome.code == 0, outcome.err
    assert len(seen[0].variants) >= 3
    assert all(recipe.config.rram.sigma == 0.5 for recipe in seen[0].variants)


OTHERS = {
    "diabetes": [],
    "language_model": ["data.context=16", "model.width=16", "model.heads=2", "model.depth=1"],
    "recurrent_mnist": ["model.width=8"],
    "unet_scenes": ["data.train=16", "data.val=8", "data.test=8", "model.width=2"],
    "vit_cifar10": ["model.width=16", "model.heads=2", "model.depth=1"],
}
"""Experiments at sigma 0.3 beyond the paper's networks -> words that make them small."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "experiment",  # "best" runs in the tests of the selection
    [name for name in files("experiment") if name not in (*SWEEPS, "best")],
)
def test_the_experiment_runs(
    cli: Cli, tiny: list[str], images: Callable[..., Path], experiment: str
) -> None:
    small = []
    if experiment.endswith(("mnist", "cifar10", "cifar100")):
        size, channels = (28, 1) if experiment.endswith("mnist") else (32, 3)
        small = ["data=arrays", f"data.path={images(size, channels)}", "data.val_size=0.2"]
    if experiment.startswith(("vgg16", "resnet20")):
        small += ["model.width=0.125"]
    if not experiment.startswith(("lenet5", "demo")):
        small += ["training.warmup_epochs=0"]
    if experiment == "demo":
        small = ["data.limit_train=64"]
    if experiment == "language_model":
        Path("book.txt").write_text("to be or not to be, " * 50)
        small += ["data.path=book.txt"]
    small += OTHERS.get(experiment, [])
    register_schema()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        sigma = hydra.compose("config", command_of(experiment)).rram.sigma
    assert sigma == (0.3 if experiment in OTHERS else 0.5)
    words = [w for w in command_of(experiment) if not w.startswith("data.")]
    run = in_own_process if experiment == "demo" else cli  # its search runs on Ray
    outcome = run(*words, *small, *tiny, "hydra.run.dir=run")
    assert outcome.code == 0, outcome.err
    rows = json.loads(Path("run/table.json").read_text())["rows"]
    assert rows[0]["training"] == "plain" and len(rows) >= 2
    assert all(row["chips"] == 2 for row in rows)
    if experiment != "diabetes":  # a negative R2 on a chip is possible after so little training
        assert all(row["recovery"] > 0 for row in rows)


def words_of(rram: str) -> list[str]:
    """The words that choose a chip model; for measured devices a table is written first."""
    if rram != "measured":
        return [f"rram={rram}"]
    rows = [f"{target},{target + 0.1 * i}" for target in (0, 10, 20) for i in range(-5, 6)]
    Path("devices.csv").write_text("\n".join(["target,measured", *rows]))
    return ["rram=measured", "rram.path=devices.csv"]


QUICK = ("composed", "lognormal_cpp", "measured", "pcm")
"""Devices of different kinds: the others are of the slow tests."""


@pytest.mark.parametrize(
    "rram",
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in files("rram")],
)
def test_every_chip_model_trains_and_measures(cli: Cli, tiny: list[str], rram: str) -> None:
    words = [*words_of(rram), "data.limit_train=64", "model=mlp", "data.size=8"]
    training = "bayes_binary" if rram == "stochastic_cell" else "lipschitz_noise"
    outcome = cli(*words, *tiny, f"training={training}", "hydra.run.dir=run")
    assert outcome.code == 0, outcome.err
    table = json.loads(Path("run/table.json").read_text())
    assert f"device: {table['noise_model']}" in outcome.out
    (row,) = table["rows"]
    assert 0 < row["mean"] < 1


@pytest.mark.parametrize("rram", files("rram"))
def test_a_device_file_says_the_defaults_of_its_model(
    rram: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    register_schema()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        node = hydra.compose("config", words_of(rram)).rram.rpu_config.noise_model
    model = make(node, "rram.rpu_config.noise_model")
    assert model.label()
    if rram == "stochastic_cell":  # variation and drift are off beside it
        assert isinstance(model, CompositeNoiseModel)
        assert model.models[-1] == StochasticCellNoiseModel()
    elif rram != "composed":  # which has no defaults of its own
        own = {"path": node.path} if rram == "measured" else {}
        assert model == get_object(node._target_)(**own)


def test_a_time_at_which_a_device_is_not_known_is_refused_before_training(
    cli: Cli, tiny: list[str]
) -> None:
    words = ["rram=reram_wan2022", "evaluation=drift", "data.limit_train=64"]
    outcome = cli(*words, *tiny, "training=plain", "hydra.run.dir=run")
    assert outcome.code == 2
    assert not Path("run/plain").exists()


def test_drift_gives_a_row_for_each_time(cli: Cli, tiny: list[str]) -> None:
    words = ["rram=pcm", "evaluation=drift", "data.limit_train=64", "model=mlp", "data.size=8"]
    outcome = cli(*words, *tiny, "training=plain", "hydra.run.dir=run")
    assert outcome.code == 0, outcome.err
    rows = json.loads(Path("run/table.json").read_text())["rows"]
    assert [row["t_inference"] for row in rows] == [1.0, 3600.0, 86400.0, 31536000.0]
    assert " programming s " in outcome.out


@pytest.mark.slow
def test_every_step_sees_the_chips_at_a_time_that_is_asked_for(cli: Cli, tiny: list[str]) -> None:
    """A device that is perfect until it drifts: what a step does not see, it cannot find."""
    words = ["rram=power_law_drift", "rram.nu=0.3", "rram.nu_std=0.1", "data.limit_train=500"]
    words += [
        "training.epochs=6",
        "compensation=paper",
        "compensation.scan.chips=2",
        "compensation.threshold=1.0",
    ]
    words += ["search=random", "search.budget=2", "search.chips=2", "compensation.shared.epochs=1"]
    words += [
        "search.evaluator.shared_steps=2",
        "compensation.limit=null",
        "compensation.limit_macs=null",
        "training=lipschitz",
    ]
    found = {}
    for name, more in {"programmed": [], "later": ["rram.t_inference=1e6"]}.items():
        outcome = cli(*tiny, *words, *more, f"hydra.run.dir={name}")
        assert outcome.code == 0, outcome.err
        folder = Path(name) / "lipschitz"
        found[name] = {
            file: json.loads((folder / f"{file}.json").read_text()) for file in ("scan", "result")
        }
        found[name]["search"] = folder / "search" / "random-seed0" / "search.json"
    before, later = found["programmed"], found["later"]
    assert before["scan"]["candidates"] == [] and later["scan"]["candidates"] != []
    assert {row["t_inference"] for row in later["scan"]["rows"]} == {1e6}
    assert before["result"]["lambda_"] == pytest.approx(1.0, abs=1e-3)
    assert later["result"]["lambda_"] != pytest.approx(1.0, abs=0.5)
    assert not before["search"].exists()
    assert '"t_inference": 1000000.0' in later["search"].read_text()
    assert cli("rram=reram_wan2022", "rram.t_inference=1e9", *tiny).code == 2


def test_periphery_and_digital_layers_are_a_word_each(cli: Cli, tiny: list[str]) -> None:
    words = ["rram.adc_bits=6", "rram.dac_bits=6", "rram.out_noise=0.01", "rram.exclude=[conv1]"]
    outcome = cli(*words, "data.limit_train=64", *tiny, "training=noise", "hydra.run.dir=run")
    assert outcome.code == 0, outcome.err
    assert "conv1  digital  Conv2d (150 weights): named in exclude" in outcome.out


@pytest.mark.parametrize(
    ("group", "name"),
    [(group, name) for group in ("data", "model") for name in files(group) if name != "custom"],
)
def test_a_file_names_the_arguments_of_its_target(group: str, name: str) -> None:
    node: Any = OmegaConf.to_container(OmegaConf.load(CONF / group / f"{name}.yaml"))
    parameters = inspect.signature(get_object(node.pop("_target_"))).parameters
    assert set(node) == set(parameters)
    if group == "data":  # the file only repeats the defaults, but for what each set needs
        differ = {
            key
            for key, value in node.items()
            if value != "???" and parameters[key].default not in (inspect.Parameter.empty, value)
        }
        assert differ <= ({"augment"} if name.startswith("cifar") else set())


OTHER_DATA = ("custom", "language_model", "unet", "timm", "huggingface")
"""Networks of the user's own, for other tasks, or of packages that may be absent."""


@pytest.mark.parametrize("model", [name for name in files("model") if name not in OTHER_DATA])
def test_every_network_is_built_for_the_data(
    cli: Cli, only: Only, images: Callable[..., Path], model: str
) -> None:
    built: list[Any] = []
    width = {
        "vgg16": ["model.width=0.125"],
        "resnet20": ["model.width=0.125"],
        "torchvision": ["model.name=squeezenet1_1"],
    }.get(model, [])
    words = ["data=arrays", f"data.path={images(32, 3)}", "data.val_size=0.2", f"model={model}"]
    step = only(lambda run: built.append(run.networks))
    outcome = cli(*words, *width, step, "training=plain", "compensation=none")
    assert outcome.code == 0, outcome.err
    assert built[0]["plain"](torch.zeros(2, 3, 32, 32)).shape == (2, 3)
