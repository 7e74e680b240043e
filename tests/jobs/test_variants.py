"""How one command line becomes several trainings."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

import cnet_aihw.conf
from cnet_aihw.jobs.sweep import job_folder
from cnet_aihw.training.settings import TrainingSettings

Cli = Callable[..., Any]
Only = Callable[[Callable[[Any], Any]], str]
CONF = Path(cnet_aihw.conf.__file__).parent
SINGLE = sorted(
    p.stem for p in (CONF / "training").glob("*.yaml") if "compare" not in p.read_text()
)


@pytest.fixture
def variants(cli: Cli, only: Only) -> Callable[..., list[Any]]:
    def of(*words: str) -> list[Any]:
        seen: list[Any] = []
        outcome = cli(*words, only(seen.append))
        assert outcome.code == 0, outcome.err
        return seen[-1].variants

    return of


def test_by_default_three_trainings_in_order(variants: Any) -> None:
    found = variants()
    assert [r.name for r in found] == ["plain", "lipschitz", "noise"]
    assert [r.training.lipschitz.enabled for r in found] == [False, True, False]
    assert [r.training.variation.enabled for r in found] == [False, False, True]
    assert all(type(r.training) is TrainingSettings for r in found)


@pytest.mark.parametrize("name", SINGLE)
def test_each_file_is_called_as_its_training(variants: Any, name: str) -> None:
    (variant,) = variants(f"training={name}")
    assert variant.name == name
    assert variant.training.lipschitz.enabled == ("lipschitz" in name)
    assert variant.training.variation.enabled == (
        "noise" in name or name == "bayes_binary"  # whose cells are drawn at each step
    )


def test_alone_and_in_the_comparison_a_training_is_the_same(variants: Any) -> None:
    words = ["training.epochs=7", "rram.sigma=0.25", "seed=5"]
    for variant in variants(*words, "training.compare=[plain,lipschitz_noise]"):
        (alone,) = variants(*words, f"training={variant.name}")
        assert alone.training == variant.training
        ours, others = (OmegaConf.to_container(r.config) for r in (alone, variant))
        ours.pop("job"), others.pop("job")
        assert ours == others


def test_values_of_the_command_line_hold_for_every_training(variants: Any) -> None:
    words = ["training.epochs=7", "training.lipschitz.beta=0.5", "rram.sigma=0.25", "seed=5"]
    for variant in variants(*words, "evaluation.chips=9"):
        assert variant.training.epochs == 7
        assert variant.training.lipschitz.beta == 0.5
        assert variant.training.seed == 5
        assert variant.config.rram.sigma == 0.25
        assert variant.evaluation.chips == 9


def test_values_of_an_experiment_hold_for_every_training(variants: Any, tmp_path: Path) -> None:
    folder = tmp_path / "mine" / "experiment"
    folder.mkdir(parents=True)
    (folder / "long.yaml").write_text(
        "# @package _global_\n"
        "defaults:\n  - override /training: all\n  - override /model: mlp\n"
        "training:\n  compare: [noise, plain]\n  epochs: 77\n  batch_size: 11\n"
    )
    found = variants(
        f"--config-dir={tmp_path / 'mine'}", "experiment=long", "training.batch_size=5"
    )
    assert [r.name for r in found] == ["noise", "plain"]
    for variant in found:
        assert variant.training.epochs == 77
        assert variant.training.batch_size == 5  # the command line has the last word
        assert variant.config.model._target_ == "cnet_aihw.zoo.MLP"


def test_a_training_that_is_typed_is_the_only_one(variants: Any, cli: Cli) -> None:
    """Whatever an experiment compares; with values of the experiment."""
    (alone,) = variants("experiment=language_model", "training=noise", "data=digits")
    assert (alone.name, alone.training.epochs) == ("noise", 10)
    assert [v.name for v in variants("experiment=language_model", "data=digits")] == [
        *("plain", "noise"),
    ]
    outcome = cli("training.compare=[]")
    assert outcome.code != 0
    assert "training.compare is []; expected at least one training, as training=all" in outcome.err


def test_a_new_training_is_one_new_file(variants: Any, tmp_path: Path) -> None:
    folder = tmp_path / "mine" / "training"
    folder.mkdir(parents=True)
    (folder / "gentle.yaml").write_text("name: gentle\nlr: 0.001\nvariation: {enabled: true}\n")
    found = variants(f"--config-dir={tmp_path / 'mine'}", "training.compare=[plain,gentle]")
    assert [(r.name, r.training.lr) for r in found] == [("plain", 0.05), ("gentle", 0.001)]


def test_the_command_that_is_recorded_names_the_folder_of_ones_own_files(
    cli: Cli, only: Only, tmp_path: Path
) -> None:
    folder = tmp_path / "my conf" / "training"
    folder.mkdir(parents=True)
    (folder / "gentle.yaml").write_text("name: gentle\nlr: 0.001\n")
    seen: list[Any] = []
    words = [f"--config-dir={tmp_path / 'my conf'}", "training=gentle", only(seen.append)]
    assert cli(*words).code == 0
    again = shlex.split(seen[0].command)[1:]
    assert cli(*again).code == 0
    assert [run.variants[0].training.lr for run in seen] == [0.001, 0.001]


def test_a_sweep_composes_each_job_for_itself(cli: Cli, only: Only) -> None:
    seen: list[Any] = []
    words = ["-m", "rram.sigma=0.1,0.3", "training=plain,noise", "hydra.sweep.dir=sweep"]
    assert cli(*words, only(seen.append)).code == 0
    found = [(run.config.rram.sigma, run.variants[0].name) for run in seen]
    assert found == [(0.1, "plain"), (0.1, "noise"), (0.3, "plain"), (0.3, "noise")]
    assert len({run.folder for run in seen}) == 4


def test_the_recorded_command_makes_the_same_job(cli: Cli, only: Only) -> None:
    seen: list[Any] = []
    cli(
        "training=noise",
        "training.epochs=3",
        "rram.exclude=['fc1','conv*']",
        "hydra.run.dir=run",
        only(seen.append),
    )
    words = shlex.split(seen[0].command)
    assert words[0] == "cnet-aihw"
    assert not any(word.startswith("hydra.") for word in words)
    assert cli(*words[1:]).code == 0
    assert seen[1].config == seen[0].config


def test_a_folder_of_a_sweep_is_within_it_and_told_from_others() -> None:
    assert job_folder("rram.sigma=0.5,training=plain") == "rram.sigma=0.5,training=plain"
    texts = ["rram.path=../../a.csv", "rram.path=.._.._a.csv", "x" * 300, "x" * 301]
    names = [job_folder(text) for text in texts]
    assert len(set(names)) == len(texts)
    assert all("/" not in name and len(name) < 250 for name in names)


def test_a_training_from_plain_weights_has_half_the_learning_rate(variants: Any) -> None:
    plain, noise = variants("training.compare=[plain,noise_from_plain]", "training.lr=0.02")
    assert (plain.training.lr, noise.training.lr) == (0.02, 0.01)
    assert (plain.start_from, noise.start_from) == (None, "plain")
