"""A whole job on tiny data: what it writes, what it does not do twice, what it compares."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cnet_aihw.evaluation import evaluate_chips
from cnet_aihw.rram import LogNormalNoiseModel, RRAMRPUConfig, convert_to_analog
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.records import read_json, read_records
from cnet_aihw.training import load_checkpoint
from cnet_aihw.zoo import MLP, digits

Cli = Callable[..., Any]
NAMES = ("plain", "noise")
SMALL = [
    *("data.limit_train=200", "training.lr=0.02", "training.epochs=2", "hydra.run.dir=run"),
    *("model=mlp", "data.size=8", "training.compare=[plain,noise]"),
]


@pytest.fixture
def words(tiny: list[str]) -> list[str]:
    return [*tiny, *SMALL]


def read(path: str) -> Any:
    return json.loads(Path(path).read_text())


def contents(folder: str) -> dict[str, bytes]:
    """All files of the results, without Hydra's own and the log."""
    return {
        str(path): path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file() and ".hydra" not in path.parts and path.suffix != ".log"
    }


def test_the_way_from_training_to_table(
    cli: Cli, words: list[str], error_of: Callable[..., CnetError]
) -> None:
    outcome = cli(*words)
    assert outcome.code == 0, outcome.err
    table = read("run/table.json")
    assert table["command"].startswith("cnet-aihw compensation=none training.epochs=1 ")
    assert [row["training"] for row in table["rows"]] == list(NAMES)
    clean = table["rows"][0]["clean"]
    for row in table["rows"]:
        lines = read_records(f"run/{row['training']}/chips.jsonl")
        accuracies = [line["score"] for line in lines]
        assert row["chips"] == len(accuracies) == 2
        assert row["mean"] == pytest.approx(sum(accuracies) / 2, abs=1e-12)
        assert row["min"] == min(accuracies)
        assert row["recovery"] == pytest.approx(row["mean"] / clean, abs=1e-12)
    seeds = [[line["seed"] for line in read_records(f"run/{n}/chips.jsonl")] for n in NAMES]
    assert seeds[0] == seeds[1]
    starts = {read(f"run/{name}/run.json")["initial_weights"] for name in NAMES}
    assert len(starts) == 1
    text = Path("run/table.txt").read_text()
    assert text in outcome.out
    assert text.splitlines()[0].endswith("  score: accuracy")
    assert f"{100 * clean:.2f}" in text
    assert "yield" not in text  # no threshold was given

    # the numbers are those of the library alone, on the test part
    data = digits(size=8, limit_train=200)
    network = MLP(data.input_shape, data.classes, hidden=(256, 128))
    weights = load_checkpoint("run/noise/best.safetensors").model
    own = network.state_dict()
    network.load_state_dict({name: weights[name].view_as(own[name]) for name in own})
    model = convert_to_analog(network, RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.5)))
    chips = evaluate_chips(model, data.test, chips=2, seed=0)
    assert chips.mean == table["rows"][1]["mean"]
    assert chips.clean == table["rows"][1]["clean"]

    # again in the same folder: nothing is done twice
    before = contents("run")
    assert cli(*words).code == 0
    after = contents("run")
    events = {name for name in after if "tensorboard" in name}
    assert {n: v for n, v in before.items() if n not in events} == {
        n: v for n, v in after.items() if n not in events
    }

    # more chips extend the ones there; one step alone works on what is there
    old = Path("run/noise/chips.jsonl").read_text()
    assert cli(*words, "job=evaluate", "evaluation.chips=4", "evaluation.threshold=0.1").code == 0
    new = Path("run/noise/chips.jsonl").read_text()
    assert new.startswith(old)
    assert len(read_records("run/noise/chips.jsonl")) == 4
    rows = read("run/table.json")["rows"]
    assert [row["chips"] for row in rows] == [4, 4]
    assert all(0 <= row["yield"] <= 1 for row in rows)
    Path("run/table.json").unlink()
    assert "yield" in cli(*words, "evaluation.threshold=0.1", "job=table").out
    assert read("run/table.json")["rows"] == rows

    # a table is of what its command says
    alone = [w for w in words if "compare" not in w] + ["training=noise"]
    for option, key in (
        ("data.split_seed=5", "config.data.split_seed"),
        ("training.epochs=9", "config.training.epochs"),
        ("evaluation.seed=5", "config.evaluation.seed"),
    ):
        assert error_of(*alone, "evaluation.threshold=0.1", option, "job=table").key == key
        assert read("run/table.json")["rows"] == rows
    ramp = "training.variation.ramp_epochs"
    assert error_of(*alone, f"{ramp}=1", "job=evaluate").key == f"config.{ramp}"

    # what was trained on is not measured on
    elsewhere = ("data.split_seed=5", "job=evaluate", "source=run", "run=elsewhere")
    assert error_of(*alone, *elsewhere).key == "data.fingerprint"
    assert not Path("elsewhere/noise").exists()

    # other weights than those the folder began with are refused
    outcome = cli(*alone, "seed=1")
    assert outcome.code == 2
    assert "run/noise" in outcome.err
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize(
    ("job", "missing"),
    [("evaluate", "best.safetensors"), ("table", "chips.json")],
)
def test_a_step_without_the_one_before_names_it(
    error_of: Callable[..., CnetError], words: list[str], job: str, missing: str
) -> None:
    error = error_of(*words, f"job={job}")
    assert error.key == missing
    assert error.fix is not None and error.fix.startswith("run job=")


def test_what_a_sweeper_gets_is_of_the_validation_part(
    cli: Cli, words: list[str], returned: list[float | None]
) -> None:
    words = [w for w in words if "compare" not in w]
    assert cli(*words, "training=noise").code == 0
    assert returned == [read("run/noise/result.json")["chip_score"]]
    assert returned[0] != read("run/noise/chips.json")["statistics"][0]["mean"]
    assert read("run/table.json")["rows"][0]["recovery"] is None


@pytest.mark.slow
def test_a_sweep_over_compensation_keeps_apart_what_has_it(cli: Cli, tiny: list[str]) -> None:
    words = [w for w in tiny if w != "compensation=none"] + ["data.limit_train=100"]
    words += ["model=mlp", "data.size=8"]
    words += ["compensation.placement={layers.fc1:digital}", "training=plain,noise"]
    outcome = cli("-m", "compensation=default,paper", *words, "hydra.sweep.dir=sweep")
    assert outcome.code == 0, outcome.err
    sweep = read("sweep/sweep.json")
    assert sweep["varied"] == ["compensation="]
    rows = [(r["compensation="], r["training"], r["compensation"]) for r in sweep["rows"]]
    assert rows == [
        (group, training, compensation)
        for group in ("default", "paper")
        for training in ("plain", "noise")
        for compensation in (None, "digital")
    ]
    assert all(row["recovery"] is not None for row in sweep["rows"])


def test_a_sweep_over_the_seed_keeps_that_of_the_chips(cli: Cli, tiny: list[str]) -> None:
    words = [*tiny, "model=mlp", "data.size=8", "data.limit_train=100", "training=plain"]
    outcome = cli("-m", *words, "seed=1,2", "hydra.sweep.dir=sweep")
    assert outcome.code == 0, outcome.err
    sweep = read("sweep/sweep.json")
    assert sweep["varied"] == ["seed="]
    assert [(row["seed="], row["seed"]) for row in sweep["rows"]] == [("1", 0), ("2", 0)]
    assert "chips'" in Path("sweep/sweep.txt").read_text()


@pytest.mark.slow
def test_a_sweep_ends_with_one_table(cli: Cli, tiny: list[str]) -> None:
    words = ["data.limit_train=100", "model=mlp", "data.size=8", "hydra.sweep.dir=sweep"]
    command = ["-m", "rram.sigma=0.1,0.5", "training=plain,noise", *words, *tiny]
    assert cli(*command).code == 0
    sweep = read("sweep/sweep.json")
    assert sweep["varied"] == ["rram.sigma"]
    rows = sweep["rows"]
    assert [(row["rram.sigma"], row["training"]) for row in rows] == [
        *(("0.1", "plain"), ("0.1", "noise")),
        *(("0.5", "plain"), ("0.5", "noise")),
    ]
    for row in rows:
        plain = next(
            r for r in rows if (r["rram.sigma"], r["training"]) == (row["rram.sigma"], "plain")
        )
        assert row["recovery"] == row["mean"] / plain["clean"]
    # more chips find the jobs that are there, and only add to them
    assert cli(*command[:-2], "evaluation.chips=3", "progress=false").code == 0
    assert [row["chips"] for row in read("sweep/sweep.json")["rows"]] == [3] * 4
    assert len(list(Path("sweep").glob("*/table.json"))) == 4


def test_the_training_may_see_another_noise_model_than_the_chips(
    cli: Cli, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import cnet_aihw.training

    given: list[Any] = []

    def look(model: Any, data: Any, settings: Any, folder: Any, **rest: Any) -> Any:
        given.append(settings.variation.noise_model)
        raise KeyboardInterrupt

    monkeypatch.setattr(cnet_aihw.training, "train", look)
    words = [w for w in words if "compare" not in w]
    model = "{_target_:cnet_aihw.rram.LogNormalNoiseModel,sigma:0.2}"
    outcome = cli(*words, "training=noise", f"training.variation.noise_model={model}")
    assert outcome.code == 130, outcome.err
    assert isinstance(given[0], LogNormalNoiseModel)
    assert given[0].sigma == 0.2


def test_pretrained_weights_are_where_training_begins(cli: Cli, words: list[str]) -> None:
    torch.manual_seed(3)
    network = MLP((1, 8, 8), 10, hidden=(256, 128))
    torch.save(network.state_dict(), "mine.pt")
    words = [w for w in words if not w.startswith(("training.lr", "training.compare"))]
    outcome = cli(*words, "training=plain", "pretrained=mine.pt", "training.lr=1e-30")
    assert outcome.code == 0, outcome.err
    trained = load_checkpoint("run/plain/best.safetensors").model
    for name, tensor in network.state_dict().items():
        assert torch.allclose(trained[name].view_as(tensor), tensor, atol=1e-6), name


def test_pretrained_weights_are_measured_without_training(cli: Cli, words: list[str]) -> None:
    torch.manual_seed(3)
    network = MLP((1, 8, 8), 10, hidden=(256, 128))
    torch.save(network.state_dict(), "mine.pt")
    words = [w for w in words if not w.startswith(("training.", "hydra.run.dir"))]
    outcome = cli(*words, "training=pretrained", "pretrained=mine.pt", "run=given")
    assert outcome.code == 0, outcome.err
    kept = load_checkpoint("given/pretrained/best.safetensors").model
    for name, tensor in network.state_dict().items():
        assert torch.equal(kept[name].view_as(tensor), tensor), name
    row = read_json(Path("given/table.json"))["rows"][0]
    result = read_json(Path("given/pretrained/result.json"))
    assert (row["training"], result["epochs"]) == ("pretrained", 0)

    outcome = cli(*words, "training=pretrained", "run=random")
    assert outcome.code == 0, outcome.err
    assert (
        "the first weights of the network are measured" in Path("random/cnet-aihw.log").read_text()
    )
