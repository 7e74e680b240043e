"""One chip programmed, calibrated, measured and restored; what all measurements on chips share."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from aihwkit.inference.noise.base import BaseNoiseModel
from torch import Tensor, nn

from cnet_aihw.evaluation.metrics import evaluation_mode, pass_over
from cnet_aihw.evaluation.settings import EvaluationSettings
from cnet_aihw.rram import analog_layers, check_times, nominal_inside, programmed
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.locks import alone
from cnet_aihw.runtime.random_state import derive_seed, forked_random_state, seed_random_state
from cnet_aihw.runtime.records import read_records
from cnet_aihw.runtime.torch_device import moved_to

if TYPE_CHECKING:
    from cnet_aihw.evaluation.calibration import ChipCalibration


def check_nominal(model: nn.Module) -> None:
    """Check that a model is analog and holds its nominal weights.

    Raises:
        CnetError: when it is not converted, or a chip is programmed.
    """
    analog_layers(model)  # says to convert first, where there is none


def check_times_known(
    model: nn.Module, noise_model: BaseNoiseModel | None, times: Iterable[float | None]
) -> None:
    """Check that the chips' noise model knows its device at these times.

    Raises:
        CnetError: for the first time that it does not know.
    """
    for layer in analog_layers(model).values():
        for tile in layer.analog_tiles():
            check_times(noise_model or tile.rpu_config.noise_model, times)


@contextmanager
def measuring(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Evaluation mode on ``device`` inside the block.

    Afterwards weights, modes, device and torch's random state are as before.
    """
    with (
        nominal_inside(model),
        moved_to(model, device),
        evaluation_mode(model),
        forked_random_state(device),
    ):
        yield


def measure_clean(model: nn.Module, x: Tensor, y: Tensor, seed: int, batch_size: int) -> float:
    """The clean accuracy, with a periphery's noise that belongs to ``seed``."""
    seed_random_state(derive_seed(seed, "clean"), x.device)
    return pass_over(model, x, y, batch_size)[1]


def measure_chip(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    settings: EvaluationSettings,
    chip: int,
    t_inference: float | None,
    noise_model: BaseNoiseModel | None,
    *,
    layers: Collection[str] | None = None,
    calibration: ChipCalibration | None = None,
) -> dict[str, Any]:
    """Program one chip (only ``layers`` where given), calibrate, measure, restore; its record.

    Raises:
        CnetError: when its outputs are not finite.
    """
    start = time.perf_counter()
    chip_seed = derive_seed(settings.seed, chip)
    with programmed(model, chip_seed, noise_model, t_inference, layers):
        seed_random_state(derive_seed(chip_seed, "calibration"), x.device)
        with nullcontext() if calibration is None else calibration(model):
            seed_random_state(derive_seed(chip_seed, "read noise"), x.device)
            loss, accuracy = pass_over(model, x, y, settings.batch_size)
    if not math.isfinite(loss):
        raise CnetError(
            f"Chip {chip} (seed {chip_seed}) gives outputs that are not finite (loss {loss}); "
            "check the weights and the data, or choose a smaller variation."
        )
    record: dict[str, Any] = {"chip": chip, "seed": chip_seed, "accuracy": accuracy, "loss": loss}
    if t_inference is not None:
        record["t_inference"] = t_inference
    if calibration is not None:
        record["calibration"] = calibration.label()
    return {**record, "seconds": time.perf_counter() - start}


def record_key(parts: Mapping[str, str]) -> str:
    """The key of a records file: the first 16 digits of each part's fingerprint."""
    return ";".join(f"{name}={print_[:16]}" for name, print_ in parts.items())


def known_records(path: Path, key: str) -> list[dict[str, Any]]:
    """The records that a file holds already.

    Raises:
        CnetError: when one has another key; the message says in what it differs.
    """
    records = read_records(path)
    for number, record in enumerate(records, start=1):
        found = record.get("key")
        if found != key:
            raise CnetError(
                f"{path} line {number} was measured with another {_first_difference(found, key)}; "
                "give another records file, or delete this one."
            )
    return records


def writing(records: str | Path | None, todo: int) -> AbstractContextManager[None]:
    """Refuse what is left to be measured where another process writes the same records.

    Raises:
        CnetError: if another one does, or the folder cannot be written to.
    """
    if records is None or not todo:
        return nullcontext()
    path = Path(records)
    return alone(path.parent, path.name, f"a measurement for {path.name}")


def _first_difference(found: object, key: str) -> str:
    """The name of the first part in which two keys differ."""
    if not isinstance(found, str):
        return "kind of measurement"
    old, new = (dict(part.split("=") for part in k.split(";") if "=" in part) for k in (found, key))
    return next(name for name in {**new, **old} if old.get(name) != new.get(name))
