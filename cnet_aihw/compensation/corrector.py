"""The interface of correctors: small digital modules beside analog layers, and what they cost."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass, replace
from importlib import import_module
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import check_count, is_whole

_KIND = "corrector"  # key of the class in a description
CORRECTABLE = "a linear layer or a 1d or 2d convolution"
"""Layers beside which a corrector can stand, for messages."""
_SIZE = re.compile(r"size (\d+)")


@dataclass(frozen=True)
class LayerShape:
    """Shape of a linear layer or convolution."""

    dims: int
    """Dimensions it slides over: 0 for a linear layer, 1 to 3 for a convolution."""

    in_channels: int
    """Input channels (features)."""

    out_channels: int
    """Output channels (features), C."""

    kernel_size: tuple[int, ...] = ()
    """Sides of the kernel, one for each dimension."""

    groups: int = 1
    """Groups of a convolution."""

    bias: bool = True
    """Whether the layer has a bias."""

    stride: tuple[int, ...] = ()
    """Steps of a convolution, one for each dimension."""

    padding: tuple[int, ...] = ()
    """Zeros that a convolution puts on each side, one number for each dimension; empty where it
    pads in another way, or is transposed."""

    dilation: tuple[int, ...] = ()
    """Steps between the taps of a convolution, one for each dimension."""

    @classmethod
    def of(cls, layer: nn.Linear | _ConvNd) -> LayerShape:
        """Return the shape of any linear layer or convolution, analog or digital."""
        if isinstance(layer, _ConvNd):
            kernel, padding = tuple(layer.kernel_size), layer.padding
            shape = cls(
                len(kernel),
                layer.in_channels,
                layer.out_channels,
                kernel,
                layer.groups,
                stride=tuple(layer.stride),
                padding=tuple(padding)
                if layer.padding_mode == "zeros"
                and not isinstance(padding, str)
                and not layer.transposed
                else (),
                dilation=tuple(layer.dilation),
            )
        else:
            shape = cls(0, layer.in_features, layer.out_features)
        # aihwkit's own layers have a truth value in place of a bias
        return replace(shape, bias=layer.bias is not None and layer.bias is not False)

    @property
    def channels(self) -> tuple[int, int]:
        """Input and output channels."""
        return self.in_channels, self.out_channels

    @property
    def correctable(self) -> bool:
        """Whether a corrector can stand beside the layer."""
        return self.dims <= 2

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the layer itself for each position of its output.

        Of a transposed convolution, for each position of its input.
        """
        return self.out_channels * (self.in_channels // self.groups) * math.prod(self.kernel_size)

    @property
    def weights(self) -> int:
        """Weights and biases of the layer itself."""
        return self.macs + (self.out_channels if self.bias else 0)


@checked
def layer_shape(layer: nn.Module) -> LayerShape:
    """Return the shape of a layer beside which a corrector can stand.

    Raises:
        CnetError: if it is neither a linear layer nor a convolution over one or two dimensions.
    """
    if isinstance(layer, nn.Linear | _ConvNd):
        shape = LayerShape.of(layer)
        if shape.correctable:
            return shape
    raise CnetError(
        f"{type(layer).__name__} cannot be compensated; expected {CORRECTABLE}.",
        key="layer",
        value=type(layer).__name__,
        expected=CORRECTABLE,
    )


@checked
def with_size(filters: int) -> str:
    """Return the value of a placement that gives a layer a corrector with so many filters.

    Raises:
        CnetError: for less than none.
    """
    check_count("filters", filters, 0)
    return f"size {filters}"


def size_given(value: float | str) -> int | None:
    """Return the filters that a value such as ``"size 2"`` gives; None for any other value."""
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    return None if found is None else int(found[1])


@dataclass(frozen=True)
class CorrectorCost:
    """Digital cost of a corrector beside one layer.

    Multiply-accumulates are those of matrix products and convolutions, as in
    :func:`cnet_aihw.compensation.network_cost`; element-wise operations count on neither side.
    """

    weights: int
    """Digital weights, biases included."""

    macs: int
    """Digital multiply-accumulates for each position of the layer's output."""


class Corrector(ABC):
    """Kind of corrector; subclasses are frozen dataclasses whose fields are the settings.

    A corrector builds a module for one layer, which is called with the layer's input x
    (``[N, in, *positions]``; linear: ``[..., in]``) and its output y (``[N, C, *positions]``;
    linear: ``[..., C]``) and returns the corrected output in the shape and type of y. Layers within
    the module must not be plain ``torch.nn`` classes, which a conversion would put on crossbars:
    take those of :mod:`cnet_aihw.compensation.modules`.

    The size m of a sized corrector is its number of filters, ``max(1, round(ratio * C))``, or what
    ``"size m"`` says, at most C. A corrector without a size has size 0 and is placed with the ratio
    1. Ratio 0 places nothing.
    """

    sized: ClassVar[bool] = True
    """Whether it comes in sizes; one that does overrides :meth:`shrink`."""

    smallest: ClassVar[int] = 1
    """Smallest size of a sized corrector; 0 where something is left of it without filters."""

    on_crossbar: ClassVar[bool] = True
    """Whether the layer beside it still computes on the crossbar."""

    @abstractmethod
    def build(self, shape: LayerShape, size: int) -> nn.Module:
        """Return the module beside a layer, which changes no output before it is fitted.

        Args:
            shape: shape of the layer.
            size: number of filters; 0 without a size.
        """

    @abstractmethod
    def cost(self, shape: LayerShape, size: int) -> CorrectorCost:
        """Return the cost of what :meth:`build` returns, without building it."""

    def shrink(self, module: nn.Module, size: int) -> dict[str, Tensor]:
        """Return views of the parameters that a smaller module of this kind would have.

        Args:
            module: a module that :meth:`build` returned.
            size: the smaller size, at least 1; 0 without a size.

        Returns:
            Name of a parameter -> view of it, with which ``torch.func.functional_call`` on the
            module computes the smaller one.
        """
        return dict(module.named_parameters())

    def label(self) -> str:
        """Return a short name for tables, different for different settings."""
        settings = ", ".join(f"{name}={value}" for name, value in vars(self).items())
        return type(self).__name__.lower() + (f"({settings})" if settings else "")

    def size(self, shape: LayerShape, ratio: float | str) -> int:
        """Return the size at a layer: 0 without a size and for ratio 0.

        Args:
            shape: shape of the layer.
            ratio: ratio in [0, 1], or text such as "size 2", of which at most C filters are taken.

        Raises:
            CnetError: for a value other than 0, 1 and "size 0" of a corrector without a size, and
                for a size below the smallest one of a corrector with sizes.
        """
        filters = size_given(ratio)
        if self.sized:
            if filters is None:
                return max(1, round(float(ratio) * shape.out_channels)) if ratio else 0
            if filters < self.smallest:
                raise bad_value(
                    "size", filters, f"at least {self.smallest} filters of {self.label()}"
                )
            return min(filters, shape.out_channels)
        if ratio not in (0.0, 1.0) and filters != 0:
            raise bad_value("ratio", ratio, f"0 or 1, as {self.label()} has no size")
        return 0

    def describe(self) -> dict[str, Any]:
        """Return class and settings as plain values, from which :func:`corrector_from` rebuilds it.

        Raises:
            CnetError: if the class is not a dataclass.
        """
        settings: Any = self
        if not is_dataclass(settings):
            raise CnetError(
                f"{type(self).__name__} is not a dataclass; make it a frozen dataclass whose "
                "fields are its settings.",
                key=_KIND,
                value=type(self).__name__,
                expected="a frozen dataclass",
            )
        kind = type(self)
        return {_KIND: f"{kind.__module__}.{kind.__qualname__}", **asdict(settings)}  # type: ignore[arg-type]


def cost_of(corrector: Corrector, shape: LayerShape, size: int) -> CorrectorCost:
    """Return the cost that a corrector names, which may be of a class from outside.

    Raises:
        CnetError: for anything but two whole numbers of at least 0.
    """
    cost: Any = corrector.cost(shape, size)
    whole = isinstance(cost, CorrectorCost) and is_whole(cost.weights) and is_whole(cost.macs)
    if not whole or min(cost.weights, cost.macs) < 0:
        expected = "a CorrectorCost of two whole numbers of at least 0"
        kind = type(corrector).__name__
        raise CnetError(
            f"{kind}.cost returns {cost!r}; expected {expected}.",
            key=_KIND,
            value=cost,
            expected=expected,
        )
    return cost


@checked
def corrector_from(described: Mapping[str, Any]) -> Corrector:
    """Rebuild a corrector from its description.

    The class is imported by name, and nothing but a subclass of :class:`Corrector` is called.

    Args:
        described: class path and settings, as :meth:`Corrector.describe` returns them.

    Raises:
        CnetError: if the class cannot be imported, is not a corrector, or has other settings.
    """
    settings = dict(described)
    path = str(settings.pop(_KIND, None))
    module, _, name = path.rpartition(".")
    try:
        kind: Any = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise CnetError(
            f"the corrector {path!r} cannot be imported ({error}); install the package that "
            "defines it.",
            key=_KIND,
            value=path,
        ) from error
    is_corrector = isinstance(kind, type) and issubclass(kind, Corrector)
    if not is_corrector:
        raise bad_value(_KIND, path, "a subclass of cnet_aihw.compensation.Corrector")
    try:
        corrector: Corrector = kind(**settings)
        return corrector
    except TypeError as error:
        raise CnetError(
            f"the corrector {path!r} does not take the settings {settings} ({error}); use the "
            "version of the package that saved them.",
            key=_KIND,
            value=settings,
        ) from error
