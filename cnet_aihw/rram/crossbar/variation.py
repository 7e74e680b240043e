"""Variation injected by the forward passes of training."""

from __future__ import annotations

from dataclasses import dataclass

from aihwkit.simulator.parameters.helpers import _PrintableMixin

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.typed import check_fields
from cnet_aihw.runtime.values import GRADIENTS


@dataclass
class VariationParameter(_PrintableMixin):
    """Samples of the configuration's noise model, injected by training forwards.

    Raises:
        CnetError: if ``gradient`` is unknown, ``t_inference`` is negative or ``strength`` is no
            share.
    """

    enabled: bool = True
    """Whether training forwards see varied weights; evaluation forwards never do by this."""

    hold: bool = False
    """Keep one chip until ``resample_variation(model, seed)`` draws the next; otherwise every
    forward of every layer draws again."""

    gradient: str = "auto"
    """Way of the gradient to the nominal weights: ``"reparametrized"`` (through the factor of a
    multiplicative noise model), ``"straight_through"`` (as if the noise were not there), or
    ``"auto"``: the first where the model allows it, otherwise the second."""

    t_inference: float | None = None
    """Time after programming in seconds whose drift is included; None: just programmed."""

    strength: float = 1.0
    """Share of each weight's deviation from the nominal one that is injected, in [0, 1]."""

    table: int = 0
    """Factors that are drawn once, of which each forward of each layer reads a stretch from a
    random place, in place of a fresh draw, where no chip is held; 0: fresh draws. 8 million take 32
    MB. For noise models whose factors are independent and of one law."""

    def __post_init__(self) -> None:
        """Check the values."""
        check_fields(self, "variation.")
        if self.gradient not in GRADIENTS:
            raise CnetError(
                f"variation.gradient is {self.gradient!r}; give one of {', '.join(GRADIENTS)}.",
                key="variation.gradient",
                value=self.gradient,
            )
        if self.t_inference is not None and self.t_inference < 0.0:
            raise CnetError(
                f"variation.t_inference is {self.t_inference}; give seconds >= 0, or null.",
                key="variation.t_inference",
                value=self.t_inference,
                expected="seconds >= 0, or null",
            )
        if self.table < 0:
            raise CnetError(
                f"variation.table is {self.table}; give a number of factors, or 0.",
                key="variation.table",
                value=self.table,
                expected="a number of factors, or 0",
            )
        if not 0.0 <= self.strength <= 1.0:
            raise CnetError(
                f"variation.strength is {self.strength}; give a share in [0, 1].",
                key="variation.strength",
                value=self.strength,
                expected="a share in [0, 1]",
            )
