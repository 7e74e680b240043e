"""The evaluator that fits each placement to each chip in closed form, and then measures it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from aihwkit.inference.noise.base import BaseNoiseModel
from torch import nn

from cnet_aihw.compensation import (
    DIGITAL,
    Corrector,
    LayerShape,
    LowRank,
    PerChipSettings,
    Placement,
    compensated_layers,
    layer_shape,
)
from cnet_aihw.runtime.inputs import Inputs, samples_in
from cnet_aihw.runtime.parts import Part
from cnet_aihw.runtime.typed import checked
from cnet_aihw.search.evaluators.chips import ChipMeasurement, MeasuringEvaluator, ResidentModel
from cnet_aihw.search.evaluators.reuse import ReusingFit
from cnet_aihw.search.evaluators.short_fit import bare
from cnet_aihw.search.problem import PlacementProblem
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
        fit: settings of the fit; ``samples`` does not count, all inputs are taken.
        memory: bytes for what placements that agree in their first layers have in common, as in
            :class:`~cnet_aihw.search.evaluators.reuse.ReusingFit`; not part of the key.
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

    @checked
    def __init__(
        self,
        model: nn.Module,
        val: Any,
        inputs: Inputs,
        *,
        corrector: Corrector | None = None,
        fit: PerChipSettings | None = None,
        memory: int = 2**30,
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
        self._fit = ReusingFit.of(
            replace(fit or PerChipSettings(), samples=samples_in(inputs)), inputs, task, memory
        )
        measurement = ChipMeasurement(
            model, val, task=task, chips=chips, seed=seed, samples=samples, batch_size=batch_size,
            noise_model=noise_model, t_inference=t_inference,
            calibration=self._fit,
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
        with self._network.compensated(Placement({})) as model:
            self._fit.begin(model)
        with self._network.compensated(placement) as model:
            return self._measurement.scores(model)

    def gains(self, problem: PlacementProblem) -> list[list[float]]:
        """Return the share of each layer's wanted output that its choices win back.

        That is the drop of the mean squared error of the layer's output, over positions, channels
        and chips, less the fit's ridge penalty, relative to the variance of the wanted output, when
        all layers before are corrected with the largest choice that fits the limits alone. One pass
        of the fit on each chip gives it for all choices. A digital layer counts as one without any
        error.

        Args:
            problem: layers, choices and limits.

        Returns:
            Gains, [layers][choices].
        """
        largest = {
            layer.name: [
                choice
                for choice, fits in zip(problem.choices, problem.fitting((), index), strict=True)
                if fits and choice != DIGITAL
            ][-1]
            for index, layer in enumerate(problem.layers)
        }
        found = _Gains(self._fit, problem, self._network.corrector)
        self._fit.end()
        with self._network.compensated(Placement(largest)) as model:
            found.shapes = {
                n: layer_shape(m.base_layer) for n, m in compensated_layers(model).items()
            }
            self._measurement.visit(model, found)
        sums = found.sums / self._measurement.settings.chips
        return [[float(gain) for gain in row] for row in sums]

    def _describe(self) -> dict[str, Any]:
        return {
            "evaluator": "per_chip",
            "version": 3,
            "corrector": self._network.corrector.describe(),
        }


class _Gains:
    """Adds up the gains of each chip, in place of a measurement."""

    name = "gains"

    def __init__(self, fit: ReusingFit, problem: PlacementProblem, corrector: Corrector) -> None:
        self._fit, self._problem, self._corrector = fit, problem, corrector
        self.shapes: dict[str, LayerShape] = {}
        self.sums = np.zeros((len(problem.layers), len(problem.choices)))

    def __call__(self, model: nn.Module, part: Part, batch_size: int) -> dict[str, float]:
        for index, layer in enumerate(self._problem.layers):
            fit = self._fit.fits.get(layer.name)
            if fit is None or not fit.wanted > 0.0:
                continue
            least = fit.unexplained + float(fit.spectrum.sum())
            for number, choice in enumerate(self._problem.choices):
                if choice == DIGITAL:
                    left = 0.0
                elif choice == 0.0:
                    continue
                else:
                    size = self._corrector.size(self.shapes[layer.name], choice)
                    left = least - float(fit.spectrum[:size].sum())
                self.sums[index, number] += (fit.error - left) / fit.wanted
        return {"score": 0.0}

    def describe(self) -> dict[str, Any]:
        return {}
