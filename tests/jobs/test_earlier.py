"""Folders of earlier commands: other values are refused early, and no table mixes them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cnet_aihw.jobs.sweep import _add_recovery, _varied, gather_sweep
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.records import read_json, read_records, write_json_atomic

from .conftest import MLP8, command

Cli = Callable[..., Any]
ErrorOf = Callable[..., CnetError]
SEARCHED = [
    *(word for word in MLP8 if word != "compensation=none"),
    *("compensation.limit=0.5", "compensation.limit_macs=null", "search=random"),
    *("search.budget=2", "search.chips=2", "search.samples=50", "compensation.scan.chips=1"),
    *("compensation.scan.samples=50", "compensation.per_chip.samples=50", "hydra.run.dir=run"),
]
BOTH = "training.compare=[noise,plain]"


@pytest.fixture(scope="session")
def searched_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all steps of a plain training; not to be changed."""
    folder = tmp_path_factory.mktemp("searched")
    words = [word for word in SEARCHED if not word.startswith("hydra.run.dir")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cnet_aihw.jobs.steps.report", lambda run: None)
        patch.chdir(folder)
        command(*words, "training=plain", "hydra.run.dir=run")
    return folder


@pytest.fixture
def searched(cli: Cli, tiny: list[str], searched_once: Path) -> Path:
    """A copy of that folder, in which nothing but the plain training was begun."""
    shutil.copytree(searched_once, ".", dirs_exist_ok=True)
    return Path("run/plain")


CHANGED = [
    ("evaluation.seed=5", "evaluation.seed"),
    ("evaluation.calibration=affine", "evaluation.calibration"),
    ("compensation.scan.seed=7", "compensation.scan.seed"),
    ("compensation.scan.samples=40", "compensation.scan.samples"),
    ("search.chips=3", "search.chips"),
    ("search.chips_seed=77", "search.chips_seed"),
    ("search.samples=40", "config.search.samples"),
    ("search.budget=1", "search.budget"),
    ("search=greedy", "config.search.searcher"),
    ("compensation.limit=0.3", "config.compensation.limit"),
    ("compensation.per_chip.samples=60", "config.compensation.per_chip.samples"),
    ("training.lr=0.2", "training.lr"),
    ("data.split_seed=1", "config.data.split_seed"),
    ("model.hidden=[5]", "config.model.hidden"),
    ("seed=1", "compensation.per_chip.seed"),
    ("evaluation.samples=40", "evaluation.samples"),
]


@pytest.mark.parametrize(("word", "key"), CHANGED, ids=[word for word, _ in CHANGED])
def test_a_value_of_a_late_step_is_refused_before_the_first_training(
    searched: Path, error_of: ErrorOf, word: str, key: str
) -> None:
    error = error_of(*SEARCHED, BOTH, word)
    assert error.key is not None and error.key.startswith(key)
    assert "run" in str(error) or key == "search.budget"
    assert not Path("run/noise").exists()


@pytest.mark.parametrize(
    ("word", "key"), [*CHANGED[:6], CHANGED[7]], ids=lambda value: value if "=" in value else ""
)
def test_so_is_one_of_a_step_that_was_interrupted(
    searched: Path, error_of: ErrorOf, word: str, key: str
) -> None:
    for path in searched.glob("*.json"):
        if path.name not in ("run.json", "result.json", "network.json"):
            path.unlink()
    assert error_of(*SEARCHED, BOTH, word).key == key
    assert not Path("run/noise").exists()


def test_the_same_command_and_a_larger_budget_resume(cli: Cli, searched: Path) -> None:
    outcome = cli(*SEARCHED, "training=plain", "search.budget=3", "evaluation.chips=3")
    assert outcome.code == 0, outcome.err
    assert read_json(searched / "search.json")["result"]["evaluations"] == 3
    assert {row["chips"] for row in read_json(Path("run/table.json"))["rows"]} == {3}


ADDED = {  # settings, and other values of them
    "training.variation.least_share": "0.5",
    "compensation.per_chip.refine_lr": "0.5",
}


@pytest.fixture
def of_fewer_settings(searched: Path) -> Path:
    """The same folder as a version leaves it that has none of these settings."""

    def without(value: Any) -> Any:
        if isinstance(value, dict):
            gone = ("least_share", "distillation", "refine_lr")
            return {key: without(inner) for key, inner in value.items() if key not in gone}
        return value

    for path in sorted(searched.rglob("*.json")):
        write_json_atomic(path, without(read_json(path)))
    return searched


def test_a_folder_of_a_version_that_had_fewer_settings_resumes(
    cli: Cli, of_fewer_settings: Path
) -> None:
    for name in ("run.json", "network.json", "search.json"):
        assert "least_share" not in (of_fewer_settings / name).read_text(), name
    outcome = cli(*SEARCHED, "training=plain", "search.budget=3", "evaluation.chips=3")
    assert outcome.code == 0, outcome.err
    assert {row["chips"] for row in read_json(Path("run/table.json"))["rows"]} == {3}


@pytest.mark.parametrize("name", ADDED)
def test_and_is_refused_where_such_a_setting_is_not_by_default(
    of_fewer_settings: Path, error_of: ErrorOf, name: str
) -> None:
    error = error_of(*SEARCHED, "training=plain", f"{name}={ADDED[name]}")
    assert str(error.key).endswith(name)


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["search=none", "job=evaluate"], "config.search.searcher"),
        (["search.samples=40", "job=evaluate"], "config.search.samples"),
        (["search.samples=40", "job=compensate"], "config.search.samples"),
        (["search.budget=3", "job=table"], "config.search.budget"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_results_of_another_search_are_refused(
    searched: Path, error_of: ErrorOf, words: list[str], key: str
) -> None:
    assert error_of(*SEARCHED, "training=plain", *words).key == key


def test_a_placement_that_was_never_searched_is_not_filled_in(
    searched: Path, error_of: ErrorOf
) -> None:
    (searched / "search.json").unlink()
    (searched / "compensation.json").unlink()
    (searched / "chips-compensated.json").unlink()
    assert error_of(*SEARCHED, "training=plain", "job=compensate").key == "search.json"
    assert not (searched / "compensation.json").exists()


def test_a_table_has_no_chips_of_another_placement(searched: Path, error_of: ErrorOf) -> None:
    path = searched / "chips-compensated.json"
    record = read_json(path)
    record["compensation"]["placement"] = {"layers.fc1": 1.0}
    write_json_atomic(path, record)
    assert error_of(*SEARCHED, "training=plain", "job=table").key == "placement"


@pytest.mark.parametrize(
    ("word", "key"),
    [("rram.sigma=0.1", "config.rram.sigma"), ("model.hidden=[256,127]", "config.model.hidden")],
)
def test_weights_of_another_network_are_not_measured(
    trained: list[str], error_of: ErrorOf, word: str, key: str
) -> None:
    for path in Path("run/plain").glob("chips.*"):
        path.unlink()
    assert error_of(*trained, word, "job=evaluate").key == key


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("evaluation.seed=5", "config.evaluation.seed"),
        ("evaluation.t_inference=3.0", "config.evaluation.t_inference"),
    ],
)
def test_a_table_of_several_commands_has_one_kind_of_chips(
    cli: Cli, trained: list[str], error_of: ErrorOf, word: str, key: str
) -> None:
    few = ["job=tune", "tuning.samples=32", "tuning.chips=1", "tuning.others=0", "tuning.epochs=1"]
    assert cli(*trained, *few, "tuning.validation_samples=20").code == 0
    again = [*trained, *few, "tuning.validation_samples=20"]
    assert error_of(*again, "tuning=digital", word).key == key
    assert error_of(*again, "tuning.samples=33").key == "tuning.samples"
    assert not list(Path("run/plain").glob("tuning-digital*"))


def test_chips_that_choose_and_judge_are_refused_before_the_training(
    cli: Cli, tiny: list[str], error_of: ErrorOf
) -> None:
    words = [*tiny, "model=mlp", "data.size=8", "training=plain", "hydra.run.dir=run"]
    assert error_of(*words, "job=best", "select.seed=0").key == "select.seed"
    assert not Path("run/plain").exists()


def test_a_table_that_needs_other_values_is_refused_before_the_measurement(
    trained: list[str], error_of: ErrorOf
) -> None:
    shutil.copy("run/plain/chips.json", "run/plain/chips-selected.json")
    before = Path("run/plain/chips.jsonl").read_bytes()
    words = [*trained, "evaluation.threshold=0.1", "evaluation.chips=3"]
    assert error_of(*words).key == "config.evaluation.threshold"
    assert Path("run/plain/chips.jsonl").read_bytes() == before


def test_chips_are_measured_on_as_many_test_samples_as_are_asked_for(
    cli: Cli, trained: list[str]
) -> None:
    words = [word for word in trained if not word.startswith("hydra.run.dir")]
    outcome = cli(*words, "source=run", "run=few", "job=evaluate", "evaluation.samples=7")
    assert outcome.code == 0, outcome.err
    assert "7 test samples" in outcome.out
    scores = [record["score"] for record in read_records(Path("few/plain/chips.jsonl"))]
    assert scores and all((7 * score) == pytest.approx(round(7 * score)) for score in scores)
    assert scores != [record["score"] for record in read_records(Path("run/plain/chips.jsonl"))]


def test_a_refused_command_does_not_change_the_words_of_a_sweep(
    cli: Cli, tiny: list[str], tmp_path: Path
) -> None:
    words = [*tiny, "model=mlp", "data.size=8", "data.limit_train=100", "training=plain"]
    outcome = cli("-m", *words, "seed=1,2", "hydra.sweep.dir=sweep")
    assert outcome.code == 0, outcome.err
    first = min(path.parent for path in Path("sweep").glob("*/table.json"))
    outcome = cli(*words, "seed=7", "evaluation.seed=5", f"run={first}")
    assert outcome.code == 2
    assert gather_sweep(Path("sweep"))
    sweep = json.loads(Path("sweep/sweep.json").read_text())
    assert sweep["varied"] == ["seed="]
    assert sorted(row["seed="] for row in sweep["rows"]) == ["1", "2"]


def test_trainings_of_one_name_are_told_apart_by_their_files() -> None:
    def job(word: str, *names: str) -> tuple[dict[str, str], list[dict[str, str]]]:
        return {"training": word, "seed": "1"}, [{"training": name} for name in names]

    assert _varied([job("plain", "plain"), job("noise", "noise"), job("mine", "mine")]) == []
    assert _varied([job("all", "plain", "noise"), job("plain", "plain")]) == []
    assert _varied([job("plain", "plain"), job("noise", "noise"), job("mine", "noise")]) == [
        "training"
    ]
    plain = {"training": "plain", "training=": "plain", "clean": 0.8, "mean": 0.6, "recovery": 0.75}
    mine = {"training": "noise", "training=": "mine", "clean": 0.7, "mean": 0.4, "recovery": None}
    task = {"_target_": "cnet_aihw.tasks.Classification"}
    _add_recovery([plain, mine], ["training="], [task, task])
    assert mine["recovery"] == pytest.approx(0.4 / 0.8)


@pytest.mark.parametrize("word", ["evaluation.chips=2,3", "processes=1,2", "device=auto,cpu"])
def test_jobs_of_a_sweep_do_not_share_a_folder(error_of: ErrorOf, word: str) -> None:
    assert error_of("-m", *MLP8, word, "hydra.sweep.dir=sweep").key == word.partition("=")[0]
    assert not Path("sweep").exists()


def test_a_step_that_cannot_be_called_is_named(
    cli: Cli, error_of: ErrorOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("my_steps.py").write_text("number = 3\n")
    Path("my_broken_steps.py").write_text("import json\njson.nothing\n")
    for name in ("my_steps.number", "my_steps.nothing", "my_broken_steps.step", "nothing"):
        outcome = cli(*MLP8, f"job.steps=[{name}]", "hydra.run.dir=run")
        assert outcome.code == 2, outcome.err
        assert outcome.err.count("\n") == 1
        assert "job.steps" in outcome.err
