"""The course of a run: one JSON line per epoch, and the same numbers as TensorBoard curves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnet_aihw.runtime.records import append_record, read_records, write_records

EPOCHS = "epochs.jsonl"
_CURVES = {
    "loss": "loss/total",
    "cross_entropy": "loss/cross_entropy",
    "objective": "loss/objective",
    "penalty": "loss/penalty",
    "train_accuracy": "accuracy/train",
    "clean_accuracy": "accuracy/clean",
    "chip_accuracy": "accuracy/chips",
    "chip_std": "accuracy/chips_std",
    "lr": "lr",
}


class Journal:
    """Writes epochs.jsonl and the folder tensorboard.

    Args:
        folder: the run's folder.
        epoch: first epoch that is going to be written; what stands there of it and of later ones,
            from a run that was killed, is taken out.
    """

    def __init__(self, folder: Path, epoch: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # slow to import, and only needed here

        self.path = folder / EPOCHS
        records = read_records(self.path)
        kept = [record for record in records if record["epoch"] < epoch]
        if len(kept) < len(records):
            write_records(self.path, kept)
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=epoch or None)

    def write(
        self, record: Mapping[str, Any], norms: Mapping[str, float], lambda_: float | None
    ) -> None:
        """Write one epoch: its record with the layers' spectral norms, and lambda as a curve."""
        epoch = record["epoch"]
        curves = {tag: record[name] for name, tag in _CURVES.items() if name in record}
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
