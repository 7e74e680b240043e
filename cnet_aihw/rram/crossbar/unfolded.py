"""Modules taken apart into layers that can go on crossbars, and put together again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from cnet_aihw.rram.crossbar.keyword_input import KeywordInput


class UnfoldedModule(KeywordInput, nn.Module, ABC):
    """Module that computes as one of torch's, with a layer of its own for each weight matrix.

    Made of plain layers by :meth:`from_digital`; conversion puts these on crossbars one by one.
    """

    given_up: ClassVar[frozenset[str]] = frozenset()
    """Attributes of torch's module, beside its parameters, that this one does not have."""

    @staticmethod
    def reason_against(module: Any) -> str:
        """Return why a module cannot be taken apart, or ""."""
        for name, value in vars(module).items():
            if isinstance(value, Tensor) and f"{name}_g" in module._parameters:
                return f"its {name} is computed from others before each forward"
        return ""

    @classmethod
    @abstractmethod
    def from_digital(
        cls, module: Any, rpu_config: Any = None, tile_module_class: type | None = None
    ) -> UnfoldedModule:
        """Return the module made of plain layers, with copies of the weights."""

    @abstractmethod
    def folded(self) -> nn.Module:
        """Return torch's module with the present weights of the layers, which must be plain."""

    @property
    def is_plain(self) -> bool:
        """Whether all layers are torch's own, so that they can be put together again."""
        kinds = (nn.Linear, NonDynamicallyQuantizableLinear)
        return all(type(layer) in kinds for layer in self.children())


def linear_of(weight: Tensor, bias: Tensor | None, *, trained: tuple[bool, bool]) -> nn.Linear:
    """Return a linear layer with copies of a weight [out, in] and a bias.

    Args:
        weight: the weight.
        bias: the bias, if any.
        trained: whether weight and bias are.
    """
    rows, columns = weight.shape
    layer = nn.Linear(columns, rows, bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach().clone(), requires_grad=trained[0])
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone(), requires_grad=trained[1])
    return layer


def joined_parameter(parts: list[Tensor]) -> nn.Parameter:
    """Return a parameter of parts one below the other; frozen where all of them are."""
    trained = any(part.requires_grad for part in parts)
    return nn.Parameter(torch.cat([part.detach() for part in parts]), requires_grad=trained)
