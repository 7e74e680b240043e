"""The loop over chips: each one programmed, calibrated and measured; all measurements share it."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from aihwkit.inference.noise.base import BaseNoiseModel
from torch import nn

from cnet_aihw.evaluation.calibration import ChipCalibration
from cnet_aihw.evaluation.first_batch import check_first_batch
from cnet_aihw.evaluation.measurement import Measurement, Score
from cnet_aihw.evaluation.metrics import evaluation_mode
from cnet_aihw.rram import (
    acts_with_time,
    analog_layers,
    check_times,
    named_tiles,
    nominal_inside,
    programmed,
)
from cnet_aihw.rram.programming import check_programmable
from cnet_aihw.runtime.determinism import deterministic
from cnet_aihw.runtime.device_parts import placed
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.locks import alone
from cnet_aihw.runtime.parts import Part, as_part
from cnet_aihw.runtime.random_state import derive_seed, forked_random_state, seed_random_state
from cnet_aihw.runtime.torch_device import device_of, moved_to
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import MOST_CHIPS, check_count, check_seed, is_number, is_whole


@dataclass(frozen=True)
class MeasuredChip:
    """One chip and what was measured on it."""

    chip: int
    """Number of the chip, from 0."""

    seed: int
    """The chip's seed."""

    values: dict[str, float]
    """Results of the measurement."""

    t_inference: float | None
    """Seconds between programming and measuring; None: just programmed."""

    calibration: str | None
    """Label of what was calibrated on the chip; None: nothing."""

    calibration_cost: dict[str, float] | None
    """Cost of that, such as images, passes and seconds; None where it is not counted."""

    seconds: float
    """Time that it took."""

    @property
    def failed(self) -> bool:
        """Say whether any value is not finite."""
        return not all(map(math.isfinite, self.values.values()))

    def as_record(self) -> dict[str, Any]:
        """Return plain values; those of a failed chip are None where they are not finite."""
        values = {n: v if math.isfinite(v) else None for n, v in self.values.items()}
        if self.failed and "score" in values:
            values["score"] = None  # a score of outputs that are not finite means nothing
        record: dict[str, Any] = {"chip": self.chip, "seed": self.seed, **values}
        if self.failed:
            record["failed"] = True
        if self.t_inference is not None:
            record["t_inference"] = self.t_inference
        if self.calibration is not None:
            record["calibration"] = self.calibration
        if self.calibration_cost is not None:
            record["calibration_cost"] = self.calibration_cost
        return {**record, "seconds": self.seconds}


@checked
def measured_chips(
    model: nn.Module,
    data: Any,
    measurement: Measurement,
    chips: int | Iterable[tuple[int, float | None]],
    *,
    seed: int = 0,
    batch_size: int = 250,
    noise_model: BaseNoiseModel | None = None,
    calibration: ChipCalibration | None = None,
    layers: Collection[str] | None = None,
) -> Iterator[MeasuredChip]:
    """Program, calibrate and measure chip after chip; the first batch is checked at the call.

    Chip i has a seed of its own, derived from ``seed`` and i, for its weights, for its calibration
    and for the noise of its periphery; so neither order nor what was measured before changes a
    result. Between two chips the model is as it was before.

    Args:
        model: converted model, measured where it is.
        data: inputs and targets, as :func:`~cnet_aihw.runtime.parts.as_part` takes them.
        measurement: what is done on each chip.
        chips: how many chips, just programmed; or number and seconds after programming of each.
        seed: seed of the chips' seeds.
        batch_size: samples a forward pass takes at once.
        noise_model: noise model of the chips; None: the model's own.
        calibration: what is calibrated on each chip before it is measured.
        layers: names of the layers that vary; None: all.

    Returns:
        An iterator over the chips in the order asked for; also those whose outputs are not finite,
        as failed.

    Raises:
        CnetError: for impossible arguments, a model without analog layers or with none that its
            forward calls, and data or targets that do not fit.
    """
    todo = _asked(chips)
    check_count("batch_size", batch_size)
    check_seed("seed", seed)
    check_times_known(model, noise_model, [time for _, time in todo])
    device = device_of(model)
    part = placed(as_part(data), device)
    with measuring(model, device):
        check_first_batch(model, part, measurement.task if isinstance(measurement, Score) else None)
    return walk_chips(
        *(model, part, measurement, todo),
        seed=seed,
        batch_size=batch_size,
        noise_model=noise_model,
        calibration=calibration,
        layers=layers,
    )


def _asked(chips: int | Iterable[tuple[int, float | None]]) -> list[tuple[int, float | None]]:
    """Return number and time of each chip asked for."""
    if isinstance(chips, Iterable):
        asked = list(chips)
        for one in asked:
            pair = one if isinstance(one, tuple | list) and len(one) == 2 else (None, None)
            number, time = pair
            fits = is_whole(number) and number >= 0
            if not fits or not (time is None or (is_number(time) and time >= 0)):
                expected = "pairs of a chip's number and its time in seconds, or None"
                raise bad_value("chips", one, expected)
        return asked
    check_count("chips", chips, most=MOST_CHIPS)
    return [(chip, None) for chip in range(chips)]


def walk_chips(
    model: nn.Module,
    part: Part,
    measurement: Measurement,
    todo: Iterable[tuple[int, float | None]],
    *,
    seed: int,
    batch_size: int,
    noise_model: BaseNoiseModel | None = None,
    calibration: ChipCalibration | None = None,
    layers: Collection[str] | None = None,
) -> Iterator[MeasuredChip]:
    """Yield the chips of :func:`measured_chips`; model and data have been checked.

    Args:
        model: converted model.
        part: the data, on the model's device.
        measurement: what is done on each chip.
        todo: number and seconds after programming of each chip.
        seed: seed of the chips' seeds.
        batch_size: samples a forward pass takes at once.
        noise_model: as there.
        calibration: as there.
        layers: as there.
    """
    device = device_of(model)
    for chip, t_inference in todo:
        start = time.perf_counter()
        chip_seed = derive_seed(seed, chip)
        with (
            measuring(model, device),
            programmed(model, chip_seed, noise_model, t_inference, layers),
        ):
            seed_random_state(derive_seed(chip_seed, "calibration"), device)
            with nullcontext() if calibration is None else calibration(model):
                seed_random_state(derive_seed(chip_seed, "read noise"), device)
                values = measurement(model, part, batch_size)
        label = None if calibration is None else calibration.label()
        spent: Any = getattr(calibration, "spent", None)
        seconds = time.perf_counter() - start
        yield MeasuredChip(
            *(chip, chip_seed, values, t_inference, label),
            calibration_cost=None if spent is None else asdict(spent),
            seconds=seconds,
        )


def mean_calibration_cost(
    records: Iterable[Mapping[str, Any]], chips: int
) -> dict[str, float] | None:
    """Return the mean cost of calibrating a chip; None where no record has any.

    Args:
        records: records of chips.
        chips: how many chips count, the first ones.
    """
    costs = (r.get("calibration_cost") for r in records if r["chip"] < chips)
    found = [cost for cost in costs if cost is not None]
    if not found:
        return None
    return {name: math.fsum(c[name] for c in found) / len(found) for name in found[0]}


@contextmanager
def measuring(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Keep a model in evaluation mode, without a chip, on ``device`` inside the block.

    There CUDA computes deterministically and without TF32. Afterwards modes, device, torch's random
    state and the chip that was programmed, if any, are as before.
    """
    with (
        nominal_inside(model),
        moved_to(model, device),
        evaluation_mode(model),
        forked_random_state(device),
        deterministic(device, tf32=False),
    ):
        yield


def measure_clean(
    model: nn.Module, part: Any, measurement: Measurement, seed: int, batch_size: int
) -> dict[str, float]:
    """Measure the clean network, with a periphery's noise that belongs to ``seed``.

    Raises:
        CnetError: if its outputs are not finite, because then no chip's can be.
    """
    seed_random_state(derive_seed(seed, "clean"), device_of(model))
    values = measurement(model, part, batch_size)
    for name, value in values.items():
        if not math.isfinite(value):
            raise CnetError(
                f"the clean network gives a {name} of {value}, without any variation; check the "
                "weights and the data.",
                key=name,
                value=value,
                expected="a finite number",
                fix="check the weights and the data",
            )
    return values


def check_times_known(
    model: nn.Module, noise_model: BaseNoiseModel | None, times: Iterable[float | None]
) -> None:
    """Check that tiles can be programmed, and that the noise model knows these times.

    Raises:
        CnetError: for tiles of training, and for the first time that is not known.
    """
    times = list(times)
    analog_layers(model)  # says to convert first, where there is none
    for name, tile in named_tiles(model):
        check_programmable(name, tile)
        check_times(noise_model or tile.rpu_config.noise_model, times)


def warn_of_equal_times(
    model: nn.Module, noise_model: BaseNoiseModel | None, times: Sequence[float | None]
) -> None:
    """Say so where chips are to be measured at several times, but do not change with time."""
    models = (noise_model or tile.rpu_config.noise_model for _, tile in named_tiles(model))
    if len(times) > 1 and not any(map(acts_with_time, models)):
        warnings.warn(
            f"the devices do not change with time, so that chips are the same at all {len(times)} "
            "times; one time is enough.",
            stacklevel=4,
        )


def writing(records: str | Path | None, todo: int) -> AbstractContextManager[None]:
    """Refuse to measure where another process writes the same records.

    Args:
        records: the records file; None: nothing is written.
        todo: how many measurements are left; with none nothing is written either.

    Raises:
        CnetError: if another process does, or the folder cannot be written to.
    """
    if records is None or not todo:
        return nullcontext()
    path = Path(records)
    return alone(path.parent, path.name, f"a measurement for {path.name}")
