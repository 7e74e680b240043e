"""Generator and compensator beside an analog layer (CorrectNet, step 2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnet_aihw.compensation.closed_form import ClosedFormModule, LinearFit, rows_of
from cnet_aihw.compensation.corrector import Corrector, CorrectorCost, LayerShape
from cnet_aihw.compensation.low_rank import put_filters
from cnet_aihw.compensation.modules import in_type_of_input, pointwise, pooled
from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.runtime.typed import check_fields

READS = ("xy", "x", "y")
ACTIVATIONS = ("none", "relu", "tanh")
KERNEL_SIZES = (1, 3)
FORMS = ("full", "residual")


@dataclass(frozen=True)
class GeneratorCompensator(Corrector):
    """CorrectNet's corrector and its variants; the defaults are the paper's, as we read it.

    Source: CorrectNet (DATE 2023), step 2; the variants are ours.

    Raises:
        CnetError: for a value that is not among those allowed.
    """

    reads: str = "xy"
    """Input of the generator: the layer's input and output "xy", the input "x" or the output "y"
    alone. Weights and MACs of the generator are in proportion to the channels read."""

    activation: str = "none"
    """Activation behind the generator: "none", "relu" or "tanh"; costs no weights. The paper, as we
    read it, names none; without one, generator and compensator together are a linear map."""

    kernel_size: int = 1
    """Side of the generator's filters, 1 or 3; 3 costs 3 (1d) or 9 (2d) times the generator's
    weights and MACs. A linear layer has nothing to slide over and always takes 1."""

    form: str = "full"
    """Form of the compensator: "full", C filters over (y, g), C * (C + m) weights, which start as
    the identity; or "residual", y plus C filters over g alone, C * m weights, which start at
    zero."""

    def __post_init__(self) -> None:
        check_fields(self)
        for name, value, allowed in (
            ("reads", self.reads, READS),
            ("activation", self.activation, ACTIVATIONS),
            ("kernel_size", self.kernel_size, KERNEL_SIZES),
            ("form", self.form, FORMS),
        ):
            if value not in allowed:
                raise bad_value(
                    f"corrector.{name}", value, f"one of {', '.join(map(str, allowed))}"
                )

    def label(self) -> str:
        """Return a short name such as "xy-none-k1-full"."""
        return f"{self.reads}-{self.activation}-k{self.kernel_size}-{self.form}"

    def channels_read(self, shape: LayerShape) -> int:
        """Return the number of channels that the generator reads."""
        x, y = shape.channels
        return {"x": x, "y": y, "xy": x + y}[self.reads]

    def build(self, shape: LayerShape, size: int) -> GeneratorCompensatorModule:
        """Return generator and compensator, as the identity."""
        return GeneratorCompensatorModule(self, shape, size)

    def cost(self, shape: LayerShape, size: int) -> CorrectorCost:
        """Return the weights and the MACs of generator and compensator."""
        c = shape.out_channels
        generator = self.channels_read(shape) * self.kernel_size**shape.dims * size
        compensator = ((c + size) if self.form == "full" else size) * c
        return CorrectorCost(generator + size + compensator + c, generator + compensator)

    def shrink(self, module: nn.Module, size: int) -> dict[str, Tensor]:
        """Return the generator's first rows, and the compensator's columns that read y and them."""
        parameters: dict[str, Tensor] = dict(module.named_parameters())
        rows, columns = parameters["generator.weight"], parameters["compensator.weight"]
        of_y = columns.shape[1] - len(rows)  # C, or 0 for the residual form
        return {
            "generator.weight": rows[:size],
            "generator.bias": parameters["generator.bias"][:size],
            "compensator.weight": columns[:, : of_y + size],
            "compensator.bias": parameters["compensator.bias"],
        }


class GeneratorCompensatorModule(ClosedFormModule):
    r"""Generator and compensator of one layer.

    .. math:: g = a(\text{generator}([x, y])),\quad y' = \text{compensator}([y, g])

    The generator is a 1x1 convolution of m filters, the compensator one of C filters. It starts as
    the identity, bit for bit on a CPU. Weights are in float32; it computes in the type of y.

    Args:
        corrector: settings.
        shape: shape of the layer.
        size: number of generator filters m, at least 1.
    """

    def __init__(self, corrector: GeneratorCompensator, shape: LayerShape, size: int) -> None:
        super().__init__()
        self.dims, self.settings = shape.dims, corrector
        c = shape.out_channels
        read = corrector.channels_read(shape)
        self.generator = pointwise(shape.dims, read, size, corrector.kernel_size)
        self.compensator = pointwise(shape.dims, c + size if corrector.form == "full" else size, c)
        with torch.no_grad():
            for parameter in self.compensator.parameters():
                parameter.zero_()
            if corrector.form == "full":
                self.compensator.weight.flatten(1)[:, :c].fill_diagonal_(1.0)

    @property
    def on_output(self) -> str:
        """Part that acts on y alone: the compensator's map of the full form, otherwise nothing."""
        return "map" if self.settings.form == "full" else "nothing"

    @property
    def ends_with_y(self) -> bool:
        """Whether the last channels read are y."""
        return self.settings.reads in ("xy", "y")

    @property
    def in_closed_form(self) -> bool:
        """Whether there is neither an activation nor a kernel that slides over the features."""
        return self.settings.activation == "none" and all(
            side == 1 for side in self.generator.weight.shape[2:]
        )

    @property
    def filters(self) -> int:
        """Number of filters m."""
        return len(self.generator.weight)

    def feature_rows(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the features of every position, [positions, channels read]."""
        return rows_of(self._read(x, y), self.dims)

    @torch.no_grad()
    def put(self, fit: LinearFit) -> None:
        """Take the weights of a fit; filters that it does not need give 0."""
        weight = self.compensator.weight
        of_y = weight.shape[1] - self.filters  # C, or 0 for the residual form
        put_filters(fit, self.generator.weight, weight[:, of_y:])
        if fit.mixing is not None:
            weight[:, :of_y].copy_(fit.mixing.view(-1, of_y, *weight.shape[2:]))
        assert self.generator.bias is not None and self.compensator.bias is not None
        self.compensator.bias.copy_(fit.offset)
        self.generator.bias.zero_()

    def _read(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the generator's input, [N, channels read, *size]."""
        x = pooled(x, y, self.dims)
        read = {"x": (x,), "y": (y,), "xy": (x, y)}[self.settings.reads]
        return torch.cat([part.to(y.dtype) for part in read], -1 - self.dims)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the corrected output.

        Args:
            x: input of the layer, [N, in, *size] (linear: [..., in]).
            y: output of the layer, [N, C, *size] (linear: [..., C]).

        Returns:
            Shape and type of y.
        """
        g = in_type_of_input(self.generator, self._read(x, y))  # [N, m, *size]
        if self.settings.activation != "none":
            g = F.relu(g) if self.settings.activation == "relu" else torch.tanh(g)
        if self.settings.form == "residual":
            return y + in_type_of_input(self.compensator, g).to(y.dtype)
        y_and_g = torch.cat([y, g.to(y.dtype)], -1 - self.dims)
        return in_type_of_input(self.compensator, y_and_g).to(y.dtype)


PAPER = GeneratorCompensator()
"""CorrectNet's corrector (DATE 2023, step 2), as we read the paper; the default of this package.
At 2 % overhead it has the highest sum of scores on validation chips (docs/results_method.md)."""
