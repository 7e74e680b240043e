"""The evaluator that only measures: all placements are parts of one supernet, fitted once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from aihwkit.inference.noise.base import BaseNoiseModel
from torch import nn

from cnet_aihw.compensation import PAPER, Corrector, FitSettings, Placement
from cnet_aihw.evaluation.calibration import ChipCalibration
from cnet_aihw.runtime.typed import checked
from cnet_aihw.search.evaluators.chips import ChipMeasurement, MeasuringEvaluator, ResidentModel
from cnet_aihw.search.evaluators.short_fit import bare
from cnet_aihw.search.evaluators.supernet import CompensationSupernet
from cnet_aihw.search.problem import PlacementProblem
from cnet_aihw.tasks import Task
from cnet_aihw.training.run_identity import TrainingData


class SupernetEvaluator(MeasuringEvaluator):
    """Measures each placement on chips with its part of a supernet of correctors (ours).

    The supernet is fitted once for all placements (see :class:`CompensationSupernet`) when it is
    first needed; after that, a placement costs its forward passes. The values are not those that a
    fit of each placement alone reaches; only their order counts.

    Args:
        model: trained analog network without compensation; copied.
        data: its parts ``train`` and ``val`` and its augmentation.
        problem: candidate layers, choices, costs and limit.
        corrector: kind of corrector.
        fit: settings of the supernet's fit; epochs, selection and validation do not count.
        steps: optimizer steps of that fit.
        within_limit: whether only placements within the limit are drawn in that fit.
        folder: where the supernet is kept; None: in memory only.
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

    Attributes:
        supernet: the supernet; ``supernet.get_ready(progress=True)`` fits it with a progress bar.

    Raises:
        CnetError: for an impossible value, or a model that is compensated.
    """

    @checked
    def __init__(
        self,
        model: nn.Module,
        data: TrainingData,
        problem: PlacementProblem,
        *,
        corrector: Corrector = PAPER,
        fit: FitSettings | None = None,
        steps: int = 1200,
        within_limit: bool = True,
        folder: str | Path | None = None,
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
        self.supernet = CompensationSupernet(
            model, data, problem, corrector=corrector, fit=fit, steps=steps,
            within_limit=within_limit, folder=folder, task=task, device=device, threads=threads,
        )  # fmt: skip
        measurement = ChipMeasurement(
            model, data.val, task=task, chips=chips, seed=seed, samples=samples,
            batch_size=batch_size,
            noise_model=noise_model, t_inference=t_inference, calibration=calibration,
            device=device, threads=threads,
        )  # fmt: skip
        super().__init__(measurement, ResidentModel(bare(model), corrector, measurement.device))

    def evaluate(self, placement: Placement) -> tuple[float | None, ...]:
        """Measure; return the score of each chip, chip 0 first.

        Raises:
            CnetError: for a placement that the network or the supernet cannot take.
        """
        with self._network.compensated(placement) as model:
            self.supernet.put_into(model)
            return self._measurement.scores(model)

    def _describe(self) -> dict[str, Any]:
        return {
            "evaluator": "supernet",
            "version": 2,
            "supernet": self.supernet.describe(),
        }
