"""Measurement of compensated networks, always on the same chips and samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cached_property
from typing import Any

import torch
from aihwkit.inference.noise.base import BaseNoiseModel
from torch import nn

from cnet_aihw.compensation import Corrector, Placement, compensate, remove_compensation
from cnet_aihw.evaluation.calibration import ChipCalibration
from cnet_aihw.evaluation.chip_identity import chip_provenance
from cnet_aihw.evaluation.chip_run import (
    MeasuredChip,
    check_times_known,
    measure_clean,
    measuring,
    walk_chips,
)
from cnet_aihw.evaluation.measurement import Measurement, Score
from cnet_aihw.evaluation.settings import EvaluationSettings, validate_evaluation_settings
from cnet_aihw.rram import find_analog_layers
from cnet_aihw.runtime.device_parts import placed
from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.runtime.inputs import map_tensors
from cnet_aihw.runtime.parts import Part, TensorPart, as_part, gathered
from cnet_aihw.runtime.provenance import provenance_key
from cnet_aihw.runtime.torch_device import resolve_device
from cnet_aihw.runtime.values import check_count, is_number
from cnet_aihw.tasks import Task


class ChipMeasurement:
    """Measures networks on the same chips and samples each time, as ``evaluate_chips`` does.

    Args:
        model: the network without compensation, for what can be checked beforehand.
        data: labelled samples, as :func:`~cnet_aihw.runtime.parts.as_part` takes them.
        task: loss and score; None: classification.
        chips: number of chips.
        seed: seed of the chips' seeds.
        samples: number of samples, the first ones; None, or more than there are: all. They are
            kept in memory.
        batch_size: samples of a forward pass.
        noise_model: noise model of the chips; None: the network's own.
        t_inference: seconds between programming and measuring; None: just programmed.
        calibration: calibration of each chip before it is measured.
        device: "auto", "cpu" or a CUDA device; the same type in all processes.
        threads: threads that torch computes with, since results can depend on them in their last
            bits.

    Raises:
        CnetError: for an impossible value.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Any,
        *,
        task: Task | None,
        chips: int,
        seed: int,
        samples: int | None,
        batch_size: int,
        noise_model: BaseNoiseModel | None,
        t_inference: float | None,
        calibration: ChipCalibration | None,
        device: str | torch.device,
        threads: int,
    ) -> None:
        self.settings = EvaluationSettings(chips, seed, batch_size, None, t_inference)
        validate_evaluation_settings(self.settings)
        for name, value in (("samples", samples), ("threads", threads)):
            if value is not None:
                check_count(name, value)
        if t_inference is not None and not is_number(t_inference):
            raise bad_value("t_inference", t_inference, "one time in seconds, or None")
        check_times_known(model, noise_model, [t_inference])
        self.part = _in_memory(as_part(data), samples)
        self.measurement = Score(task)
        self.noise_model, self.calibration = noise_model, calibration
        self.t_inference, self.threads = t_inference, threads
        self.device = str(resolve_device(device))
        self._placed: Part | None = None

    def describe(self, model: nn.Module) -> dict[str, Any]:
        """Return all that determines the scores of the network without compensation."""
        settings = self.settings
        made_from = chip_provenance(
            model,
            self.part,
            self.measurement,
            noise_model=self.noise_model,
            calibration=self.calibration,
            seed=settings.seed,
            batch_size=settings.batch_size,
            device=torch.device(self.device),
        )
        return {
            **made_from,
            "metric": self.measurement.task.metric,
            "chips": settings.chips,
            "samples": len(self.part),
            "t_inference": self.t_inference,
            "threads": self.threads,
        }

    def scores(self, model: nn.Module) -> tuple[float | None, ...]:
        """Measure a network, chip 0 first; it is as before afterwards.

        A chip without finite outputs has None.
        """
        measured = self._on_chips(model, self.measurement)
        return tuple(None if m.failed else m.values["score"] for m in measured)

    def visit(self, model: nn.Module, measurement: Measurement) -> None:
        """Do something else than measuring on each chip, calibrated, chip 0 first."""
        self._on_chips(model, measurement)

    def _on_chips(self, model: nn.Module, measurement: Measurement) -> list[MeasuredChip]:
        device, settings = resolve_device(self.device), self.settings
        with torch_threads(self.threads), measuring(model, device):
            if self._placed is None:
                self._placed = placed(self.part, device)
            chips = [(chip, self.t_inference) for chip in range(settings.chips)]
            if not find_analog_layers(model):  # all of it digital: every chip is the same
                values = measure_clean(
                    model, self._placed, measurement, settings.seed, settings.batch_size
                )
                return [MeasuredChip(chip, 0, values, t, None, None, 0.0) for chip, t in chips]
            return list(
                walk_chips(
                    model,
                    self._placed,
                    measurement,
                    chips,
                    seed=settings.seed,
                    batch_size=settings.batch_size,
                    noise_model=self.noise_model,
                    calibration=self.calibration,
                )
            )

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what belongs to this process: placed samples, the number of a GPU."""
        return {
            **self.__dict__,
            "_placed": None,
            "device": torch.device(self.device).type,
        }


class ResidentModel:
    """A network without compensation that stays on the device, and is compensated for a while.

    Args:
        model: the network; copied.
        corrector: kind of corrector.
        device: where it stays.
    """

    def __init__(self, model: nn.Module, corrector: Corrector, device: str) -> None:
        self.base, self.corrector, self.device = model, corrector, device
        self._resident: nn.Module | None = None

    @contextmanager
    def compensated(self, placement: Placement, seed: int = 0) -> Iterator[nn.Module]:
        """Compensate the network inside the block.

        Args:
            placement: the placement.
            seed: seed of the correctors' first weights.

        Yields:
            The network, on the device; only its compensation may be changed.
        """
        if self._resident is None:
            self._resident = deepcopy(self.base).to(self.device)
        model, self._resident = self._resident, None  # kept only if the block ends well
        yield compensate(model, placement, self.corrector, seed)
        self._resident = remove_compensation(model).eval()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what belongs to this process."""
        return {
            **self.__dict__,
            "_resident": None,
            "device": torch.device(self.device).type,
        }


class MeasuringEvaluator(ABC):
    """Base of evaluators: a resident network, its measurement, and a key made of both.

    Args:
        measurement: measures compensated networks.
        network: the network without compensation.
    """

    def __init__(self, measurement: ChipMeasurement, network: ResidentModel) -> None:
        self._measurement, self._network = measurement, network

    @property
    def device(self) -> str:
        """Device of measurements in this process."""
        return self._measurement.device

    def key(self) -> str:
        """Return the SHA-256 (hex) of all that determines a value but the placement."""
        return self._key

    def describe(self) -> dict[str, Any]:
        """Return the same as plain values, for records."""
        return deepcopy(self._described)

    @abstractmethod
    def evaluate(self, placement: Placement) -> tuple[float | None, ...]:
        """Return the score of each chip, chip 0 first.

        Raises:
            CnetError: for a placement that the network cannot take.
        """

    @abstractmethod
    def _describe(self) -> dict[str, Any]:
        """Return kind and settings of the evaluator, without its measurement."""

    @cached_property
    def _described(self) -> dict[str, Any]:
        return {
            **self._describe(),
            "measurement": self._measurement.describe(self._network.base),
        }

    @cached_property
    def _key(self) -> str:
        return provenance_key(self._described)


def _in_memory(part: Part, samples: int | None) -> TensorPart:
    """Copy the first samples of a part into memory of their own."""
    some = gathered(part.first(samples))
    copies = map_tensors(some.x, lambda tensor: tensor.detach().cpu().clone())
    return TensorPart(copies, some.y.detach().cpu().clone())


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Let torch compute with so many threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
