"""Auto-PGD: projected gradient descent that finds its own step sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from cnet_aihw.attacks.base import Attack, evasion
from cnet_aihw.attacks.pixels import Array
from cnet_aihw.runtime.values import bad_choice, check_count

_LOSSES = ("cross_entropy", "difference_logits_ratio")


@dataclass(frozen=True)
class APGD(Attack):
    """Projected gradient descent with momentum, whose step is halved where it stops to gain.

    Source: Croce and Hein, *Reliable evaluation of adversarial robustness with an ensemble of
    diverse parameter-free attacks*, ICML 2020.
    """

    name: ClassVar[str] = "apgd"
    white_box: ClassVar[bool] = True

    steps: int = 40
    """Steps, one gradient each."""

    restarts: int = 1
    """Random starts."""

    loss: str = "cross_entropy"
    """Function that is climbed: "cross_entropy", or "difference_logits_ratio" (from 4 classes)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("restarts", self.restarts)
        if self.loss not in _LOSSES:
            raise bad_choice("loss", self.loss, _LOSSES)

    def generate(self, classifier: Any, x: Array, y: Array, eps: float) -> Array:
        """Attack with the toolbox's ``AutoProjectedGradientDescent``; a first step is 2 eps."""
        attack = evasion().AutoProjectedGradientDescent(
            classifier,
            norm=self._library_norm,
            eps=eps,
            eps_step=2.0 * eps,
            max_iter=self.steps,
            nb_random_init=self.restarts,
            loss_type=self.loss,
            batch_size=self.batch_size,
            verbose=False,
        )
        return np.asarray(attack.generate(x, y))
