"""The stand-in for the weight of an analog layer: shape, type and device, but no numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cnet_aihw.runtime.errors import CnetError

_T: Any = Tensor
_PROPERTIES = (
    *("shape", "dtype", "device", "requires_grad", "ndim", "layout", "is_leaf", "grad_fn"),
    *("is_cuda", "is_cpu", "is_mps", "is_xpu", "is_meta", "is_sparse", "is_quantized"),
    *("is_mkldnn", "is_nested", "itemsize", "nbytes"),
)
_METHODS = (
    *("size", "dim", "ndimension", "numel", "nelement", "stride", "element_size", "__len__"),
    *("is_floating_point", "is_complex", "is_signed", "is_contiguous", "is_inference"),
    *("get_device", "__hash__"),
)
_DESCRIBING = frozenset(
    [getattr(_T, name).__get__ for name in _PROPERTIES if hasattr(_T, name)]
    + [getattr(_T, name) for name in _METHODS]
    + [torch.is_floating_point, torch.is_complex, torch.numel, torch.is_signed]
)
"""Functions of tensors that say what kind of tensor it is, without its numbers."""


class WeightStandIn(Tensor):
    """Stand-in for the weight of a layer whose weights lie on crossbars.

    Networks read shape, type and device of their layers' weights. Whatever would compute with the
    numbers is refused, because the numbers of a chip come about in the layer's own forward.
    """

    _layer: str

    @staticmethod
    def of(layer: str, shape: tuple[int, ...], like: Tensor) -> WeightStandIn:
        """Make the stand-in of a layer.

        Args:
            layer: the layer in words, for the message.
            shape: shape of the weight in the digital layer.
            like: tensor whose type, device and need for a gradient it has.
        """
        maker: Any = Tensor
        made: WeightStandIn = maker._make_wrapper_subclass(
            WeightStandIn,
            shape,
            dtype=like.dtype,
            device=like.device,
            requires_grad=like.requires_grad,
        )
        made._layer = layer
        return made

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Answer questions about shape, type and device; refuse the rest."""
        if func in _DESCRIBING:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))
        found = (a for a in (*args, *(kwargs or {}).values()) if isinstance(a, WeightStandIn))
        layer = next((a._layer for a in found), "an analog layer")
        name = getattr(func, "__name__", str(func))
        if name == "__get__":
            name = func.__self__.__name__
        fix = (
            "call the layer itself, take layer.get_weights(), or leave the layer digital (exclude)"
        )
        raise CnetError(
            f"{name} cannot compute with the weight of {layer}, which lies on crossbars; {fix}.",
            key="weight",
            value=name,
            fix=fix,
        )

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Refuse what comes past :meth:`__torch_function__`."""
        return cls.__torch_function__(func, types, args, kwargs)

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        """Return shape and type."""
        return f"<weight of {self._layer} on crossbars, {tuple(self.shape)} {self.dtype}>"

    def __format__(self, spec: str) -> str:
        """Return shape and type."""
        return format(repr(self), spec)
