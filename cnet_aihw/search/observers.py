"""Observers of a search: TensorBoard curves, and a line on the terminal."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from cnet_aihw.compensation import DIGITAL, size_given
from cnet_aihw.runtime.progress import progress_bar
from cnet_aihw.search.budgeted import Evaluations, TraceRow
from cnet_aihw.search.problem import Choice, PlacementProblem

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

DIGITAL_RATIO = -1.0
"""Height of a digital layer in the curves of ratios: below all of them. A size m has m + 1."""


class TensorBoardCurves:
    """Writes each evaluation as points of TensorBoard curves over the number of evaluations.

    Points of an earlier start of the search are not written again; those beyond the point where it
    resumes are purged.

    Args:
        folder: folder of the event files.
        problem: the placement problem.
    """

    def __init__(self, folder: Path, problem: PlacementProblem) -> None:
        self._folder = folder
        self._layers = [layer.name for layer in problem.layers]
        self._open: SummaryWriter | None = None

    def evaluated(self, row: TraceRow, evaluations: Evaluations) -> None:
        """Write one evaluation, unless it was replayed."""
        if row.evaluation <= evaluations.replayed:
            return
        best = evaluations.best
        assert best is not None
        points = {
            "reward": row.reward,
            "score/mean": row.score,
            "score/std": row.std,
            "score/q05": row.q05,
            "overhead/weights": row.overhead_weights,
            "overhead/macs": row.overhead_macs,
            "best/reward": best.reward,
            "best/score": best.score,
            "best/overhead_weights": best.overhead_weights,
        }
        for name in self._layers:
            points[f"ratio/{name}"] = _height(row.placement.get(name, 0.0))
            points[f"best_ratio/{name}"] = _height(best.placement.get(name, 0.0))
        writer = self._writer(row.evaluation)
        for tag, value in points.items():
            writer.add_scalar(tag, value, row.evaluation)
        writer.flush()

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Write further figures, unless they belong to evaluations that are being replayed."""
        if self._open is not None:
            for tag, value in values.items():
                self._open.add_scalar(f"searcher/{tag}", value, step)

    def close(self) -> None:
        """Close the event file."""
        if self._open is not None:
            self._open.close()

    def _writer(self, step: int) -> SummaryWriter:
        if self._open is None:
            from torch.utils.tensorboard import SummaryWriter  # slow to import

            self._open = SummaryWriter(str(self._folder), purge_step=step)
        return self._open


class ProgressLine:
    """Shows evaluations done, the best placement so far and the time left, on a terminal only.

    Args:
        evaluations: the search's evaluations.
        show: False shows nothing anywhere.
    """

    def __init__(self, evaluations: Evaluations, show: bool) -> None:
        self._open = ExitStack()
        bar = progress_bar("placements", evaluations.left, show=show)
        self._advance = self._open.enter_context(bar)
        self._shown = 0

    def evaluated(self, row: TraceRow, evaluations: Evaluations) -> None:
        """Show one evaluation; those replayed are shown with the first one that is not."""
        if row.evaluation <= evaluations.replayed:
            return
        assert evaluations.best is not None
        self._advance(row.evaluation - self._shown, best_so_far(evaluations.best))
        self._shown = row.evaluation

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Leave further figures to TensorBoard."""

    def close(self) -> None:
        """End the line."""
        self._open.close()


def best_so_far(best: TraceRow) -> str:
    """Return a few words on the best placement so far."""
    chosen = ", ".join(f"{name} {choice}" for name, choice in best.placement.items())
    return f"best {best.reward:.4f}: {chosen or 'no compensation'}"


def _height(choice: Choice) -> float:
    if choice == DIGITAL:
        return DIGITAL_RATIO
    size = size_given(choice)
    return float(choice) if size is None else size + 1.0  # above no compensation
