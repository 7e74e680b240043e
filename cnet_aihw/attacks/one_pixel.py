"""One-pixel attack: differential evolution over places and colours of a few pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from cnet_aihw.attacks.base import Attack, evasion
from cnet_aihw.attacks.pixels import Array


@dataclass(frozen=True)
class OnePixel(Attack):
    """Pixels that are replaced, found by differential evolution; it sees outputs alone.

    The budget is a number of pixels, 1 in the paper. Source: Su et al., *One Pixel Attack for
    Fooling Deep Neural Networks*, IEEE Transactions on Evolutionary Computation 23 (2019).
    """

    name: ClassVar[str] = "one_pixel"
    white_box: ClassVar[bool] = False
    norms: ClassVar[tuple[str, ...]] = ("0",)

    norm: str = "0"
    """Norm of the budget: "0", the number of pixels changed."""

    steps: int = 10
    """Generations of the evolution; each is some 400 candidates for an image."""

    def generate(self, classifier: Any, x: Array, y: Array, eps: float) -> Array:
        """Attack with the toolbox's ``PixelAttack``."""
        attack = evasion().PixelAttack(
            classifier, th=int(eps), es=1, max_iter=self.steps, verbose=False
        )
        return np.asarray(attack.generate(x, y))
