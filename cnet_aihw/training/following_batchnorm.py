"""Which BatchNorm stands right behind which analog layer."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cnet_aihw.evaluation.metrics import evaluation_mode
from cnet_aihw.rram import analog_layers


def following_batchnorms(model: nn.Module, example_input: Tensor) -> dict[str, _BatchNorm]:
    """Find the BatchNorm that takes an analog layer's output as it is, by the layer's name.

    One forward pass in evaluation mode tells: a layer's output object is the BatchNorm's input
    object. A layer used more than once counts if the same BatchNorm follows every use of it; a
    layer whose uses differ has no single gain and is left out.

    Args:
        model: converted model.
        example_input: a few samples on the model's device, [N, ...].

    Returns:
        BatchNorm by layer name, for the layers that have one.
    """
    outputs: list[tuple[str, Tensor]] = []  # the references keep ids from being used again
    inputs: list[tuple[_BatchNorm, Tensor]] = []
    handles = []
    for name, layer in analog_layers(model).items():
        handles.append(
            layer.register_forward_hook(
                lambda _module, _args, out, name=name: outputs.append((name, out))
            )
        )
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            handles.append(
                module.register_forward_pre_hook(
                    lambda module, args: inputs.append((module, args[0]))
                )
            )
    try:
        with evaluation_mode(model), torch.no_grad():
            model(example_input)
    finally:
        for handle in handles:
            handle.remove()
    uses: dict[str, list[list[_BatchNorm]]] = {}  # layer -> for each use the BatchNorms behind it
    for name, out in outputs:
        uses.setdefault(name, []).append([module for module, given in inputs if given is out])
    return {
        name: found[0][0]
        for name, found in uses.items()
        if all(found) and len({id(module) for use in found for module in use}) == 1
    }
