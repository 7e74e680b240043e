"""The evaluator that fits each placement: slow, and the judge of the others."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from typing import Any

import torch
from aihwkit.inference.noise.base import BaseNoiseModel
from torch import nn

from cnet_aihw.compensation import (
    PAPER,
    Corrector,
    FitSettings,
    Placement,
    compensation_parameters,
)
from cnet_aihw.evaluation.calibration import ChipCalibration
from cnet_aihw.runtime.typed import checked
from cnet_aihw.search.evaluators.chips import ChipMeasurement, MeasuringEvaluator, ResidentModel
from cnet_aihw.search.evaluators.short_fit import ShortFit, bare
from cnet_aihw.search.evaluators.supernet import CompensationSupernet
from cnet_aihw.tasks import Task
from cnet_aihw.training.run_identity import TrainingData


class FitEvaluator(MeasuringEvaluator):
    """Fits the compensation of each placement for some steps and measures it on chips.

    All placements see the same training samples, the same chips in the fit and the same chips and
    validation samples afterwards, so that only the placement differs.

    Args:
        model: trained analog network without compensation; copied.
        data: its parts ``train`` and ``val`` and its augmentation.
        corrector: kind of corrector.
        fit: settings of the fit; epochs, selection and validation do not count.
        steps: optimizer steps for each placement; see :class:`ShortFit` on which samples.
        start: the supernet that a fit starts from, whatever the settings of the fit say; None: as
            they say.
        task: loss and score; None: classification.
        chips: number of chips.
        seed: seed of the chips' seeds.
        samples: number of validation samples, the first ones; None, or more than there are: all.
        batch_size: samples of a forward pass.
        noise_model: noise model of the chips measured; None: the network's own.
        t_inference: seconds between programming and measuring; None: just programmed.
        calibration: calibration of each chip before it is measured.
        device: "auto", "cpu" or a CUDA device; the same type in all processes.
        threads: threads that torch computes with; part of the key, since results can depend on
            it in their last bits.

    Raises:
        CnetError: for an impossible value, or a model that is compensated.
    """

    @checked
    def __init__(
        self,
        model: nn.Module,
        data: TrainingData,
        *,
        corrector: Corrector = PAPER,
        fit: FitSettings | None = None,
        steps: int = 300,
        start: CompensationSupernet | None = None,
        task: Task | None = None,
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
        self._start = start
        fit = fit or FitSettings()
        if start is not None:
            fit = replace(fit, start="identity")  # the supernet's weights stay
        self._fit = ShortFit(data, fit, steps, task, device, threads)
        measurement = ChipMeasurement(
            model, data.val, task=task, chips=chips, seed=seed, samples=samples,
            batch_size=batch_size,
            noise_model=noise_model, t_inference=t_inference, calibration=calibration,
            device=device, threads=threads,
        )  # fmt: skip
        super().__init__(measurement, ResidentModel(bare(model), corrector, measurement.device))

    def evaluate(self, placement: Placement) -> tuple[float | None, ...]:
        """Fit and measure; return the score of each chip, chip 0 first.

        A placement without any parameter needs no fit.

        Raises:
            CnetError: for a placement that the network (or the supernet) cannot take.
            TrainingDiverged: when the fit's loss or weights become NaN or infinite.
        """
        with self._network.compensated(placement, self._fit.settings.seed) as model:
            if compensation_parameters(model):
                if self._start is not None:
                    self._start.put_into(model)
                with tempfile.TemporaryDirectory(prefix="cnet-fit-") as folder:
                    self._fit.run(model, folder)
            return self._measurement.scores(model)

    def _describe(self) -> dict[str, Any]:
        return {
            "evaluator": "per_placement",
            "version": 2,
            "corrector": self._network.corrector.describe(),
            "start": "identity" if self._start is None else self._start.key(),
            "fit": self._fit.describe(self._network.base),
        }
