"""The evaluator that only measures: all placements share one compensation, fitted once."""

from __future__ import annotations

from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from aihwkit.inference.noise.base import BaseNoiseModel
from torch import nn

from cnet_aihw.compensation import CompensationVariant, FitSettings, Placement, compensate
from cnet_aihw.compensation.variants import DEFAULT
from cnet_aihw.evaluation.calibration import ChipCalibration
from cnet_aihw.search.evaluators.chips import ChipMeasurement
from cnet_aihw.search.evaluators.short_fit import bare, key_of
from cnet_aihw.search.evaluators.supernet import CompensationSupernet
from cnet_aihw.search.problem import PlacementProblem
from cnet_aihw.training.run_identity import TrainingData


class SharedEvaluator:
    """Measures each placement on chips with its part of one compensation that all share (ours).

    The compensation is fitted once for all placements (see :class:`CompensationSupernet`,
    ``shared``
    here), when it is first needed; after that, a placement costs its forward passes. The values
    are not those that a fit of each placement alone reaches; what counts is their order.

    Args:
        model: trained analog network without compensation; copied.
        data: its parts ``train`` and ``val`` and its augmentation.
        problem: candidate layers, choices, costs and limit.
        variant: how generators and compensators are built.
        fit: how the shared compensation is fitted; epochs, selection and validation do not count.
        steps: optimizer steps of that fit.
        within_limit: whether only placements within the limit are drawn in that fit.
        folder: where the shared compensation is kept; None: in memory only.
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

    Attributes:
        shared: the shared compensation; ``shared.get_ready(progress=True)`` fits it with a
            progress bar.

    Raises:
        CnetError: for a value that cannot be, or a model that is compensated or programmed.
    """

    def __init__(
        self,
        model: nn.Module,
        data: TrainingData,
        problem: PlacementProblem,
        *,
        variant: CompensationVariant = DEFAULT,
        fit: FitSettings | None = None,
        steps: int = 1200,
        within_limit: bool = True,
        folder: str | Path | None = None,
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
        self._model, self._variant = bare(model), variant
        self.shared = CompensationSupernet(
            model, data, problem, variant=variant, fit=fit, steps=steps, within_limit=within_limit,
            folder=folder, device=device, threads=threads,
        )  # fmt: skip
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
        """Measure; returns the accuracy of each chip in [0, 1], chip 0 first.

        Raises:
            CnetError: for a placement that the network or the shared compensation cannot take.
        """
        model = compensate(deepcopy(self._model), placement, self._variant)
        self.shared.put_into(model)
        return self._measurement.accuracies(model)

    @cached_property
    def _description(self) -> dict[str, Any]:
        return {
            "evaluator": "shared",
            "version": 1,
            "shared": self.shared.describe(),
            "measurement": self._measurement.describe(self._model),
        }

    @cached_property
    def _key(self) -> str:
        return key_of(self._description)
