"""The evaluator that fits each placement to each chip in closed form, and then measures it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from aihwkit.inference.noise.base import BaseNoiseModel
from torch import nn

from cnet_aihw.compensation import (
    Corrector,
    LowRank,
    PerChipFit,
    Placement,
    compensation_parameters,
)
from cnet_aihw.runtime.inputs import Inputs
from cnet_aihw.search.evaluators.chips import ChipMeasurement, MeasuringEvaluator, ResidentModel
from cnet_aihw.search.evaluators.short_fit import bare
from cnet_aihw.tasks import Task


class PerChipEvaluator(MeasuringEvaluator):
    """Fits the correctors of each placement to each chip, without labels, and measures it (ours).

    A placement costs a few passes over the inputs of the fit for each chip, and one over the
    validation samples; nothing is trained.

    Args:
        model: trained analog network without compensation; copied.
        val: validation samples, as :func:`~cnet_aihw.runtime.parts.as_part` takes them.
        inputs: unlabelled inputs that each chip is fitted on, [N, ...].
        corrector: kind of corrector; it must have a closed form.
        ridge: ridge of the fit, as in :class:`~cnet_aihw.compensation.PerChipFit`.
        task: loss and score; None: classification.
        chips: number of chips.
        seed: seed of the chips' seeds.
        samples: number of validation samples, the first ones; None: all.
        batch_size: samples of a forward pass.
        noise_model: noise model of the chips; None: the network's own.
        t_inference: seconds between programming and measuring; None: just programmed.
        device: "auto", "cpu" or a CUDA device; the same type in all processes.
        threads: threads that torch computes with; part of the key.

    Raises:
        CnetError: for an impossible value, or a model that is compensated.
    """

    def __init__(
        self,
        model: nn.Module,
        val: Any,
        inputs: Inputs,
        *,
        corrector: Corrector | None = None,
        ridge: float = 1e-3,
        task: Task | None = None,
        chips: int = 5,
        seed: int = 0,
        samples: int | None = 1000,
        batch_size: int = 250,
        noise_model: BaseNoiseModel | None = None,
        t_inference: float | None = None,
        device: str | torch.device = "auto",
        threads: int = 1,
    ) -> None:
        measurement = ChipMeasurement(
            model, val, task=task, chips=chips, seed=seed, samples=samples, batch_size=batch_size,
            noise_model=noise_model, t_inference=t_inference,
            calibration=_WhereCorrected(PerChipFit(inputs, ridge)),
            device=device, threads=threads,
        )  # fmt: skip
        super().__init__(
            measurement, ResidentModel(bare(model), corrector or LowRank(), measurement.device)
        )

    def evaluate(self, placement: Placement) -> tuple[float | None, ...]:
        """Fit and measure; return the score of each chip, chip 0 first.

        Raises:
            CnetError: for a placement that the network cannot take.
        """
        with self._network.compensated(placement) as model:
            return self._measurement.scores(model)

    def _describe(self) -> dict[str, Any]:
        return {
            "evaluator": "per_chip",
            "version": 1,
            "corrector": self._network.corrector.describe(),
        }


class _WhereCorrected:
    """A per-chip fit that leaves alone what has no correctors."""

    def __init__(self, fit: PerChipFit) -> None:
        self.fit = fit

    def __call__(self, model: nn.Module) -> AbstractContextManager[None]:
        return self.fit(model) if compensation_parameters(model) else nullcontext()

    def label(self) -> str:
        return self.fit.label()

    def fingerprint(self) -> str:
        return self.fit.fingerprint()

    def cost(self, model: nn.Module) -> int:
        return self.fit.cost(model)
