"""A network whose written layers compute on a chip, and gradients that need not read it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd import Function

from cnet_aihw.rram import RRAMLayer
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.inputs import Inputs, call, main_output, map_tensors
from cnet_aihw.tuning.chip import Chip, rram_layers


class _Measured(Function):
    """Forward: outputs of the chip; backward: the gradient of outputs that were computed."""

    @staticmethod
    def forward(ctx: Any, computed: Tensor, measured: Tensor) -> Tensor:
        return measured.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


class NetworkOnChip:
    """A network, partly on a chip, inside ``with network.computing()``.

    Layers that were written compute on the chip, in forward passes with gradients too; the others
    compute in software. The network's own parameters are the weights that are tuned.

    Args:
        model: a network of RRAM layers, in evaluation mode and without a chip.
        chip: the chip.

    Attributes:
        layers: the layers, name -> layer.
        written: names of the layers that are on the chip.
        exact: whether gradients pass through the chip's own weights, in place of the nominal ones.
        cut: whether each layer's input is a leaf of the graph, so that no gradient passes a layer.
        calls: layers that the last forward called, in their order.
        arrived: inputs of layers in the last forward with gradients, before the cut.
        gone: outputs of layers in the last forward with gradients and the cut.
    """

    def __init__(self, model: nn.Module, chip: Chip) -> None:
        self.model, self.chip = model, chip
        self.layers = rram_layers(model)
        self.written: set[str] = set()
        self.exact = False
        self.cut = False
        self._forget()

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Let the network compute so inside the block."""
        try:
            for name, layer in self.layers.items():
                layer.__dict__["forward"] = partial(self._forward, name, layer, layer.forward)
            yield
        finally:
            for layer in self.layers.values():
                layer.__dict__.pop("forward", None)
            self._forget()

    def outputs(self, inputs: Inputs) -> Any:
        """Return the network's outputs, and note what layers were called with."""
        self._forget()
        return call(self.model, inputs)

    def order(self, inputs: Inputs) -> list[str]:
        """Return the layers in the order in which a forward first calls them.

        Raises:
            CnetError: for a layer that no forward calls.
        """
        with torch.no_grad():
            self.outputs(inputs)
        for name in self.layers:
            if name not in self.calls:
                raise CnetError(
                    f"layer {name!r} is not called in a forward, so that it cannot be tuned.",
                    key=name,
                    value="not called",
                    expected="layers that are called",
                )
        return list(dict.fromkeys(self.calls))

    def check_chain(self, inputs: Inputs, key: str) -> None:
        """Check that each layer's input depends on the layer before it alone.

        Args:
            inputs: some inputs.
            key: name of the setting that needs a chain.

        Raises:
            CnetError: for a network with branches, or with a layer that is called several times.
        """
        inputs = map_tensors(inputs, leaf_of)
        self.cut = True
        try:
            outputs = main_output(self.outputs(inputs))
        finally:
            self.cut = False
        names = self.calls
        if len(set(names)) < len(names):
            again = next(name for name in names if names.count(name) > 1)
            raise _no_chain(key, f"layer {again!r} is called several times")
        ends = [*(self.arrived[name] for name in names[1:]), outputs]
        starts = [*(self.gone[name] for name in names)]
        given = [tensor for tensor in [inputs] if isinstance(tensor, Tensor) and _floats(tensor)]
        for number, (name, end) in enumerate(zip(names, ends, strict=True)):
            sources = [*starts[: number + 1], *given]
            found: Any = (
                torch.autograd.grad(end.sum(), sources, retain_graph=True, allow_unused=True)
                if end.requires_grad
                else [None] * len(sources)
            )
            if [g is not None for g in found] != [at == number for at in range(len(sources))]:
                raise _no_chain(key, f"what follows {name!r} does not depend on it alone")
        self._forget()

    def _forward(
        self,
        name: str,
        layer: RRAMLayer,
        software: Callable[..., Tensor],
        x: Tensor,
        output_size: Any = None,
    ) -> Tensor:
        self.calls.append(name)
        gradient = torch.is_grad_enabled()
        if gradient:
            self.arrived[name] = x
        if gradient and self.cut:
            x = x.detach()
        sized = {} if output_size is None else {"output_size": output_size}
        y = self._outputs(name, layer, software, x, gradient, sized)
        if gradient and self.cut:
            if not y.requires_grad:  # a frozen layer; what follows may still be tuned
                y = y.requires_grad_(True)
            self.gone[name] = y
        return y

    def _outputs(
        self,
        name: str,
        layer: RRAMLayer,
        software: Callable[..., Tensor],
        x: Tensor,
        gradient: bool,
        sized: dict[str, Any],
    ) -> Tensor:
        if name not in self.written:
            return software(x, **sized)
        with torch.no_grad():
            measured = self.chip.forward(name, x.detach(), layer.bias, **sized)
        if not gradient:
            return measured
        weight = None
        if self.exact:
            nominal = layer.nominal_weight()
            weight = cast(Any, self.chip).weight(name) + (nominal - nominal.detach())
        return _Measured.apply(layer.digital_forward(x, weight, **sized), measured)

    def _forget(self) -> None:
        self.calls: list[str] = []
        self.arrived: dict[str, Tensor] = {}
        self.gone: dict[str, Tensor] = {}


def finite_score(loss: float, score: float) -> float:
    """Return a score on a chip.

    Raises:
        CnetError: where the loss is not finite, since the score of such outputs means nothing.
    """
    if math.isfinite(loss):
        return score
    fix = "check the device's units, or choose a smaller variation"
    raise CnetError(
        f"the chip gives outputs with a loss of {loss}; {fix}.",
        key="chip",
        value=loss,
        expected="finite outputs",
        fix=fix,
    )


def leaf_of(tensor: Tensor) -> Tensor:
    """Return a copy that gradients are taken by; whole numbers as they are."""
    return tensor.detach().clone().requires_grad_(True) if _floats(tensor) else tensor


def _floats(tensor: Tensor) -> bool:
    return tensor.is_floating_point()


def _no_chain(key: str, why: str) -> CnetError:
    fix = "give backward=model"
    return CnetError(
        f"{key} needs layers in a chain, and {why}; {fix}.",
        key=key,
        expected="a chain of layers",
        fix=fix,
    )
