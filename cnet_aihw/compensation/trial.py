"""The trial of a corrector beside the layers of a network, before any work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cnet_aihw.compensation.corrector import Corrector, cost_of, layer_shape, with_size
from cnet_aihw.compensation.placement import Placement
from cnet_aihw.compensation.wrapping import (
    CompensatedLayer,
    compensate,
    compensated_layers,
    remove_compensation,
)
from cnet_aihw.evaluation.first_batch import check_inputs
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.inputs import Inputs
from cnet_aihw.runtime.origin import fault


def try_corrector(
    model: nn.Module, corrector: Corrector, layers: Sequence[str], inputs: Inputs
) -> None:
    """Check that a corrector works beside layers, changes nothing yet, and costs what it says.

    Args:
        model: the converted network, without correctors; as before afterwards.
        corrector: the corrector, which is built in its smallest size.
        layers: names of the layers.
        inputs: some samples.

    Raises:
        CnetError: names the corrector's class, a layer, and what is wrong there.
    """
    if not corrector.on_crossbar:
        return
    smallest: float | str = with_size(max(1, corrector.smallest)) if corrector.sized else 1.0
    try:
        compensate(model, Placement(dict.fromkeys(layers, smallest)), corrector)
        for name, wrapper in compensated_layers(model).items():
            _check_weights(name, wrapper)
            wrapper.corrector_module.register_forward_hook(_check_output(name, corrector))
        check_inputs(model, inputs)
    except CnetError as error:
        said = error.__cause__
        if error.key == "corrector" or said is None:
            raise
        raise _wrong(corrector, f"fails beside a layer ({fault(said, model)})") from said
    finally:
        remove_compensation(model)


def _check_weights(name: str, wrapper: CompensatedLayer) -> None:
    added = sum(parameter.numel() for parameter in wrapper.corrector_module.parameters())
    shape = layer_shape(wrapper.base_layer)
    claimed = cost_of(wrapper.corrector, shape, wrapper.size).weights
    if claimed != added:
        raise _wrong(
            wrapper.corrector,
            f"says that it costs {claimed} weights at {name!r}, where it has {added}",
        )


def _check_output(name: str, corrector: Corrector) -> Any:
    def check(_: nn.Module, given: tuple[Tensor, Tensor], found: Any) -> None:
        wanted = given[1]
        if not isinstance(found, Tensor) or (found.shape, found.dtype) != (
            wanted.shape,
            wanted.dtype,
        ):
            shown = (
                f"{found.dtype} {tuple(found.shape)}"
                if isinstance(found, Tensor)
                else type(found).__name__
            )
            raise _wrong(
                corrector,
                f"gives {shown} at {name!r}; expected the layer's {wanted.dtype} "
                f"{tuple(wanted.shape)}",
            )
        if not torch.allclose(found, wanted, equal_nan=True):
            raise _wrong(corrector, f"changes the output of {name!r} before it is fitted")

    return check


def _wrong(corrector: Corrector, what: str) -> CnetError:
    kind = type(corrector).__name__
    fix = "cnet_aihw.testing.check_corrector shows all that a corrector promises"
    return CnetError(f"{kind} {what}; {fix}.", key="corrector", value=kind, fix=fix)
