"""How evaluators measure a compensated network: always the same chips and samples."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from aihwkit.inference.noise.base import BaseNoiseModel
from torch import Tensor, nn

from cnet_aihw.evaluation.calibration import ChipCalibration
from cnet_aihw.evaluation.chip_identity import chip_fingerprints
from cnet_aihw.evaluation.chip_run import check_times_known, measure_chip, measuring
from cnet_aihw.evaluation.metrics import Samples, check_samples, pass_over, samples_on
from cnet_aihw.evaluation.settings import EvaluationSettings, validate_evaluation_settings
from cnet_aihw.rram import find_analog_layers
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.torch_device import resolve_device


class ChipMeasurement:
    """Measures networks on the same chips and samples each time, with what `evaluate_chips` gives.

    Args:
        model: the network without compensation, for what can be checked beforehand.
        data: labelled samples.
        chips: how many chips.
        seed: seed of the chips' seeds.
        samples: how many samples, the first ones; None, or more than there are: all.
        batch_size: samples a forward pass takes at once.
        noise_model: noise model of the chips; None: the network's own.
        t_inference: seconds between programming and measuring; None: just programmed.
        calibration: what is calibrated on each chip before it is measured.
        device: "auto" (CUDA when there), or any device of torch; the same kind in all processes.
        threads: threads that torch computes with, since results can depend on them in their last
            bits.

    Raises:
        CnetError: for a value that cannot be.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Samples,
        *,
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
            if value is not None and value < 1:
                raise CnetError(f"{name} is {value}; give a whole number of at least 1.")
        if t_inference is not None and not isinstance(t_inference, int | float):
            raise CnetError(
                f"t_inference is {t_inference}; placements are valued at one time, in seconds."
            )
        check_times_known(model, noise_model, [t_inference])
        x, y = check_samples((data.x[:samples], data.y[:samples]))
        self.x, self.y = x.detach().cpu().clone(), y.detach().cpu().clone()  # no view of all
        self.noise_model, self.calibration = noise_model, calibration
        self.t_inference, self.threads = t_inference, threads
        self.device = resolve_device(device).type
        self._prepared: tuple[Tensor, Tensor] | None = None

    def describe(self, model: nn.Module) -> dict[str, Any]:
        """All that determines what is measured, for the network without compensation."""
        settings, calibration = self.settings, self.calibration
        prints = chip_fingerprints(
            model, self.noise_model, (self.x, self.y), settings.seed, settings.batch_size
        )
        return {
            **prints,
            "seed": settings.seed,
            "chips": settings.chips,
            "samples": len(self.x),
            "t_inference": self.t_inference,
            "calibration": None if calibration is None else calibration.fingerprint(),
            "device": self.device,
            "threads": self.threads,
        }

    def accuracies(self, model: nn.Module) -> tuple[float, ...]:
        """Measure a network, chip 0 first; it is as before afterwards.

        Raises:
            CnetError: for a chip whose outputs are not finite.
        """
        device = resolve_device(self.device)
        with torch_threads(self.threads), measuring(model, device):
            if self._prepared is None:
                self._prepared = samples_on(device, (self.x, self.y))
            x, y = self._prepared
            if not find_analog_layers(model):  # all of it digital: every chip is the same
                return (pass_over(model, x, y, self.settings.batch_size)[1],) * self.settings.chips
            return tuple(
                measure_chip(
                    model, x, y, self.settings, chip, self.t_inference, self.noise_model,
                    calibration=self.calibration,
                )["accuracy"]
                for chip in range(self.settings.chips)
            )  # fmt: skip

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what each process prepares for itself."""
        return {**self.__dict__, "_prepared": None}


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Let torch compute with so many threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
