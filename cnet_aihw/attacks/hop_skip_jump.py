"""HopSkipJump: a walk along the decision boundary, from labels alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import nn

from cnet_aihw.attacks.base import Attack, classifier_of, evasion, library_draws
from cnet_aihw.attacks.pixels import Array, within_budget
from cnet_aihw.runtime.random_state import derive_seed
from cnet_aihw.runtime.values import check_count

_STARTS = 100
"""Random images that are tried as the first one of another class."""

_HALVINGS = 60
"""Halvings of a step after which it is taken as it is."""


@dataclass(frozen=True)
class HopSkipJump(Attack):
    """The nearest image of another class, found from predicted labels; those within eps count.

    It makes the change small rather than the loss large, so one run serves all budgets. Source:
    Chen et al., *HopSkipJumpAttack: A Query-Efficient Decision-Based Attack*, IEEE S&P 2020.
    """

    name: ClassVar[str] = "hop_skip_jump"
    white_box: ClassVar[bool] = False
    one_run: ClassVar[bool] = True

    norm: str = "2"
    """Norm of the budget: "inf" or "2"."""

    steps: int = 10
    """Steps along the boundary."""

    evaluations: int = 1000
    """Most queries of a step, for the direction."""

    first_evaluations: int = 100
    """Queries of the first step, for the direction."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("first_evaluations", self.first_evaluations)
        check_count("evaluations", self.evaluations, self.first_evaluations)

    def generate(self, classifier: Any, x: Array, y: Array, eps: float) -> Array:
        """Attack with the toolbox's ``HopSkipJump``, whatever the budget.

        The first images are drawn here, as the toolbox draws them without a seed. Images without
        one, and those that are misclassified already, stay as they are.
        """
        labels = classifier.predict(x, batch_size=self.batch_size).argmax(1)
        starts, found = x.copy(), labels != y
        chosen = ~found
        for _ in range(_STARTS):
            left = np.flatnonzero(~found)
            if not len(left):
                break
            drawn = np.random.uniform(size=(len(left), *x.shape[1:])).astype(np.float32)
            other = classifier.predict(drawn, batch_size=self.batch_size).argmax(1) != y[left]
            starts[left[other]] = drawn[other]
            found[left[other]] = True
        chosen &= found
        if not chosen.any():
            return x
        attack = _from_given_starts(y[chosen])(
            classifier,
            norm=self._library_norm,
            max_iter=self.steps,
            max_eval=self.evaluations,
            init_eval=self.first_evaluations,
            batch_size=self.batch_size,
            verbose=False,
        )
        changed = x.copy()
        changed[chosen] = attack.generate(x[chosen], y[chosen], x_adv_init=starts[chosen])
        return changed

    def perturb(
        self, network: nn.Module, x: Array, y: Array, eps: Sequence[float], seed: int
    ) -> Iterator[tuple[float, Array]]:
        """Attack once; images further away than a budget stay as they are."""
        with library_draws(derive_seed(seed, "every eps"), network):
            changed = self.generate(classifier_of(network, x), x, y, max(eps))
        delta = (changed.astype(np.float64) - x).reshape(len(x), -1)
        far = np.abs(delta).max(1) if self.norm == "inf" else np.sqrt((delta**2).sum(1))
        inside_shape = (-1,) + (1,) * (x.ndim - 1)
        for budget in eps:
            inside = (far <= budget).reshape(inside_shape)
            yield budget, within_budget(x, np.where(inside, changed, x), budget, self.norm)


def _from_given_starts(labels: Array) -> Any:
    """Return the toolbox's class, made safe for networks that read with noise.

    There a start that was of another class may not be so when it is read again, for which the
    toolbox draws without a seed, and a step may be halved for ever.

    Args:
        labels: of the images that are attacked, in their order.
    """
    left = iter(labels)

    class Seeded(evasion().HopSkipJump):  # type: ignore[misc]
        def _init_sample(self, *args: Any) -> Any:
            self.failures, start = 0, args[4]
            return start, next(left)

        def _adversarial_satisfactory(self, samples: Array, *args: Any, **kwargs: Any) -> Any:
            found = super()._adversarial_satisfactory(samples, *args, **kwargs)
            self.failures = self.failures + 1 if len(samples) == 1 and not found.any() else 0
            return np.ones_like(found) if self.failures > _HALVINGS else found

    return Seeded
