"""Layout of weights on crossbars: sizes of tiles, scales of weights, devices of one weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from aihwkit.inference.converter.base import BaseConductanceConverter
from aihwkit.inference.converter.conductance import SinglePairConductanceConverter
from aihwkit.simulator.parameters import MappingParameter
from torch import Tensor
from torch.autograd import no_grad

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.typed import check_fields, checked

Cell = Literal["pair", "reference", "offset"]
WeightScaling = Literal["none", "tile", "column"]

_SMALLEST_WEIGHT = 1e-7  # for a tile of zeros; aihwkit's converters take the same


@dataclass(frozen=True)
class CrossbarMapping:
    """Size of the crossbars, and what weight their largest conductance stands for.

    A layer that does not fit on one crossbar is split over several of nearly equal size, as aihwkit
    does: 576 inputs on crossbars of 512 rows go on two of 288. Each has a DAC, an ADC and (as the
    noise model sees it) a conductance range of its own; outputs of several are added digitally.

    Raises:
        CnetError: if a size is below 1 or ``weight_scaling`` is unknown.
    """

    max_rows: int | None = None
    """Inputs that a crossbar takes; None: as many as the layer has."""

    max_columns: int | None = None
    """Outputs that a crossbar has; None: as many as the layer has."""

    weight_scaling: str | None = None
    """Weight that is mapped to 1, the unit of the periphery's ranges: the largest weight of each
    ``"column"`` or of the ``"tile"``, by a digital factor at the output; or ``"none"``: weights as
    they are. None: ``"column"``, and ``"none"`` where the periphery is perfect."""

    def __post_init__(self) -> None:
        """Check the values."""
        check_fields(self)
        for name, size in (("max_rows", self.max_rows), ("max_columns", self.max_columns)):
            if size is not None and size < 1:
                raise CnetError(
                    f"{name} is {size}; give at least 1, or null for no limit.",
                    key=name,
                    value=size,
                    expected="at least 1, or null for no limit",
                )
        if self.weight_scaling is not None and self.weight_scaling not in get_args(WeightScaling):
            raise CnetError(
                f"weight_scaling is {self.weight_scaling!r}; give none, tile or column, or null.",
                key="weight_scaling",
                value=self.weight_scaling,
                expected="none, tile or column, or null",
            )

    def as_parameter(self, perfect_periphery: bool) -> MappingParameter:
        """Return aihwkit's description of the mapping.

        Args:
            perfect_periphery: whether inputs and outputs of the crossbars are exact.
        """
        scaling = self.weight_scaling or ("none" if perfect_periphery else "column")
        return MappingParameter(
            max_input_size=self.max_rows or 0,
            max_output_size=self.max_columns or 0,
            weight_scaling_omega=0.0 if scaling == "none" else 1.0,
            weight_scaling_columnwise=scaling == "column",
        )


class ReferenceColumnConverter(BaseConductanceConverter):
    r"""One device per weight, read against a reference in the middle of the conductance range.

    .. math:: g = g_\text{ref} + w\, \frac{g_\max - g_\min}{2 \max |w|},\quad
        g_\text{ref} = \frac{g_\max + g_\min}{2}

    The largest weight of the tile, by size, takes a device to the end of its range. Source: the
    offset (unipolar) mapping that is common for RRAM; ours as code.

    Args:
        g_max: largest conductance in uS.
        g_min: smallest conductance in uS.
        exact: whether the reference is subtracted digitally, without any error; otherwise it is a
            column of devices, one for each row, which all outputs of a tile share, and which the
            noise model programs as it does the others.
    """

    @checked
    def __init__(self, g_max: float, g_min: float, exact: bool = False) -> None:
        _check_range(g_min, g_max)
        self.g_max = g_max
        self.g_min = g_min
        self.exact = exact

    def __str__(self) -> str:
        reference = "exact" if self.exact else "column"
        return (
            f"ReferenceColumnConverter(g_max={self.g_max}, g_min={self.g_min}, "
            f"reference={reference})"
        )

    @no_grad()
    def convert_to_conductances(self, weights: Tensor) -> tuple[list[Tensor], dict[str, Any]]:
        """Return the devices, [out, in] in uS, and those of the reference, [1, in]."""
        scale_ratio = (self.g_max - self.g_min) / 2 / weights.abs().max().clamp(_SMALLEST_WEIGHT)
        middle = (self.g_max + self.g_min) / 2
        conductances = [middle + weights * scale_ratio]
        if not self.exact:
            conductances.append(torch.full_like(weights[:1], middle))
        return conductances, {"scale_ratio": scale_ratio}

    @no_grad()
    def convert_back_to_weights(self, conductances: list[Tensor], params: dict[str, Any]) -> Tensor:
        """Return the weights, [out, in], of programmed devices and reference."""
        middle = (self.g_max + self.g_min) / 2
        reference = middle if self.exact else conductances[1]
        return (conductances[0] - reference) / params["scale_ratio"]


@checked
def conductance_converter(
    cell: Cell = "pair", g_min: float | None = None, g_max: float | None = None
) -> BaseConductanceConverter:
    """Describe the devices that make one weight, for a noise model's ``g_converter``.

    Args:
        cell: ``"pair"``: two devices, one for each sign, the other at ``g_min``; ``"reference"``:
            one device, and a reference column of devices in the middle of the range;
            ``"offset"``: one device, and the middle subtracted digitally.
        g_min: smallest conductance in uS; 0 by default.
        g_max: largest conductance in uS; 25 by default, as in aihwkit.

    Raises:
        CnetError: for an unknown cell, or a range that is none.
    """
    if cell not in get_args(Cell):
        raise CnetError(
            f"cell is {cell!r}; give pair, reference or offset.",
            key="cell",
            value=cell,
            expected="pair, reference or offset",
        )
    g_min = 0.0 if g_min is None else g_min
    g_max = 25.0 if g_max is None else g_max
    _check_range(g_min, g_max)
    if cell == "pair":
        return SinglePairConductanceConverter(g_max=g_max, g_min=g_min)
    return ReferenceColumnConverter(g_max, g_min, exact=cell == "offset")


def _check_range(g_min: float, g_max: float) -> None:
    if not 0.0 <= g_min < g_max < float("inf"):
        raise CnetError(
            f"g_min is {g_min} and g_max is {g_max}; give conductances in uS, 0 <= g_min < g_max.",
            key="g_min",
            value=g_min,
            expected="conductances in uS, 0 <= g_min < g_max",
        )


def mapping_scales(weight: Tensor, omega: float, columnwise: bool) -> Tensor:
    """Return the digital factors that map the largest weight to omega (aihwkit's formula).

    Args:
        weight: nominal weights, [out, in].
        omega: where the largest weight is mapped to, above 0.
        columnwise: the largest weight of each output; otherwise of the whole tile.

    Returns:
        [out, 1] or [1]; 1 where all weights are 0.
    """
    if columnwise:
        largest = torch.maximum(weight.amax(1, keepdim=True), -weight.amin(1, keepdim=True))
    else:
        largest = torch.maximum(weight.max(), -weight.min()).view(1)
    scales = largest / omega
    scales[scales == 0.0] = 1.0
    return scales
