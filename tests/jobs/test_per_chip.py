"""Compensation that is fitted to each chip, the default of a job: steps, records, selection."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cnet_aihw.compensation import (
    LowRank,
    PerChipFit,
    Placement,
    WithCompensation,
    load_chip_correctors,
    network_cost,
    uniform_placement,
)
from cnet_aihw.evaluation import evaluate_chips
from cnet_aihw.evaluation.metrics import score
from cnet_aihw.report import write_report
from cnet_aihw.rram import (
    LogNormalNoiseModel,
    RRAMRPUConfig,
    convert_to_analog,
    load_snapshot,
    programmed,
)
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.random_state import derive_seed
from cnet_aihw.runtime.records import read_records
from cnet_aihw.training import load_checkpoint
from cnet_aihw.zoo import MLP, digits
from tests.jobs.conftest import command

Cli = Callable[..., Any]
WORDS = [
    *("model=mlp", "data.size=8", "data.limit_train=100", "training.lr=0.1", "progress=false"),
    *("training.epochs=1", "training.validation_chips=2", "training.batch_size=32"),
    *("training.compare=[plain,noise]", "evaluation.chips=2", "search=none"),
    *("compensation.per_chip.samples=50", "compensation.scan.chips=1"),
    *("compensation.scan.samples=20", "select.chips=1", "select.samples=50"),
    *("search.chips=1", "search.samples=50"),
]
LABEL = "low rank of xy"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole run; not to be changed."""
    folder = tmp_path_factory.mktemp("per_chip") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cnet_aihw.jobs.steps.report", lambda run: None)
        command(*WORDS, f"run={folder}")
    return folder


@pytest.fixture
def words(cli: Cli, finished: Path, tiny: list[str]) -> list[str]:
    """A copy of that folder, and the words of its job."""
    shutil.copytree(finished, "run")
    return [*WORDS, "run=run"]


def read(path: str | Path) -> Any:
    return json.loads(Path(path).read_text())


def network(folder: Path, training: str, target: str | None = None) -> Any:
    """Data, network and correctors, which aim at what the job chose unless it is given."""
    data = digits(size=8, limit_train=100)
    model = convert_to_analog(
        MLP(data.input_shape, data.classes, hidden=(256, 128)),
        RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.5)),
    )
    load_snapshot(model, load_checkpoint(folder / training / "best.safetensors").model)
    cost = network_cost(model, data.val.x[:1])
    placement = uniform_placement(cost, list(cost.layers), 0.05, LowRank(), limit_macs=0.05)
    target = target or read(folder / training / "compensation.json")["per_chip"]["target"]
    fit = PerChipFit(data.train.x[:50], target=target)
    return data, model, WithCompensation(placement, LowRank(), fit)


def test_what_correctors_aim_at_is_chosen_on_validation_chips(finished: Path) -> None:
    found = read(finished / "noise" / "target.json")
    for target in ("clean", "mean_over_chips"):
        data, model, calibration = network(finished, "noise", target)
        chips = evaluate_chips(
            model, data.val, chips=2, seed=derive_seed(0, "validation"), calibration=calibration
        )
        assert found["scores"][target] == chips.mean
    assert found["target"] == max(found["scores"], key=found["scores"].get)
    assert read(finished / "noise" / "compensation.json")["per_chip"]["target"] == found["target"]
    assert not (finished / "plain" / "target.json").exists()  # trained without variation
    assert read(finished / "plain" / "compensation.json")["per_chip"]["target"] == "clean"


def test_another_aim_and_an_aim_of_other_correctors(cli: Cli, words: list[str]) -> None:
    asked = [*words, "training.compare=[]", "training=noise", "job=compensate"]
    for name in ("compensation.json", "chips-compensated.json", "chips-compensated.jsonl"):
        (Path("run/noise") / name).unlink()
    outcome = cli(*asked, "compensation/corrector=affine")
    assert outcome.code == 2 and "target.json" in outcome.err, outcome.err
    searched = cli(*asked, "job=search", "search=spectrum", "compensation/corrector=affine")
    assert searched.code == 2 and "target.json" in searched.err, searched.err
    Path("run/noise/target.json").unlink()
    aim = "compensation.per_chip.target=mean_over_chips"
    outcome = cli(*asked, aim, "training.select=clean", "run=given", "source=run")
    assert outcome.code == 0, outcome.err
    assert read("given/noise/compensation.json")["per_chip"]["target"] == "mean_over_chips"
    assert not Path("given/noise/target.json").exists()


def test_the_table_is_that_of_the_library(finished: Path) -> None:
    rows = read(finished / "table.json")["rows"]
    assert [(row["training"], row["compensation"]) for row in rows] == [
        (name, label) for name in ("plain", "noise") for label in (None, LABEL)
    ]
    data, model, calibration = network(finished, "noise")
    measured = evaluate_chips(model, data.test, chips=2, calibration=calibration)
    assert (measured.mean, measured.clean) == (rows[3]["mean"], rows[3]["clean"])
    assert rows[3]["calibration"] == calibration.fit.label()
    weights = sum(p.numel() for p in MLP((1, 8, 8), 10, hidden=(256, 128)).parameters())
    assert rows[3]["overhead_weights"] == calibration.cost(model) / weights <= 0.05
    assert 0.0 < rows[3]["overhead_macs"] <= 0.05
    described = read(finished / "noise" / "compensation.json")
    assert described["placement"] == dict(calibration.placement)
    assert described["fit"] == "per_chip" and described["per_chip"]["samples"] == 50
    assert described["candidates"] == list(described["placement"])
    ceiling = described["ceiling"]
    assert ceiling["clean"] == ceiling["exact"] == score(model, data.val)
    plain = json.loads((finished / "plain" / "result.json").read_text())["clean_score"]
    assert ceiling["share"] == ceiling["clean"] / plain
    assert not list(finished.rglob("compensation.safetensors"))


def test_what_a_chip_costs_is_recorded(finished: Path) -> None:
    lines = read_records(finished / "noise" / "chips-compensated.jsonl")
    bare = read_records(finished / "noise" / "chips.jsonl")
    assert [line["seed"] for line in lines] == [line["seed"] for line in bare]
    costs = [line["calibration_cost"] for line in lines]
    assert [(cost["images"], cost["passes"]) for cost in costs] == [(50, 1.0), (50, 1.0)]
    assert "calibration_cost" not in bare[0]
    row = read(finished / "table.json")["rows"][3]
    assert (row["images"], row["passes"]) == (50, 1.0)
    assert row["fit_seconds"] == pytest.approx(sum(cost["seconds"] for cost in costs) / 2)
    text = (finished / "table.txt").read_text()
    headings = text.split("---")[0].split()
    assert {"inputs", "passes", "chip", "s", "weights", "MACs", "added"} <= set(headings)


def test_epochs_are_chosen_by_chips_as_they_will_be_used(finished: Path) -> None:
    data, model, calibration = network(finished, "noise", "mean_over_chips")
    result = read(finished / "noise" / "result.json")
    seed = derive_seed(0, "validation")
    chips = evaluate_chips(model, data.val, chips=2, seed=seed, calibration=calibration)
    assert result["chip_score"] == chips.mean
    assert calibration.fingerprint() in (finished / "noise" / "run.json").read_text()
    _, _, chosen = network(finished, "noise")
    chips = evaluate_chips(model, data.val, chips=2, seed=seed, calibration=chosen)
    assert read(finished / "noise" / "compensation.json")["validation"]["mean"] == chips.mean
    # a baseline is chosen as it is
    assert "PerChipFit" not in (finished / "plain" / "run.json").read_text()
    assert "fitted" not in (finished / "plain" / "run.json").read_text()


def test_it_resumes_and_more_chips_extend_it(cli: Cli, words: list[str]) -> None:
    old = Path("run/noise/chips-compensated.jsonl").read_bytes()
    before = read("run/table.json")
    assert cli(*words).code == 0
    assert Path("run/noise/chips-compensated.jsonl").read_bytes() == old
    assert read("run/table.json")["rows"] == before["rows"]
    assert cli(*words, "job=evaluate", "evaluation.chips=3").code == 0
    new = Path("run/noise/chips-compensated.jsonl").read_bytes()
    assert new.startswith(old) and len(new.splitlines()) == len(old.splitlines()) + 1
    outcome = cli(*words, "job=evaluate", "compensation.per_chip.ridge=0.1")
    assert outcome.code == 2 and "compensation.per_chip.ridge" in outcome.err


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "rram=power_law_drift evaluation.t_inference=[20,1e7] compensation.per_chip.at=25",
            "at is 25.0; expected at most the first of evaluation.t_inference, 20",
        ),
        (
            "rram=reram_wan2022 evaluation.t_inference=3600 compensation.per_chip.at=0.5",
            "at is 0.5",
        ),
    ],
)
def test_a_time_of_the_fit_that_cannot_be_is_refused(
    cli: Cli, tiny: list[str], word: str, message: str
) -> None:
    outcome = cli(*WORDS, "run=new", *word.split())
    assert outcome.code == 2 and message in outcome.err
    assert not list(Path("new").glob("*/*.safetensors"))


def test_drifting_chips_are_fitted_once(cli: Cli, tiny: list[str]) -> None:
    drift = ["rram=power_law_drift", "rram.nu=0.2", "rram.nu_std=0.1"]
    means = {}
    for at in ("null", "1.0"):
        words = [*WORDS, *drift, "training=plain", "evaluation.t_inference=[1.0,1e7]"]
        asked = [f"compensation.per_chip.at={at}", "evaluation.chips=3", f"run=at-{at}"]
        assert cli(*words, *asked).code == 0
        means[at] = [row["mean"] for row in read(f"at-{at}/table.json")["rows"]
                     if row["compensation"]]  # fmt: skip
    assert means["1.0"][0] == means["null"][0]
    assert means["1.0"][1] < means["null"][1]


def test_candidates_of_a_selection_are_fitted_per_chip(cli: Cli, words: list[str]) -> None:
    outcome = cli(*words, "job=select", "select.calibrations=[none,affine]")
    assert outcome.code == 0, outcome.err
    rows = read("run/select.json")["rows"]
    found = [(row["training"], row["compensation"], row["calibration_kind"]) for row in rows]
    assert [one for one in found if one[1]] == [
        ("plain", LABEL, "none"),
        ("noise", LABEL, "none"),
    ]
    data, model, calibration = network(Path("run"), "noise")
    chips = evaluate_chips(model, data.val.first(50), chips=1, seed=3000, calibration=calibration)
    assert [row["mean"] for row in rows if row["training"] == "noise"][-1] == chips.mean


def test_a_search_measures_placements_fitted_to_each_chip(cli: Cli, words: list[str]) -> None:
    asked = ["training.compare=[]", "training=noise", "search=spectrum", "search.sizes=[1]"]
    outcome = cli(*words, *asked, "job=search")
    assert outcome.code == 0, outcome.err
    assert "ceiling of noise: " in outcome.out
    (trace,) = Path("run/noise/search").glob("*/search.jsonl")
    line = next(line for line in read_records(trace) if line["placement"])
    data, model, calibration = network(Path("run"), "noise")
    calibration.placement = Placement(line["placement"])
    chips = evaluate_chips(model, data.val.first(50), chips=1, seed=1000, calibration=calibration)
    assert line["score"] == pytest.approx(chips.mean, abs=1e-6)
    assert read("run/noise/search.json")["candidates"] == list(
        network_cost(model, data.val.x[:1]).layers
    )


def test_a_network_that_affords_no_filter_has_scales_and_offsets_throughout(cli: Cli) -> None:
    outcome = cli(*WORDS, "model.hidden=[8]", "training=noise", "run=run")
    assert outcome.code == 0, outcome.err
    placed = read("run/noise/compensation.json")
    assert list(placed["placement"].values()) == ["size 0"]
    assert 0.0 < placed["overhead_weights"] <= 0.05


def test_the_correctors_of_one_chip_are_saved(cli: Cli, words: list[str]) -> None:
    asked = ["training.compare=[]", "training=noise", "job=chip", "chip=1"]
    outcome = cli(*words, *asked)
    assert outcome.code == 0, outcome.err
    record = read("run/noise/chip-1.json")
    line = read_records("run/noise/chips-compensated.jsonl")[1]
    assert (record["seed"], record["score"]) == (line["seed"], line["score"])
    assert record["calibration_cost"]["images"] == 50
    data, model, _ = network(Path("run"), "noise")
    with programmed(model, record["seed"]):
        load_chip_correctors(model, "run/noise/chip-1.safetensors")
        assert score(model, data.test) == record["score"]


def test_the_compensation_of_a_source_is_taken_as_it_is(cli: Cli, words: list[str]) -> None:
    asked = [word for word in words if word != "run=run"]
    asked += ["training.compare=[]", "training=noise", "source=run", "run=other", "job=evaluate"]
    outcome = cli(*asked, "compensation.per_chip.samples=99", "evaluation.chips=1")
    assert outcome.code == 0, outcome.err
    (line,) = read_records("other/noise/chips-compensated.jsonl")
    assert line["calibration_cost"]["images"] == 50
    assert line["score"] == read_records("run/noise/chips-compensated.jsonl")[0]["score"]


def test_chips_of_a_shared_fit_have_no_correctors_of_their_own(
    words: list[str], error_of: Callable[..., CnetError]
) -> None:
    asked = ["training.compare=[]", "training=noise", "job=chip", "chip=1"]
    assert error_of(*words, *asked, "compensation=none").key == "compensation.fit"
    assert error_of(*words, *asked, "chip=-1").key == "chip"


def test_a_corrector_without_a_closed_form_needs_refinement(
    error_of: Callable[..., CnetError],
) -> None:
    words = ["training=plain", "hydra.run.dir=run"]
    assert error_of(*words, "compensation=paper", "search=spectrum").key == "search.searcher"
    words += ["compensation/corrector=vera"]
    assert error_of(*words).key == "compensation.corrector"
    refined = "compensation.per_chip.refine_steps=1"
    assert error_of(*words, refined, "training.epochs=-1").key == "training.epochs"


def test_the_page_shows_each_chip_before_and_after(words: list[str]) -> None:
    write_report("run")
    described = read("run/noise/compensation.json")
    before, after = (
        [line["score"] for line in read_records(f"run/noise/{name}.jsonl")]
        for name in ("chips", "chips-compensated")
    )
    clean = read("run/noise/chips.json")["statistics"][0]["clean"]
    rows = [row for row in table("recovered-chips") if row["training"] == "noise"]
    assert [float(row["without"]) for row in rows] == before
    assert [float(row["with"]) for row in rows] == after
    shares = [(a - b) / (clean - b) for b, a in zip(before, after, strict=True)]
    assert [float(row["recovered"]) for row in rows] == pytest.approx(shares)
    (row,) = [row for row in table("recovered") if row["training"] == "noise"]
    assert float(row["worst_with"]) == min(after)
    errors = [row for row in table("filters") if row["training"] == "noise"]
    for layer, found in described["filters"].items():
        listed = [float(row["error"]) for row in errors if row["layer"] == layer]
        assert listed == found["errors"]
        assert listed == sorted(listed, reverse=True)
        assert found["placed"] == 1
    page = Path("run/report.html").read_text()
    assert described["ceiling"]["sentence"] in page.replace("&#39;", "'")
    assert "to fit a chip" in page and "50 unlabelled inputs, 1 pass<" in page
    for name in ("before-after", "filters"):
        assert f'id="figure-{name}"' in page


def table(name: str) -> list[dict[str, str]]:
    with open(f"run/report/{name}.csv", newline="") as file:
        return list(csv.DictReader(file))
