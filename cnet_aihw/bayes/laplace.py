"""Laplace approximation of the last layer, with Kronecker factors: a baseline of our own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cnet_aihw.bayes.baselines import deterministic
from cnet_aihw.bayes.scores import uncertainty_scores
from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.runtime.inputs import Inputs
from cnet_aihw.runtime.parts import as_part, gathered
from cnet_aihw.runtime.random_state import derive_seed
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import check_count

_PRECISIONS = tuple(10.0**power for power in range(-3, 5))
_MOST_INPUTS = 10_000


class LastLayerLaplace:
    r"""Gaussian posterior of the last linear layer around its trained weights.

    The curvature of N training samples is :math:`N A \otimes G` with the mean outer products A of
    the layer's inputs (and 1) and G of the output's :math:`\operatorname{diag} p - p p^\top`; with
    the prior precision :math:`\delta` each factor gets :math:`\sqrt{\delta / N}` on its diagonal.
    Source: Ritter, Botev, Barber (ICLR 2018); Daxberger et al., *Laplace Redux* (NeurIPS 2021).
    Our own few lines, since it is one layer.

    Args:
        model: a trained network whose last layer is linear; of an analog one the nominal weights.
        train: training data, of which at most 10 000 inputs are used for the factors.
        validation: data on which the prior precision with the best likelihood is chosen.
        batch_size: inputs a forward pass takes at once.

    Raises:
        CnetError: for a network whose output is not that of a linear layer.
    """

    @checked
    def __init__(
        self, model: nn.Module, train: Any, validation: Any, batch_size: int = 1000
    ) -> None:
        self.model, self.batch_size = model, batch_size
        part = as_part(train)
        self.inputs_in_training = len(part)
        some = gathered(part, min(len(part), _MOST_INPUTS))
        logits, features = self._features(some.x)
        p = logits.softmax(-1)
        self._a = features.T @ features / len(features)
        self._g = torch.diag(p.mean(0)) - p.T @ p / len(p)
        held = gathered(as_part(validation))
        self.precision = _PRECISIONS[0]
        best = float("inf")
        for precision in _PRECISIONS:
            probabilities = self.sample(held.x, 16, 0, precision).softmax(-1)
            nll = uncertainty_scores(probabilities, held.y)["nll"]
            if nll < best:
                self.precision, best = precision, nll

    @checked
    def sample(
        self, x: Inputs, samples: int = 16, seed: int = 0, precision: float | None = None
    ) -> Tensor:
        """Return logits of samples of the last layer, [T, N, C].

        Args:
            x: inputs, [N, ...].
            samples: number of samples T.
            seed: seed of the draws.
            precision: prior precision; None: the one chosen.

        Raises:
            CnetError: for fewer than one sample or a precision not above 0.
        """
        check_count("samples", samples)
        delta = self.precision if precision is None else precision
        if not delta > 0.0:
            raise bad_value("precision", delta, "a number above 0")
        logits, features = self._features(x)
        root = (delta / self.inputs_in_training) ** 0.5
        a = _inverse_root(self._a, root)
        g = _inverse_root(self._g, root) / self.inputs_in_training**0.5
        found = []
        for sample in range(samples):
            generator = torch.Generator().manual_seed(derive_seed(seed, "laplace", sample))
            draw = torch.randn(len(g), len(a), generator=generator, dtype=a.dtype).to(a.device)
            found.append(logits + features @ (g @ draw @ a.T).T)
        return torch.stack(found)

    def _features(self, x: Inputs) -> tuple[Tensor, Tensor]:
        """Return logits [N, C] and inputs of the last layer with a column of ones, [N, d + 1]."""
        seen: list[tuple[Tensor, Tensor]] = []

        def see(_: nn.Module, inputs: Any, output: Tensor) -> None:
            seen.append((inputs[0].detach(), output.detach()))

        layers = [m for m in self.model.modules() if isinstance(m, nn.Linear)]
        last = layers[-1] if layers else None
        if last is None:
            raise bad_value("model", type(self.model).__name__, "a network with a linear layer")
        hook = last.register_forward_hook(see)
        try:
            logits = deterministic(self.model, x, self.batch_size)[0]
        finally:
            hook.remove()
        if logits.dim() != 2:
            raise bad_value("model", f"outputs {tuple(logits.shape)}", "logits [N, C]")
        outputs = torch.cat([output for _, output in seen]) if seen else logits[:0]
        if outputs.shape != logits.shape or not torch.equal(outputs, logits):
            raise bad_value("model", type(self.model).__name__, "a network that ends linear")
        features = torch.cat([inputs for inputs, _ in seen]).double()
        return logits.double(), torch.cat([features, features.new_ones(len(features), 1)], 1)


def _inverse_root(factor: Tensor, root: float) -> Tensor:
    """Return R with R R^T = (factor + root I)^-1."""
    values, vectors = torch.linalg.eigh(factor)
    result: Tensor = vectors / (values.clamp(min=0.0) + root).sqrt()
    return result
