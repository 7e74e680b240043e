"""Projected gradient descent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from cnet_aihw.attacks.base import Attack, evasion
from cnet_aihw.attacks.pixels import Array
from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.runtime.values import check_count, is_number


@dataclass(frozen=True)
class PGD(Attack):
    """Steps along the gradient of the cross entropy, each projected into the budget.

    Source: Madry et al., *Towards Deep Learning Models Resistant to Adversarial Attacks*, ICLR
    2018.
    """

    name: ClassVar[str] = "pgd"
    white_box: ClassVar[bool] = True

    steps: int = 40
    """Steps, one gradient each."""

    step: float | None = None
    """Size of a step / budget; null: 2.5 / steps."""

    restarts: int = 1
    """Random starts; 0: from the image itself."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("restarts", self.restarts, 0)
        if self.step is not None and not (is_number(self.step) and self.step > 0):
            raise bad_value("step", self.step, "a share of the budget above 0, or null")

    def generate(self, classifier: Any, x: Array, y: Array, eps: float) -> Array:
        """Attack with the toolbox's ``ProjectedGradientDescent``."""
        attack = evasion().ProjectedGradientDescent(
            classifier,
            norm=self._library_norm,
            eps=eps,
            eps_step=eps * (self.step or 2.5 / self.steps),
            max_iter=self.steps,
            num_random_init=self.restarts,
            batch_size=self.batch_size,
            verbose=False,
        )
        return np.asarray(attack.generate(x, y))
