"""Journal of a run: one JSON line per epoch, and the same numbers as TensorBoard curves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnet_aihw.runtime.epochs import read_epochs
from cnet_aihw.runtime.records import append_record, read_records, write_records
from cnet_aihw.training.settings import TrainingSettings
from cnet_aihw.training.state import RunState

EPOCHS = "epochs.jsonl"


class Journal:
    """Writes epochs.jsonl and the folder tensorboard.

    Args:
        folder: the run's folder.
        epoch: first epoch that is going to be written; records of it and of later ones, from a run
            that was killed, are taken out.

    Raises:
        CnetError: where the file is there, and damaged.
    """

    def __init__(self, folder: Path, epoch: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # slow to import, and only needed here

        self.path = folder / EPOCHS
        kept = read_epochs(self.path, epoch)
        if len(kept) < len(read_records(self.path)):
            write_records(self.path, kept)
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=epoch or None)

    def write(
        self, record: Mapping[str, Any], norms: Mapping[str, float], lambda_: float | None
    ) -> None:
        """Write one epoch: its record with the layers' spectral norms, and lambda as a curve."""
        epoch = record["epoch"]
        metric = record["metric"]
        curves = {
            "loss/total": record["loss"],
            f"loss/{record['loss_name']}": record["fit"],
            "loss/penalty": record["penalty"],
            f"{metric}/train": record["train_score"],
            f"{metric}/clean": record["clean_score"],
            f"{metric}/chips": record["chip_score"],
            f"{metric}/chips_std": record["chip_std"],
            "lr": record["lr"],
        }
        curves |= {f"spectral_norm/{name}": norm for name, norm in norms.items()}
        curves["spectral_norm/lambda"] = lambda_
        for tag, value in curves.items():
            if value is not None:
                self._writer.add_scalar(tag, value, epoch)
        self._writer.flush()
        append_record(self.path, {**record, "spectral_norms": dict(norms)})

    def close(self) -> None:
        """Close the TensorBoard file."""
        self._writer.close()


def epoch_record(
    settings: TrainingSettings, state: RunState, metric: str, loss_name: str, lr: float
) -> dict[str, Any]:
    """Return the record of the epoch that has been validated last.

    Args:
        settings: how it was trained.
        state: the sums over its steps, and its validation.
        metric: name of the score.
        loss_name: name of the loss.
        lr: learning rate of its last step.
    """
    sums, validation = state.sums, state.last
    assert validation is not None
    fit, scored = sums.fit / sums.samples, sums.samples - sums.unscored
    penalty = sums.penalty / sums.samples if settings.lipschitz.enabled else None
    return {
        "epoch": state.epoch,
        "loss": fit + settings.lipschitz.beta * (penalty or 0.0),
        "fit": fit,
        "loss_name": loss_name,
        "penalty": penalty,
        "metric": metric,
        "train_score": sums.score / scored if scored else None,
        "clean_score": validation.clean_score,
        "chip_score": validation.chip_score,
        "chip_std": validation.chip_std,
        "lr": lr,
        "seconds": sums.seconds,
    }
