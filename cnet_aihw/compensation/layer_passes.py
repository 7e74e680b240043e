"""Forward passes that show the inputs and outputs of layers, and stop where that is enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from cnet_aihw.compensation.closed_form import ClosedFormModule, rows_of
from cnet_aihw.compensation.corrector import Corrector, LayerShape
from cnet_aihw.compensation.moments import Moments
from cnet_aihw.compensation.wrapping import CompensatedLayer, compensated_layers
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.inputs import Inputs, call
from cnet_aihw.runtime.typed import checked


class Enough(Exception):
    """A pass has gone as far as it is needed."""


def closed_form_layers(model: nn.Module) -> dict[str, CompensatedLayer]:
    """Return the layers whose correctors have a closed form, by name."""
    return {
        name: layer
        for name, layer in compensated_layers(model).items()
        if isinstance(layer.corrector_module, ClosedFormModule)
        and layer.corrector_module.in_closed_form
    }


@checked
def has_closed_form(corrector: Corrector) -> bool:
    """Say whether a kind of corrector can be fitted to a chip in closed form, or needs no fit."""
    shape = LayerShape(2, 2, 2, (3, 3), stride=(1, 1), padding=(1, 1), dilation=(1, 1))
    module = corrector.build(shape, 1 if corrector.sized else 0)
    linear = isinstance(module, ClosedFormModule) and module.in_closed_form
    return linear or not list(module.parameters())


def call_outputs(
    model: nn.Module, layers: Mapping[str, nn.Module], x: Inputs, stop_after: int | None = None
) -> tuple[dict[str, list[Tensor]], Any]:
    """Run a model; return the outputs of each layer's calls in the order of execution, and its own.

    Args:
        model: the model, as it is to compute.
        layers: the layers by name.
        x: inputs.
        stop_after: stop after so many outputs; the model's own is None then. None: do not stop.
    """
    outputs: dict[str, list[Tensor]] = {}
    left = stop_after
    with ExitStack() as stack:
        for name, layer in layers.items():

            def keep(_: nn.Module, __: Any, y: Tensor, name: str = name) -> None:
                nonlocal left
                outputs.setdefault(name, []).append(y.clone())  # networks change outputs in place
                if left is not None:
                    left -= 1
                    if not left:
                        raise Enough

            stack.callback(layer.register_forward_hook(keep).remove)
        return outputs, run(model, x)


@contextmanager
def layers_seen(
    layers: Mapping[str, CompensatedLayer],
    see: Callable[[str, CompensatedLayer, Tensor, Tensor], None],
) -> Iterator[None]:
    """Show input and output of each base layer, before its corrector acts, inside the block."""
    with ExitStack() as stack:
        for name, layer in layers.items():

            def hook(
                _: nn.Module, inputs: Any, y: Tensor,
                name: str = name, layer: CompensatedLayer = layer,
            ) -> None:  # fmt: skip
                see(name, layer, inputs[0], y)

            base: Any = layer.base_layer
            stack.callback(base.register_forward_hook(hook).remove)
        yield


@contextmanager
def calls_seen(
    name: str, layer: CompensatedLayer, wanted: Sequence[Tensor],
    see: Callable[[Tensor, Tensor, Tensor], None],
) -> Iterator[None]:  # fmt: skip
    """Show input, output and wanted output of each call of a layer, before its corrector acts.

    A call that is followed by others gives its wanted output, so that these get the inputs that
    they will have once the layer is corrected; the last one ends the pass.

    Args:
        name: name of the layer.
        layer: the layer.
        wanted: wanted output of each call.
        see: called with input, output and wanted output.

    Raises:
        CnetError: for outputs without wanted ones beside them.
    """
    number = 0

    def gather(_: nn.Module, inputs: Any, y: Tensor) -> None:
        if y.shape != wanted[number].shape:
            raise unpaired(name)
        see(inputs[0], y, wanted[number])
        if number == len(wanted) - 1:
            raise Enough

    def answer(*_: Any) -> Tensor:
        nonlocal number
        number += 1
        return wanted[number - 1].clone()

    base: Any = layer.base_layer
    with ExitStack() as stack:
        stack.callback(base.register_forward_hook(gather).remove)
        stack.callback(layer.register_forward_hook(answer).remove)
        yield


def run(model: nn.Module, x: Inputs) -> Any:
    """Run a model as far as it is needed; return its outputs, None where it was stopped."""
    try:
        return call(model, x)
    except Enough:
        return None


def add_rows(
    moments: Moments, layer: CompensatedLayer, x: Tensor, y: Tensor, wanted: Tensor
) -> None:
    """Add a layer's features, output and wanted output at every position to its moments."""
    module: Any = layer.corrector_module
    rows = rows_of(y, module.dims)
    moments.add(module.feature_rows(x, y), rows, rows_of(wanted, module.dims).to(rows.dtype))


def unpaired(name: str) -> CnetError:
    """Return the error of a layer whose outputs on a chip have no wanted ones beside them.

    Args:
        name: name of the layer.
    """
    expected = "a layer that is given the same samples on every chip"
    fix = "leave it out of the placement, or digital (exclude)"
    return CnetError(
        f"layer {name!r} cannot be fitted to a chip: which samples it is given depends on what "
        "the network computes, as behind a choice of experts or an early exit, so that they are "
        f"not those of the clean network; {fix}.",
        key=f"placement.{name}",
        value=name,
        expected=expected,
        fix=fix,
    )
