"""The evaluator that fits each placement: slow, and what the others are judged by."""

from __future__ import annotations

import tempfile
from copy import deepcopy
from functools import cached_property
from typing import Any

import torch
from aihwkit.inference.noise.base import BaseNoiseModel
from torch import nn

from cnet_aihw.compensation import (
    CompensationVariant,
    FitSettings,
    Placement,
    compensate,
    compensation_parameters,
)
from cnet_aihw.compensation.variants import DEFAULT
from cnet_aihw.evaluation.calibration import ChipCalibration
from cnet_aihw.search.evaluators.chips import ChipMeasurement
from cnet_aihw.search.evaluators.short_fit import ShortFit, bare, key_of
from cnet_aihw.search.evaluators.supernet import CompensationSupernet
from cnet_aihw.training.run_identity import TrainingData


class FitEvaluator:
    """Fits the compensation of each placement for some steps and measures it on chips.

    All placements see the same training samples, the same chips in the fit and the same chips and
    validation samples afterwards, so that what differs is the placement.

    Args:
        model: trained analog network without compensation; copied.
        data: its parts ``train`` and ``val`` and its augmentation.
        variant: how generators and compensators are built.
        fit: how to fit; epochs, selection and validation do not count.
        steps: optimizer steps for each placement; see :class:`ShortFit` on which samples.
        start: the shared compensation that a fit starts from; None: the identity.
        chips: how many chips.
        seed: seed of the chips' seeds.
        samples: how many validation samples, the first ones; None, or more than there are: all.
        batch_size: samples a forward pass takes at once.
        noise_model: noise model of the chips measured; None: the network's own.
        t_inference: seconds between programming and measuring; None: just programmed.
        calibration: what is calibrated on each chip before it is measured.
        device: "auto" (CUDA when there), or any device of torch; the same kind in all processes.
        threads: threads that torch computes with; part of the key, since results can depend on
            it in their last bits.

    Raises:
        CnetError: for a value that cannot be, or a model that is compensated or programmed.
    """

    def __init__(
        self,
        model: nn.Module,
        data: TrainingData,
        *,
        variant: CompensationVariant = DEFAULT,
        fit: FitSettings | None = None,
        steps: int = 300,
        start: CompensationSupernet | None = None,
        chips: int = 10,
        seed: int = 0,
        samples: int | None = 1000,
        batch_size: int = 250,
        noise_model: BaseNoiseModel | None = None,
        t_inference: float | None = None,
        calibration: ChipCalibration | None = None,
        device: str | torch.device = "auto",
        threads: int = 1,
    ) -> None:
        self._model, self._variant, self._start = bare(model), variant, start
        self._fit = ShortFit(data, fit or FitSettings(), steps, device, threads)
        self._measurement = ChipMeasurement(
            model, data.val, chips=chips, seed=seed, samples=samples, batch_size=batch_size,
            noise_model=noise_model, t_inference=t_inference, calibration=calibration,
            device=device, threads=threads,
        )  # fmt: skip

    def key(self) -> str:
        """SHA-256 (hex) of all that determines a value but the placement."""
        return self._key

    def describe(self) -> dict[str, Any]:
        """The same as plain values, for records."""
        return deepcopy(self._description)

    def evaluate(self, placement: Placement) -> tuple[float, ...]:
        """Fit and measure; returns the accuracy of each chip in [0, 1], chip 0 first.

        A placement without any ratio above 0 needs no fit.

        Raises:
            CnetError: for a placement that the network (or the shared compensation) cannot take.
            TrainingDiverged: when the fit's loss or weights become NaN or infinite.
        """
        model = compensate(deepcopy(self._model), placement, self._variant, self._fit.settings.seed)
        if compensation_parameters(model):
            if self._start is not None:
                self._start.put_into(model)
            with tempfile.TemporaryDirectory(prefix="cnet-fit-") as folder:
                self._fit.run(model, folder)
        return self._measurement.accuracies(model)

    @cached_property
    def _description(self) -> dict[str, Any]:
        return {
            "evaluator": "fit",
            "version": 1,
            "variant": self._variant.label(),
            "start": "identity" if self._start is None else self._start.key(),
            "fit": self._fit.describe(self._model),
            "measurement": self._measurement.describe(self._model),
        }

    @cached_property
    def _key(self) -> str:
        return key_of(self._description)
