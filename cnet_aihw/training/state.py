"""Where a run stands: what a checkpoint keeps beside the tensors."""

from dataclasses import asdict, dataclass
from typing import Any

from cnet_aihw.training.validation import Validation


@dataclass
class EpochSums:
    """Sums over the steps of an epoch."""

    samples: int = 0
    """Samples seen."""

    cross_entropy: float = 0.0
    """Cross entropy (or objective) summed over samples."""

    penalty: float = 0.0
    """Lipschitz penalty summed over samples."""

    correct: float = 0.0
    """Samples classified correctly while training."""

    seconds: float = 0.0
    """Time spent."""


@dataclass
class RunState:
    """Position of a run and what was best so far."""

    epoch: int
    """The epoch under way, from 0."""

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
        """The state before the first step."""
        return RunState(0, 0, EpochSums(), 0.0, None, None, False)

    def as_record(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @staticmethod
    def from_record(record: dict[str, Any]) -> "RunState":
        """The state that :meth:`as_record` described."""
        best, last = (
            None if record[name] is None else Validation(**record[name])
            for name in ("best", "last")
        )
        return RunState(
            **{**record, "sums": EpochSums(**record["sums"]), "best": best, "last": last}
        )
