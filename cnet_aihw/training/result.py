"""What a training run ends with."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cnet_aihw.runtime.errors import CnetError


class TrainingDiverged(CnetError):
    """The loss or the weights became NaN or infinite; the last good checkpoint is kept."""


@dataclass(frozen=True)
class TrainingResult:
    """The outcome of a run; accuracies are on the validation part, in [0, 1]."""

    folder: Path
    """Where checkpoints and records are."""

    name: str
    """What the run is called."""

    epochs: int
    """Epochs that were run."""

    stopped_early: bool
    """Whether the run stopped because the validation accuracy did not rise any more."""

    best_epoch: int
    """The epoch, from 0, whose weights are the result."""

    clean_accuracy: float
    """Clean validation accuracy of the result."""

    chip_accuracy: float | None
    """Mean validation accuracy on chips of the result; None where it was not measured."""

    chip_std: float | None
    """Standard deviation over those chips; None where not measured, or for one chip."""

    lambda_: float | None
    """Singular value that the Lipschitz penalty pulled to; None without the penalty."""

    seconds: float
    """Time spent training and validating, over all starts of the run."""

    def as_record(self) -> dict[str, Any]:
        """All fields as plain values; the folder's own place is left out."""
        record = asdict(self)
        del record["folder"]
        return record

    @staticmethod
    def from_record(record: dict[str, Any], folder: Path) -> "TrainingResult":
        """The result that :meth:`as_record` described."""
        return TrainingResult(folder=folder, **record)
