"""Square Attack: random squares, without gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from cnet_aihw.attacks.base import Attack, evasion
from cnet_aihw.attacks.pixels import Array
from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.runtime.values import check_count, is_number


@dataclass(frozen=True)
class Square(Attack):
    """Changes of square patches, kept where they lower the margin; it sees outputs alone.

    Source: Andriushchenko et al., *Square Attack: a query-efficient black-box adversarial attack
    via random search*, ECCV 2020.
    """

    name: ClassVar[str] = "square"
    white_box: ClassVar[bool] = False

    steps: int = 300
    """Patches that are tried."""

    share: float = 0.8
    """Share of the pixels in the first patches."""

    restarts: int = 1
    """Random starts."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("restarts", self.restarts)
        if not (is_number(self.share) and 0 < self.share <= 1):
            raise bad_value("share", self.share, "a share of the pixels, above 0 and at most 1")

    def generate(self, classifier: Any, x: Array, y: Array, eps: float) -> Array:
        """Attack with the toolbox's ``SquareAttack``.

        Raises:
            CnetError: for inputs that are not images, or images too small for its patches.
        """
        side = min(x.shape[2:]) if x.ndim == 4 else 0
        first = max(round(math.sqrt(self.share * math.prod(x.shape[2:]))), 1)
        if side <= first or (self.norm == "2" and side < 10):
            expected = "images of at least 10 x 10 pixels" if self.norm == "2" else "larger images"
            fix = f"or a smaller share than {self.share:g}" if self.norm == "inf" else None
            raise bad_value("data", list(x.shape[1:]), expected, fix)
        attack = evasion().SquareAttack(
            classifier,
            norm=self._library_norm,
            eps=eps,
            max_iter=self.steps,
            p_init=self.share,
            nb_restarts=self.restarts,
            batch_size=self.batch_size,
            verbose=False,
        )
        return np.asarray(attack.generate(x, y))
