"""Posterior over binary weights: the Bayesian learning rule, with Adam for all else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cnet_aihw.rram import BinaryWeights
from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.training.settings import BayesSettings

_LOG_ODDS = "log_odds"


class BayesBinary(torch.optim.Adam):
    r"""Natural-gradient descent on the evidence bound of binary weights.

    A weight is +1 with the probability :math:`\sigma(2\lambda)` and has the mean
    :math:`\mu = \tanh\lambda`, which is what the layer's nominal weights are:

    .. math:: \lambda \leftarrow (1 - \alpha)\lambda
        + \alpha\left(\lambda_0 - N \frac{\partial L}{\partial \mu}\right)

    with the mean loss L at relaxed samples. The gradient through the relaxation is the one of the
    source, :math:`N (1 - w^2) / (\tau (1 - \mu^2))\, \partial L / \partial w`. Source: Meng,
    Bachmann, Khan, *Training binary neural networks using the Bayesian learning rule* (ICML 2020),
    in our own implementation; there the factor has the mean of one step before. Parameters that are
    not binary weights take Adam's steps.

    Args:
        parameters: all that is trained, in the order of the network.
        binary: binary weights among them; those that are not trained are left out.
        samples: training samples N.
        settings: prior, temper and limits.
        lr: learning rate; alpha is ``settings.rate`` times it.

    Raises:
        CnetError: without binary weights that are trained.
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        binary: Sequence[BinaryWeights],
        samples: int,
        settings: BayesSettings,
        lr: float,
    ) -> None:
        trained = {id(parameter) for parameter in parameters}
        self._scales = {id(b.mean): b.scale for b in binary if id(b.mean) in trained}
        if not self._scales:
            raise bad_value("parameters", "no binary weight", "binary weights among the trained")
        self.settings, self.samples = settings, samples
        super().__init__(parameters, lr=lr)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; a gradient of binary weights is used up."""
        if closure is not None:
            raise bad_value("closure", closure, "None: one sample of the weights a step")
        for group in self.param_groups:
            for parameter in group["params"]:
                scale = self._scales.get(id(parameter))
                if scale is not None and parameter.grad is not None:
                    natural = self.samples * self.settings.data_weight * scale * parameter.grad
                    self._move(parameter, scale, group["lr"] * self.settings.rate, natural)
                    parameter.grad = None
        return super().step()

    def _move(self, parameter: nn.Parameter, scale: float, alpha: float, gradient: Tensor) -> None:
        settings, state = self.settings, self.state[parameter]
        log_odds: Tensor = state[_LOG_ODDS] if _LOG_ODDS in state else self._first(parameter, scale)
        moved = (1.0 - alpha) * log_odds + alpha * (settings.prior - gradient)
        state.setdefault("step", torch.zeros(()))  # which loading a state looks for
        state[_LOG_ODDS] = moved.clamp_(-settings.largest, settings.largest)
        parameter.copy_(scale * torch.tanh(moved))

    def _first(self, parameter: nn.Parameter, scale: float) -> Tensor:
        """Return the log-odds / 2 of means before the first step."""
        limit = torch.tanh(torch.tensor(self.settings.largest))
        mean = (parameter / scale).clamp(-float(limit), float(limit))
        return torch.atanh(mean)
