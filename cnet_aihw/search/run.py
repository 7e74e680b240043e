"""One search from its folder to its result; it resumes after a kill."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from cnet_aihw.cluster.settings import RaySettings, validate_ray_settings
from cnet_aihw.compensation import Placement
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.fingerprint import class_elsewhere
from cnet_aihw.runtime.locks import alone
from cnet_aihw.runtime.provenance import check_provenance
from cnet_aihw.runtime.random_state import derive_seed
from cnet_aihw.runtime.records import read_json, write_json_atomic
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import bad_choice, check_count
from cnet_aihw.search.budgeted import BudgetSpent, Evaluations, Measure, Observer
from cnet_aihw.search.evaluators.protocol import PlacementEvaluator
from cnet_aihw.search.observers import ProgressLine, TensorBoardCurves
from cnet_aihw.search.problem import Encoding, PlacementProblem
from cnet_aihw.search.scores import Evaluation
from cnet_aihw.search.searchers.exhaustive import ExhaustiveSearcher
from cnet_aihw.search.searchers.protocol import (
    SearchContext,
    Searcher,
    ask_searcher,
    validate_searcher,
)
from cnet_aihw.search.searchers.spectrum import SpectrumSearcher, placed_by_gains
from cnet_aihw.search.settings import FIRST
from cnet_aihw.search.store import EvaluationStore

SEARCH = "search.json"
TRACE = "search.jsonl"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SearchResult:
    """Best placement that a search evaluated."""

    searcher: str
    """Name of the searcher."""

    seed: int
    """Seed of the search."""

    placement: Placement
    """The placement with the highest reward."""

    encoding: Encoding
    """The same as indices of choices."""

    reward: float
    """Its reward: objective over chips - overhead."""

    score: float
    """Its mean score over chips."""

    std: float
    """Standard deviation of its score over chips."""

    q05: float
    """Score that 95 % of its chips reach."""

    overhead_weights: float
    """Its overhead in weights."""

    overhead_macs: float
    """Its overhead in MACs."""

    evaluations: int
    """Placements that the search evaluated, those from the store included."""

    cached: int
    """How many of them were in the store already."""

    seconds: float
    """Time that the others took, added up over processes."""

    metric: str = "score"
    """Name of the score, such as "accuracy"."""

    def as_record(self) -> dict[str, Any]:
        """Return all fields as plain values."""
        placement, encoding = dict(self.placement), list(self.encoding)
        return {**vars(self), "placement": placement, "encoding": encoding}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> SearchResult:
        """Return the result that :meth:`as_record` described."""
        placement, encoding = Placement(record["placement"]), tuple(record["encoding"])
        return cls(**{**record, "placement": placement, "encoding": encoding})

    @classmethod
    def of(cls, evaluations: Evaluations, searcher: str, seed: int, metric: str) -> SearchResult:
        """Return the result of a search with at least one evaluation."""
        best, rows = evaluations.best, evaluations.rows
        assert best is not None
        names = ("reward", "score", "std", "q05", "overhead_weights", "overhead_macs")
        return cls(
            searcher=searcher,
            seed=seed,
            placement=Placement(best.placement),
            encoding=best.encoding,
            evaluations=len(rows),
            cached=sum(row.cached for row in rows),
            seconds=math.fsum(row.seconds for row in rows if not row.cached),
            metric=metric,
            **{name: getattr(best, name) for name in names},
        )


@checked
def run_search(
    problem: PlacementProblem,
    evaluator: PlacementEvaluator,
    searcher: Searcher,
    folder: str | Path,
    *,
    budget: int = 100,
    seed: int = 0,
    store: str | Path | None = None,
    ray: RaySettings | None = None,
    first: str = "none",
    name: str | None = None,
    progress: bool = True,
) -> SearchResult:
    """Search for a placement, keeping all that is evaluated.

    The folder gets ``search.json`` (what is searched, and the result), ``search.jsonl`` (the trace,
    one line for each evaluation) and ``tensorboard/``. A search that was stopped, or killed at any
    moment, resumes when it is called again with the same folder, and ends with the same trace (but
    for ``cached`` of what was measured when it was killed); one that is complete is only read; one
    that is called with a larger budget resumes, and has its earlier result until it ends.

    Args:
        problem: the placement problem.
        evaluator: measures placements.
        searcher: proposes them.
        folder: where the search is kept; made when missing.
        budget: how many different placements the search may ask for, whether or not the store has
            them already, so that searchers are compared at equal budget.
        seed: seed of the searcher.
        store: folder of the evaluations, which searches may share; None: within ``folder``.
        ray: where Ray runs, and with how many workers; None: evaluations in this process.
        first: placement that is evaluated before the searcher begins: "spectrum", "none", or
            "auto", the spectrum's where the evaluator finds gains.
        name: name of the search while it runs; None: the folder's name.
        progress: whether to show a progress bar, if stderr is a terminal.

    Returns:
        The best placement found, and what it took.

    Raises:
        CnetError: for impossible arguments, a folder that belongs to another search or in which one
            runs, and as the evaluator and the searcher raise.
        KeyboardInterrupt: after Ctrl-C, with all evaluations done so far on the disk.
    """
    folder, ray = Path(folder), ray or RaySettings()
    validate_ray_settings(ray)
    check_count("budget", budget)
    by_gains = _first_by_gains(first, evaluator, searcher)
    made_from = describe_search(problem, evaluator, searcher, seed)
    if by_gains:
        made_from["first"] = "spectrum"
    metric = str(made_from["evaluator"].get("measurement", {}).get("metric", "score"))
    with alone(folder, "search", "a search"):
        result = _begin(folder, made_from, budget)
        if result is not None:
            return result
        name = name or folder.name
        evaluations_store = EvaluationStore(store or folder / "evaluations", evaluator.key())
        with ExitStack() as stack:
            stack.enter_context(closing(evaluations_store))
            measure = stack.enter_context(_measuring(evaluator, evaluations_store, ray, name))
            gains = getattr(evaluator, "gains", None)
            evaluations = Evaluations(problem, measure, budget, folder / TRACE, gains=gains)
            stack.enter_context(closing(evaluations))
            evaluations.observers += _observers(evaluations, folder, progress)
            context = SearchContext(folder, ray, _shown_on_ray(evaluations, name, searcher.name))
            if ray.workers:
                context.on_ray()
            _search(searcher, evaluations, seed, context, by_gains)
        if evaluations.best is None:
            raise CnetError(
                f"the searcher {searcher.name} ended without any evaluation; it must ask for at "
                "least one placement within the limit.",
                key="searcher",
                value=searcher.name,
            )
        result = SearchResult.of(evaluations, searcher.name, seed, metric)
        _write(folder, made_from, budget, result)
    return result


def describe_search(
    problem: PlacementProblem, evaluator: PlacementEvaluator, searcher: Searcher, seed: int
) -> dict[str, Any]:
    """Return all that determines the course of a search, as plain values.

    Raises:
        CnetError: as :func:`validate_searcher`, and for values that a file cannot hold.
    """
    validate_searcher(searcher)
    elsewhere = class_elsewhere(searcher)
    kind = {} if elsewhere is None else {"class": elsewhere}
    described = {
        "searcher": {"name": searcher.name, **kind, **asdict(cast(Any, searcher))},
        "seed": seed,
        "problem": problem.as_record(),
        "evaluator": {**evaluator.describe(), "key": evaluator.key()},
    }
    for key in ("searcher", "evaluator"):
        try:
            json.dumps(described[key])
        except (TypeError, ValueError) as error:
            raise bad_value(key, described[key], f"values for a file ({error})") from error
    return cast(dict[str, Any], json.loads(json.dumps(described)))  # as the file gives it back


def _first_by_gains(first: str, evaluator: PlacementEvaluator, searcher: Searcher) -> bool:
    """Say whether the spectrum's placement is evaluated before the searcher begins."""
    if first not in FIRST:
        raise bad_choice("first", first, FIRST)
    has_gains = hasattr(evaluator, "gains")
    if first == "spectrum" and not has_gains:
        raise bad_value("first", first, "none, as this evaluator finds no gains of choices")
    by_itself = searcher.name in (SpectrumSearcher.name, ExhaustiveSearcher.name)
    return first != "none" and has_gains and not by_itself


def _search(
    searcher: Searcher,
    evaluations: Evaluations,
    seed: int,
    context: SearchContext,
    by_gains: bool,
) -> None:
    rng = np.random.default_rng(derive_seed("search", seed))
    try:
        if by_gains:
            evaluations(placed_by_gains(evaluations.problem, np.array(evaluations.gains())))
        ask_searcher(searcher, evaluations, rng, context)
    except BudgetSpent as reason:
        log.debug("The search ended: %s", reason)
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(
            f"the search was stopped after {evaluations.spent} of {evaluations.budget} "
            f"evaluations, which are kept; with the same folder, {context.folder}, it resumes."
        ) from interrupt
    evaluations.finish()


def _observers(evaluations: Evaluations, folder: Path, progress: bool) -> list[Observer]:
    curves = TensorBoardCurves(folder / "tensorboard", evaluations.problem)
    return [curves, ProgressLine(evaluations, progress)]


def _shown_on_ray(evaluations: Evaluations, name: str, searcher: str) -> Any:
    """Return a function that shows the search on Ray's dashboard, once Ray runs."""
    shown = False

    def show() -> None:
        nonlocal shown
        if not shown:
            from cnet_aihw.search.rllib.monitor import SearchMonitor  # needs Ray

            evaluations.observers.append(SearchMonitor(name, searcher))
            shown = True

    return show


@contextmanager
def _measuring(
    evaluator: PlacementEvaluator, store: EvaluationStore, ray: RaySettings, name: str
) -> Iterator[Measure]:
    """Evaluate placements inside the block, in this process or in worker processes."""
    if ray.workers:
        from cnet_aihw.search.rllib.workers import EvaluationWorkers  # needs Ray

        with EvaluationWorkers(evaluator, store, ray, name) as workers:
            yield workers.measure
        return

    def measure(placements: Sequence[Placement]) -> Iterator[tuple[Evaluation, bool]]:
        for placement in placements:
            yield store.measure(placement, evaluator)

    yield measure


def _begin(folder: Path, made_from: dict[str, Any], budget: int) -> SearchResult | None:
    """Claim the folder, or check that it is this search's; return the result if it is complete."""
    path = folder / SEARCH
    if not path.exists():
        if (folder / TRACE).exists():
            raise CnetError(
                f"{folder / TRACE} exists without {SEARCH}; give another folder.",
                key=str(folder / TRACE),
                fix="give another folder",
            )
        _write(folder, made_from, budget, None)
        return None
    stored = read_json(path)
    try:
        fix = "give another folder"
        check_provenance(stored["search"], made_from, folder, fix)
        earlier, record = stored["budget"], stored["result"]
    except KeyError as error:
        raise CnetError(
            f"{path} does not describe a search; give another folder.",
            key=str(path),
            fix="give another folder",
        ) from error
    if budget < earlier:
        raise CnetError(
            f"{folder} holds a search with a budget of {earlier} and now it is {budget}; give at "
            "least as much, or another folder.",
            key="budget",
            value=budget,
            expected=f"at least {earlier}",
        )
    if budget == earlier and record is not None:
        return SearchResult.from_record(record)
    if record is None:
        _write(folder, made_from, budget, None)
    return None  # a result of a smaller budget stays until the larger one's is complete


def _write(
    folder: Path, made_from: dict[str, Any], budget: int, result: SearchResult | None
) -> None:
    record = None if result is None else result.as_record()
    write_json_atomic(folder / SEARCH, {"search": made_from, "budget": budget, "result": record})
