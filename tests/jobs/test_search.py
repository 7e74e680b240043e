"""Search in a job: what it may see, what it leaves, how searchers are compared."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

import cnet_aihw.conf
from cnet_aihw.cluster import RaySettings
from cnet_aihw.compensation import PAPER, FitSettings, Placement, network_cost
from cnet_aihw.compensation.settings import CompensationSettings
from cnet_aihw.evaluation import AffineCorrection, evaluate_chips
from cnet_aihw.evaluation.settings import EvaluationSettings
from cnet_aihw.jobs import steps_search
from cnet_aihw.jobs.evaluators import build_evaluator
from cnet_aihw.rram import (
    LogNormalNoiseModel,
    RRAMRPUConfig,
    convert_to_analog,
    load_snapshot,
    periphery,
)
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.parts import as_part
from cnet_aihw.runtime.records import read_records
from cnet_aihw.search import SupernetEvaluator, placement_problem
from cnet_aihw.search.settings import EvaluatorSettings, SearchSettings
from cnet_aihw.tasks import Classification
from cnet_aihw.training import VariationSettings, load_checkpoint
from cnet_aihw.zoo import LeNet5, digits

slow = pytest.mark.slow

Cli = Callable[..., Any]
Only = Callable[[Callable[[Any], Any]], str]
CONF = Path(cnet_aihw.conf.__file__).parent
SEARCHERS = sorted(path.stem for path in (CONF / "search").glob("*.yaml"))

NETWORK = [
    *("data.limit_train=300", "rram.sigma=0.8", "compensation.threshold=1.0", "progress=false"),
    *("compensation=paper", "compensation.shared.epochs=1"),
    *("compensation.shared.batch_size=16", "compensation.shared.lr=0.01"),
]
SEARCH = [
    "search.budget=8",
    "search.chips=2",
    "search.samples=100",
    "search.evaluator.shared_steps=120",
]
WAY = [
    *NETWORK,
    *SEARCH,
    *("training=plain", "training.epochs=5", "training.optimizer=adam"),
    *("training.lr=0.003", "training.batch_size=16", "training.validation_chips=2"),
    *("compensation.scan.chips=2", "compensation.scan.samples=100", "evaluation.chips=3"),
    *("compensation.shared.validation_chips=2", "search=coordinate"),
]


def read(path: str | Path) -> Any:
    return json.loads(Path(path).read_text())


def contents(folder: Path) -> dict[str, bytes]:
    """All files of the results, without Hydra's own, logs and what is written at each start."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not {".hydra", "tensorboard"} & set(path.parts)
        if path.suffix != ".log"
    }


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole run with a search; its store lies beside it."""
    here = tmp_path_factory.mktemp("search")
    words = [*WAY, f"search.store={here / 'store'}", "run=run"]
    command = [sys.executable, "-m", "cnet_aihw.jobs.cli", *words]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return here / "run"


@pytest.fixture
def again(way: Path) -> list[str]:
    """Words of a job that searches what that run trained, with its store."""
    source = [f"source={way}", f"search.store={way.parent / 'store'}"]
    return [*NETWORK, *SEARCH, *source, "training=plain", "job=search", "run=again"]


def small_job(**search: Any) -> tuple[SimpleNamespace, SimpleNamespace, nn.Module]:
    """A job and its variant, as far as a search looks at them, and a network behind noisy ADCs."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(60, 4, generator=generator), torch.arange(60) % 3
    data = SimpleNamespace(train=as_part((x[:30], y[:30])), val=as_part((x[30:], y[30:])))
    job = SimpleNamespace(
        data=SimpleNamespace(**vars(data), augment=None, fingerprint="x"), task=Classification()
    )
    variant = SimpleNamespace(
        search=SearchSettings(samples=10, chips=2, evaluator=EvaluatorSettings(**search)),
        compensation=CompensationSettings(fit="shared"),
        evaluation=EvaluationSettings(calibration="affine", calibration_samples=20),
        corrector=PAPER,
        config=OmegaConf.create(
            {
                "device": "cpu",
                "rram": {},
                "compensation": {"shared": {"variation": {"noise_model": None}}},
            }
        ),
    )
    torch.manual_seed(0)
    config = RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.5), forward=periphery(out_noise=0.5))
    return job, variant, convert_to_analog(nn.Sequential(nn.Linear(4, 3)), config)


def test_the_reference_is_the_clean_score_on_the_samples_of_the_search() -> None:
    job, variant, model = small_job()
    chips = evaluate_chips(
        model, job.data.val.first(10), chips=1, seed=variant.search.chips_seed, device="cpu"
    )
    for seed in (0, 1):
        torch.manual_seed(seed)
        assert steps_search._clean(job, variant, model) == chips.clean


def test_placements_are_measured_with_the_calibration_of_the_evaluation() -> None:
    job, variant, model = small_job(kind="per_placement", steps=1)
    cost = network_cost(model, torch.zeros(1, 4))
    problem = placement_problem(cost, ["0"], limit=None, limit_macs=None)
    described = build_evaluator(job, variant, problem, model).describe()
    expected = AffineCorrection(job.data.train.first(20).x).fingerprint()
    assert described["measurement"]["calibration"] == expected


@slow
def test_the_way_with_a_search(way: Path) -> None:
    bare, compensated = read(way / "table.json")["rows"]
    assert (bare["search"], compensated["search"]) == (None, "coordinate")
    assert " search " in (way / "table.txt").read_text()
    folder = way / "plain"
    search = read(folder / "search" / "coordinate-seed0" / "search.json")
    trace = read_records(folder / "search" / "coordinate-seed0" / "search.jsonl")
    best = max(trace, key=lambda line: line["reward"])
    described = read(folder / "compensation.json")
    assert described["placement"] == best["placement"] == search["result"]["placement"]
    assert set(best["placement"]) <= set(read(folder / "scan.json")["candidates"])
    assert 0 < described["overhead_weights"] == compensated["overhead_weights"] <= 0.05
    assert described["overhead_weights"] == pytest.approx(best["overhead_weights"], abs=1e-12)
    assert read(folder / "search.json")["result"] == search["result"]


@slow
def test_what_a_search_saw_is_of_the_validation_part_and_of_chips_of_its_own(way: Path) -> None:
    """The values in the trace are those of the library alone; the evaluation's chips are others."""
    network = LeNet5((1, 28, 28), 10)
    model = convert_to_analog(network, RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.8)))
    load_snapshot(model, load_checkpoint(way / "plain" / "best.safetensors").model)
    trace = read_records(way / "plain" / "search" / "coordinate-seed0" / "search.jsonl")
    assert trace[0]["placement"] == {}  # where coordinate ascent starts
    data = digits(limit_train=300)
    x, y = data.val.x[:100], data.val.y[:100]
    chips = evaluate_chips(model, (x, y), chips=2, seed=1000)
    assert (trace[0]["score"], trace[0]["std"]) == (chips.mean, chips.std)
    candidates = read(way / "plain" / "scan.json")["candidates"]
    cost = network_cost(model, x[:1])
    problem = placement_problem(cost, candidates, PAPER, 0.05, limit_macs=None)
    fit = FitSettings(
        batch_size=16, lr=0.01, start="identity", warmup_epochs=0.0, grad_clip=None, select="last",
        variation=VariationSettings(enabled=True, steps_per_chip=1, chips_per_step=1),
    )  # fmt: skip
    alone = SupernetEvaluator(
        model, data, problem, corrector=PAPER, fit=fit, steps=120, chips=2, seed=1000, samples=100
    )
    best = max(trace, key=lambda line: line["reward"])
    accuracies = alone.evaluate(Placement(best["placement"]))
    assert sum(accuracies) / 2 == best["score"]
    assert best["reward"] == pytest.approx(best["score"] - best["overhead_weights"], abs=1e-12)
    measured = {line["seed"] for line in read_records(way / "plain" / "chips-compensated.jsonl")}
    scanned = {line["seed"] for line in read_records(way / "plain" / "scan-suffix.jsonl")}
    assert not measured & scanned


@slow
def test_a_run_that_is_done_is_not_done_again(cli: Cli, way: Path) -> None:
    before = contents(way.parent)
    outcome = cli(*WAY, f"search.store={way.parent / 'store'}", f"run={way}")
    assert outcome.code == 0, outcome.err
    assert contents(way.parent) == before


@slow
@pytest.mark.parametrize("killed", [False, True], ids=["measured", "killed while it was fitted"])
def test_a_larger_budget_fits_what_is_found_then(
    cli: Cli, way: Path, tmp_path: Path, killed: bool
) -> None:
    made = ("compensation*", "chips-compensated*", "placement.json", "search*")
    for name in ("longer", "at once"):
        shutil.copytree(way, tmp_path / name, ignore=shutil.ignore_patterns(*made, "*.lock"))
    words = [*WAY, "search=random", f"search.store={tmp_path / 'store'}"]
    assert cli(*words, "search.budget=6", f"run={tmp_path / 'at once'}").code == 0
    assert cli(*words, "search.budget=1", f"run={tmp_path / 'longer'}").code == 0
    folder, wanted = tmp_path / "longer" / "plain", tmp_path / "at once" / "plain"
    first = read(folder / "compensation.json")["placement"]
    assert first != read(wanted / "compensation.json")["placement"]
    if killed:
        for path in folder.glob("c*compensat*.*"):
            path.unlink()
    outcome = cli(*words, "search.budget=6", f"run={tmp_path / 'longer'}")
    assert outcome.code == 0, outcome.err
    weights = "compensation.safetensors"
    assert (folder / weights).read_bytes() == (wanted / weights).read_bytes()
    measured = (read(where / "chips-compensated.json") for where in (folder, wanted))
    assert next(measured)["statistics"] == next(measured)["statistics"]
    left = folder / "earlier" / "1-evaluations"
    assert (left / "compensation" / "epochs.jsonl").exists()
    assert killed or read(left / "compensation.json")["placement"] == first


@slow
def test_a_placement_searched_for_another_limit_is_not_fitted(
    way: Path, error_of: Callable[..., CnetError]
) -> None:
    before = contents(way.parent)
    words = [f"search.store={way.parent / 'store'}", f"run={way}", "job=compensate"]
    error = error_of(*WAY, *words, "compensation.limit=0.01")
    assert error.key == "compensation.limit"
    assert (error.value, error.expected) == (0.01, 0.05)
    assert contents(way.parent) == before


@slow
def test_searchers_are_compared_on_one_trained_network(
    cli: Cli, way: Path, again: list[str]
) -> None:
    before = contents(way)
    words = [word for word in again if not word.startswith("run=")]
    sweep = ["search=random,greedy", "seed=1,2", "search.budget=4", "hydra.sweep.dir=sweep"]
    outcome = cli("-m", *words, *sweep, "hydra.sweep.subdir=${hydra:job.num}")
    assert outcome.code == 0, outcome.err
    rows = read("sweep/sweep-searches.json")["rows"]
    shown = [(row["search"], row["seed"], row["training"], row["evaluations"]) for row in rows]
    assert shown == [(s, n, "plain", 4) for s in ("random", "greedy") for n in ("1", "2")]
    traces = [read_records(path) for path in Path("sweep").glob("*/plain/search/*/search.jsonl")]
    assert len(traces) == 4
    lines = list(chain.from_iterable(traces))
    values: dict[str, set[float]] = {}
    for line in lines:
        values.setdefault(str(line["placement"]), set()).add(line["score"])
    assert all(len(accuracies) == 1 for accuracies in values.values())
    assert len(values) > 4
    assert sum(not line["cached"] for line in lines) < len(values)  # the first run's too
    assert contents(way) == before
    assert " reward" in Path("sweep/sweep-searches.txt").read_text()


@slow
def test_a_sweep_keeps_the_seed_that_each_search_had(cli: Cli, again: list[str]) -> None:
    words = [word for word in again if not word.startswith("run=")]
    sweep = ["search=random", "search.seed=7", "seed=1,2", "search.budget=2"]
    outcome = cli("-m", *words, *sweep, "hydra.sweep.dir=sweep")
    assert outcome.code == 0, outcome.err
    found = read("sweep/sweep-searches.json")
    assert found["varied"] == ["seed="]
    assert [(row["seed="], row["seed"]) for row in found["rows"]] == [("1", 7), ("2", 7)]
    assert Path("sweep/report.html").exists()


@slow
def test_a_sweeper_gets_the_reward_of_the_best_placement(
    cli: Cli, again: list[str], returned: list[float | None]
) -> None:
    assert cli(*again, "search=random").code == 0
    assert returned == [read("again/plain/search.json")["result"]["reward"]]


@slow
@pytest.mark.parametrize(
    "words",
    [
        ["search.evaluator.kind=per_placement", "search.evaluator.steps=2"],
        [
            *("search.evaluator.kind=per_placement", "search.evaluator.start=supernet"),
            *("search.evaluator.steps=2", "search.evaluator.shared_steps=3"),
        ],
        ["search.objective.kind=quantile", "search.objective.overhead=macs", "search.digital=true"],
    ],
    ids=["fit", "fit from the shared one", "another objective"],
)
def test_any_evaluator_and_objective_can_be_chosen(
    cli: Cli, again: list[str], words: list[str]
) -> None:
    outcome = cli(*again, "search=random", "search.budget=2", *words)
    assert outcome.code == 0, outcome.err
    (row,) = read("again/searches.json")["rows"]
    assert row["evaluations"] == 2


@slow
def test_without_candidates_nothing_fails_and_the_tables_say_why(cli: Cli, way: Path) -> None:
    shutil.copytree(way, "run")  # what is trained and measured there is not done again
    words = [word for word in WAY if "threshold" not in word]
    words += ["compensation.threshold=0.01", f"search.store={way.parent / 'store'}", "run=run"]
    outcome = cli(*words)
    assert outcome.code == 0, outcome.err
    why = "no layer takes the score below 1 % of the clean one."
    assert f"plain has no compensation: {why}" in Path("run/table.txt").read_text()
    assert cli(*words, "job=search").code == 0
    assert f"plain was not searched: {why}" in Path("run/searches.txt").read_text()


@slow
@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("search=none", "no searcher is chosen (search.searcher is null); choose one"),
        ("compensation.placement={fc3:0.5}", "compensation.placement is given"),
        ("compensation=none", "no compensation is asked for"),
    ],
)
def test_a_search_of_nothing_is_refused(cli: Cli, again: list[str], word: str, why: str) -> None:
    outcome = cli(*again, "search=random", word)
    assert outcome.code == 2
    assert f"there is nothing to search, because {why}" in outcome.err
    assert not list(Path("again").glob("**/search*"))


@pytest.mark.parametrize("name", [name for name in SEARCHERS if name != "none"])
def test_a_file_names_a_searcher_with_its_defaults(name: str) -> None:
    node = OmegaConf.load(CONF / "search" / f"{name}.yaml")
    assert node.defaults == ["none"]
    searcher = instantiate(node.searcher)
    assert searcher == type(searcher)()
    assert searcher.name == name
    written = set(node.searcher) - {"_target_"}
    assert written == {field.name for field in fields(searcher)}


def test_the_files_repeat_the_defaults(cli: Cli, only: Only) -> None:
    seen: list[Any] = []
    assert cli("search=none", "training=plain", only(seen.append)).code == 0
    assert cli("seed=7", "training=plain", only(seen.append)).code == 0
    assert seen[0].variants[0].search == SearchSettings()
    assert seen[0].variants[0].ray == RaySettings()
    assert seen[1].variants[0].search.seed == 7


MISTAKES = [
    ("+search.budgt=3", "search.budgt"),
    ("+search.evaluator.step=3", "search.evaluator.step"),
    ("+search.objective.kin=mean", "search.objective.kin"),
    ("+ray.worker=3", "ray.worker"),
    ("search.budget=0", "search.budget"),
    ("search.chips=0", "search.chips"),
    ("search.samples=0", "search.samples"),
    ("search.evaluator.steps=0", "search.evaluator.steps"),
    ("search.evaluator.shared_steps=0", "search.evaluator.shared_steps"),
    ("search.evaluator.threads=0", "search.evaluator.threads"),
    ("search.evaluator.kind=nix", "search.evaluator.kind"),
    ("search.evaluator.start=nix", "search.evaluator.start"),
    ("search.ratios=[0.5]", "search.ratios"),
    ("search.ratios=[0,2]", "search.ratios"),
    ("search.objective.kind=men", "search.objective.kind"),
    ("search.objective.kind=yield", "search.objective.threshold"),
    ("search.chips_seed=0", "search.chips_seed"),
    ("search.chips_seed=1", "search.chips_seed"),
    ("ray.workers=-1", "ray.workers"),
]


@pytest.mark.parametrize(("word", "key"), MISTAKES, ids=[word for word, _ in MISTAKES])
def test_a_mistake_names_its_key_before_any_work(
    wrong: Callable[..., CnetError], word: str, key: str
) -> None:
    assert wrong(word).key == key


@pytest.mark.parametrize(
    "word",
    [
        "compensation.limit=1e-6",
        "search.searcher._target_=builtins.dict",
        "search.searcher._target_=builtins.object",
    ],
)
def test_what_only_the_network_shows_is_reported_before_training(cli: Cli, word: str) -> None:
    outcome = cli(*WAY, word, "run=run")
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert {p.name for p in Path("run").iterdir()} <= {".hydra", ".locks", "cnet-aihw.log"}


SOURCES = [
    ("source=nix", "source"),
    ("training=noise", "source"),
    ("data.limit_train=200", "data.fingerprint"),
    ("rram.sigma=0.5", "config.rram.sigma"),
    ("job=scan", "source"),
]


@slow
@pytest.mark.parametrize(("word", "key"), SOURCES, ids=[word for word, _ in SOURCES])
def test_a_source_that_does_not_fit_is_refused(
    again: list[str], error_of: Callable[..., CnetError], word: str, key: str
) -> None:
    assert error_of(*again, "search=random", word).key == key
    assert not list(Path("again").glob("*/search*"))


@slow
def test_the_agent_of_rllib_searches_and_ray_keeps_silent(
    way: Path, again: list[str], tmp_path: Path
) -> None:
    words = [*again, "search=ppo", "search.budget=6", "ray.num_cpus=1", "ray.dashboard=false"]
    command = [sys.executable, "-m", "cnet_aihw.jobs.cli", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    log, _, table = done.stdout.partition("\n\n")
    assert all(line.startswith("[20") and "][cnet_aihw." in line for line in log.splitlines())
    assert "searches, on validation chips of their own" in table
    trace = read_records(tmp_path / "again" / "plain" / "search" / "ppo-seed0" / "search.jsonl")
    assert len(trace) == 6
    (row,) = read(tmp_path / "again" / "searches.json")["rows"]
    assert (row["search"], row["reward"]) == ("ppo", max(line["reward"] for line in trace))


@slow
def test_a_folder_holds_one_search_of_a_kind(cli: Cli, again: list[str]) -> None:
    assert cli(*again, "search=random", "search.budget=1").code == 0
    assert cli(*again, "search=random", "search.budget=2").code == 0  # it resumes
    outcome = cli(*again, "search=random", "search.budget=2", "search.chips_seed=5")
    assert outcome.code == 2
    assert "again/plain/search/random-seed0" in outcome.err


@slow
def test_a_search_without_a_scan_names_it(
    way: Path, again: list[str], error_of: Callable[..., CnetError]
) -> None:
    scan = way / "plain" / "scan.json"
    kept = scan.read_bytes()
    scan.unlink()
    try:
        error = error_of(*again, "search=random")
    finally:
        scan.write_bytes(kept)
    assert error.key == "scan.json"
