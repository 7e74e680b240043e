"""One search: its folder, its evaluations, going on after a kill, and its result."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from cnet_aihw.compensation import Placement
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.locks import alone
from cnet_aihw.runtime.random_state import derive_seed
from cnet_aihw.runtime.records import read_json, write_json_atomic
from cnet_aihw.search.budgeted import BudgetSpent, Evaluations, Measure, Observer
from cnet_aihw.search.evaluators.protocol import PlacementEvaluator
from cnet_aihw.search.observers import ProgressLine, TensorBoardCurves
from cnet_aihw.search.problem import Evaluation, PlacementProblem
from cnet_aihw.search.result import SearchResult
from cnet_aihw.search.searchers.protocol import Searcher, UsesRay
from cnet_aihw.search.settings import RaySettings, validate_ray_settings
from cnet_aihw.search.store import EvaluationStore
from cnet_aihw.training.run_identity import check_same_run

SEARCH = "search.json"
TRACE = "search.jsonl"

log = logging.getLogger(__name__)


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
    name: str | None = None,
    progress: bool = True,
) -> SearchResult:
    """Search for a placement, keeping all that is evaluated.

    The folder gets ``search.json`` (what is searched, and the result), ``search.jsonl`` (the trace,
    one line for each evaluation) and ``tensorboard/``. A search that was stopped, or killed at any
    moment, goes on when it is called again with the same folder, and ends with the same trace (but
    for ``cached`` of what was measured when it was killed); one that is done is only read; one that
    is called with a larger budget goes on, and has its earlier result until it ends.

    Args:
        problem: the placement problem.
        evaluator: values placements.
        searcher: proposes them.
        folder: where the search is kept; made when missing.
        budget: how many different placements the search may ask for, whether or not the store has
            them already, so that searchers are compared at equal budget.
        seed: seed of the searcher.
        store: folder of the evaluations, which searches may share; None: within ``folder``.
        ray: where Ray runs, and with how many workers; None: evaluations in this process.
        name: what the search is called while it runs; None: the folder's name.
        progress: whether to show a progress bar, where stderr is a terminal.

    Returns:
        The best placement found, and what it took.

    Raises:
        CnetError: for arguments that cannot be, a folder that belongs to another search or in which
            one runs, and as the evaluator and the searcher raise.
        KeyboardInterrupt: after Ctrl-C, with all evaluations done so far on the disk.
    """
    folder, ray = Path(folder), ray or RaySettings()
    validate_ray_settings(ray)
    if not isinstance(budget, int) or budget < 1:
        raise CnetError(f"the budget of a search is {budget}; give at least 1 evaluation.")
    identity = describe_search(problem, evaluator, searcher, seed)
    with alone(folder, "search", "a search"):
        result = _begin(folder, identity, budget)
        if result is not None:
            return result
        evaluations_store = EvaluationStore(store or folder / "evaluations", evaluator.key())
        with ExitStack() as stack:
            name = name or folder.name
            if isinstance(searcher, UsesRay):
                searcher.start_ray(ray)
            measure = stack.enter_context(_measuring(evaluator, evaluations_store, ray, name))
            evaluations = Evaluations(problem, measure, budget, folder / TRACE)
            stack.enter_context(closing(evaluations))
            evaluations.observers += _observers(evaluations, folder, progress)
            if ray.workers or isinstance(searcher, UsesRay):
                from cnet_aihw.search.rllib.monitor import SearchMonitor  # needs Ray

                evaluations.observers.append(SearchMonitor(name, searcher.name))
            _search(searcher, evaluations, seed, folder)
        if evaluations.best is None:
            raise CnetError(f"the searcher {searcher.name} ended without any evaluation.")
        result = SearchResult.of(evaluations, searcher.name, seed)
        _write(folder, identity, budget, result)
    return result


def describe_search(
    problem: PlacementProblem, evaluator: PlacementEvaluator, searcher: Searcher, seed: int
) -> dict[str, Any]:
    """All that determines the course of a search, as plain values.

    Raises:
        CnetError: if the searcher is no dataclass, so that its settings are not known.
    """
    described = {
        "searcher": {"name": searcher.name, **_settings_of(searcher)},
        "seed": seed,
        "problem": problem.as_record(),
        "evaluator": {**evaluator.describe(), "key": evaluator.key()},
    }
    return cast(dict[str, Any], json.loads(json.dumps(described)))  # as the file gives it back


def _settings_of(searcher: object) -> dict[str, Any]:
    if not is_dataclass(searcher) or isinstance(searcher, type):
        raise CnetError(
            f"the searcher {searcher!r} is no dataclass object; make its class a dataclass whose "
            "fields are its settings, so that a folder can tell which search it holds."
        )
    return asdict(searcher)


def _search(searcher: Searcher, evaluations: Evaluations, seed: int, folder: Path) -> None:
    rng = np.random.default_rng(derive_seed("search", seed))
    try:
        searcher.search(evaluations.problem, evaluations, rng, folder)
    except BudgetSpent as reason:
        log.debug("The search ended: %s", reason)
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(
            f"the search was stopped after {evaluations.spent} of {evaluations.budget} "
            f"evaluations, which are kept; with the same folder, {folder}, it goes on."
        ) from interrupt
    evaluations.finish()


def _observers(evaluations: Evaluations, folder: Path, progress: bool) -> list[Observer]:
    curves = TensorBoardCurves(folder / "tensorboard", evaluations.problem)
    return [curves, ProgressLine(evaluations, progress)]


@contextmanager
def _measuring(
    evaluator: PlacementEvaluator, store: EvaluationStore, ray: RaySettings, name: str
) -> Iterator[Measure]:
    """What evaluates placements: this process, or worker processes."""
    if ray.workers:
        from cnet_aihw.search.rllib.workers import EvaluationWorkers  # needs Ray

        with EvaluationWorkers(evaluator, store, ray, name) as workers:
            yield workers.measure
        return

    def measure(placements: Sequence[Placement]) -> Iterator[tuple[Evaluation, bool]]:
        for placement in placements:
            yield store.measure(placement, evaluator)

    yield measure


def _begin(folder: Path, identity: dict[str, Any], budget: int) -> SearchResult | None:
    """Claim the folder, or check that it is this search's; the result where it is done."""
    path = folder / SEARCH
    if not path.exists():
        if (folder / TRACE).exists():
            raise CnetError(f"{folder / TRACE} is there without {SEARCH}; give another folder.")
        _write(folder, identity, budget, None)
        return None
    stored = read_json(path)
    try:
        check_same_run(stored["search"], identity, folder)
        earlier, record = stored["budget"], stored["result"]
    except KeyError as error:
        raise CnetError(f"{path} does not describe a search; give another folder.") from error
    if budget < earlier:
        raise CnetError(
            f"{folder} holds a search with a budget of {earlier} and now it is {budget}; give at "
            "least as much, or another folder."
        )
    if budget == earlier and record is not None:
        return SearchResult.from_record(record)
    if record is None:
        _write(folder, identity, budget, None)
    return None  # a result of a smaller budget stays until there is the larger one's


def _write(
    folder: Path, identity: dict[str, Any], budget: int, result: SearchResult | None
) -> None:
    record = None if result is None else result.as_record()
    write_json_atomic(folder / SEARCH, {"search": identity, "budget": budget, "result": record})
