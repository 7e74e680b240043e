"""Position of a run, kept in checkpoints beside the tensors, and its result."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.training.validation import Validation


@dataclass
class EpochSums:
    """Sums over the steps of an epoch."""

    samples: int = 0
    """Samples seen."""

    fit: float = 0.0
    """The task's loss (or the objective) summed over samples."""

    penalty: float = 0.0
    """Lipschitz penalty summed over samples."""

    score: float = 0.0
    """The batches' scores while training, summed over samples."""

    unscored: int = 0
    """Samples of batches whose score is not a number; they do not count in the mean score."""

    seconds: float = 0.0
    """Time spent."""


@dataclass
class RunState:
    """Position of a run and its best epoch so far."""

    epoch: int
    """Epoch under way, from 0."""

    step: int
    """Steps of that epoch that are done."""

    sums: EpochSums
    """Sums over those steps."""

    seconds: float
    """Time spent in the epochs before."""

    best: Validation | None
    """The best epoch so far."""

    last: Validation | None
    """The epoch before."""

    stopped_early: bool
    """Whether patience ran out."""

    @staticmethod
    def start() -> "RunState":
        """Return the state before the first step."""
        return RunState(0, 0, EpochSums(), 0.0, None, None, False)

    def as_record(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @staticmethod
    def from_record(record: dict[str, Any]) -> "RunState":
        """Return the state that :meth:`as_record` described."""
        best, last = (
            None if record[name] is None else Validation(**record[name])
            for name in ("best", "last")
        )
        return RunState(
            **{**record, "sums": EpochSums(**record["sums"]), "best": best, "last": last}
        )


class TrainingDiverged(CnetError):
    """The loss or the weights became NaN or infinite; the last good checkpoint is kept."""


def diverged(name: str, where: str, what: str, value: float, checkpoint: Path) -> TrainingDiverged:
    """Return the error for a loss, a penalty or weights that are not finite.

    Args:
        name: name of the run.
        where: step and epoch.
        what: what is not finite: "weights", "penalty" or the name of the loss.
        value: its value.
        checkpoint: the checkpoint that is kept.
    """
    found = "weights are not finite" if what == "weights" else f"{what} is {value}"
    fix = "a lower lr or beta, or grad_clip, in another folder may help"
    return TrainingDiverged(
        f"training {name!r} diverged at {where}: the {found.replace('_', ' ')}; the last good "
        f"checkpoint is kept in {checkpoint}, and {fix}.",
        key=what,
        value=value,
        expected="a finite number",
        fix=fix,
    )


@dataclass(frozen=True)
class TrainingResult:
    """Outcome of a run; scores are on the validation part."""

    folder: Path
    """Where checkpoints and records are."""

    name: str
    """Name of the run."""

    epochs: int
    """Epochs that were run."""

    stopped_early: bool
    """Whether the run stopped because the validation score got no better any more."""

    best_epoch: int
    """The epoch, from 0, whose weights are the result; -1 without training."""

    metric: str
    """Name of the score."""

    clean_score: float
    """Clean validation score of the result."""

    chip_score: float | None
    """Mean validation score on chips of the result; None where it was not measured."""

    chip_std: float | None
    """Standard deviation over those chips; None where not measured, or for one chip."""

    lambda_: float | None
    """Singular value that the Lipschitz penalty pulled to; None without the penalty."""

    seconds: float
    """Time spent training and validating, over all starts of the run."""

    def as_record(self) -> dict[str, Any]:
        """Return all fields as plain values; the folder's own place is left out."""
        record = asdict(self)
        del record["folder"]
        return record

    @staticmethod
    def from_record(record: dict[str, Any], folder: Path) -> "TrainingResult":
        """Return the result that :meth:`as_record` described.

        Raises:
            CnetError: if it lacks a value, or has one more.
        """
        try:
            return TrainingResult(folder=folder, **record)
        except TypeError as error:
            fix = "delete the folder, to train again"
            expected = "the values of a finished training"
            message = f"result.json in {folder} is damaged: it does not hold {expected}; {fix}."
            raise CnetError(message, key=str(folder), expected=expected, fix=fix) from error
