"""The family of compensations of which CorrectNet's is one; readable without torch."""

from __future__ import annotations

from dataclasses import dataclass

from cnet_aihw.runtime.errors import CnetError

READS = ("xy", "x", "y")
ACTIVATIONS = ("none", "relu", "tanh")
FORMS = ("full", "residual")
KERNEL_SIZES = (1, 3)


@dataclass(frozen=True)
class CompensationVariant:
    """How generator and compensator are built; the defaults are the paper's, as we read it.

    Raises:
        CnetError: for a value that is none of those allowed.
    """

    reads: str = "xy"
    """What the generator reads: the layer's input and output "xy", the input "x" or the output "y"
    alone. Weights and MACs of the generator are in proportion to the channels read."""

    activation: str = "none"
    """What follows the generator: "none", "relu" or "tanh"; costs no weights. The paper, as we read
    it, names none; without one, generator and compensator together are a linear map."""

    kernel_size: int = 1
    """Side of the generator's filters, 1 or 3; 3 costs 3 (1d) or 9 (2d) times the generator's
    weights and MACs. A linear layer has nothing to slide over and always takes 1."""

    form: str = "full"
    """What the compensator is: "full", C filters over (y, g), C * (C + m) weights, which start as
    the identity; or "residual", y plus C filters over g alone, C * m weights, which start at
    zero."""

    def __post_init__(self) -> None:
        """Check the values."""
        for name, value, allowed in (
            ("reads", self.reads, READS),
            ("activation", self.activation, ACTIVATIONS),
            ("kernel_size", self.kernel_size, KERNEL_SIZES),
            ("form", self.form, FORMS),
        ):
            if value not in allowed:
                raise CnetError(
                    f"compensation.{name} is {value!r}; give one of {', '.join(map(str, allowed))}."
                )

    def label(self) -> str:
        """Return a short name that tells variants apart, such as "xy-none-k1-full"."""
        return f"{self.reads}-{self.activation}-k{self.kernel_size}-{self.form}"


PAPER = CompensationVariant()
"""CorrectNet's compensation (DATE 2023, step 2), as we read the paper."""

DEFAULT = PAPER
"""What this project takes where nothing else is said: the paper's own, which has the highest sum of
accuracies on validation chips at 2 % overhead, by little before the same with a ReLU
(docs/results.md)."""
