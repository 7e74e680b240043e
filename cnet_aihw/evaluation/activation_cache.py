"""Cache of clean activations: outputs of analog layers in front of the first one that varies."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from aihwkit.nn.modules.base import AnalogLayerBase
from aihwkit.simulator.tiles.inference import InferenceTile
from torch import Tensor, nn

from cnet_aihw.evaluation.first_batch import check_inputs, eager
from cnet_aihw.rram import analog_layers
from cnet_aihw.runtime.inputs import Inputs
from cnet_aihw.runtime.random_state import forked_random_state
from cnet_aihw.runtime.torch_device import device_of


@dataclass(frozen=True)
class Call:
    """One call of an analog layer in a forward pass of the network."""

    layer: str
    """Name of the layer."""

    bytes: int
    """Size of its output for one batch."""

    weight_row: int
    """Weights that each number of the output is computed from."""

    repeats: bool
    """Whether the next pass gives the same output: not so once random numbers were drawn, such as
    for a periphery's noise."""


@torch.inference_mode()
def trace_calls(model: nn.Module, inputs: Inputs) -> list[Call]:
    """Run one batch through; return the calls of analog layers in the order of execution.

    Raises:
        CnetError: where the network does not take it, or calls none of its analog layers.

    Warns:
        UserWarning: for each analog layer that is not called.
    """
    layers = analog_layers(model)
    rows = {name: layer.get_weights()[0][0].numel() for name, layer in layers.items()}
    calls: list[Call] = []
    device = device_of(model)
    before = _random_state(device)

    def note(place: tuple[int, int], name: str, compute: Callable[[], Any]) -> Any:
        output = compute()
        drew = not torch.equal(before, _random_state(device))  # this call or one before it
        size = output.nbytes if isinstance(output, Tensor) else 0
        repeats = size > 0 and not drew and not _has_unseeded_noise(layers[name])
        calls.append(Call(name, size, rows[name], repeats))
        return output

    with forked_random_state(device), _answered(model, note):
        check_inputs(model, inputs)
    return calls


class ActivationCache:
    """Outputs of calls in the clean network, for measurements that begin with the same ones.

    A later pass is the clean one up to the first call of a layer that varies. Until then the
    calls that were kept are answered without computing, with copies, since networks may change
    outputs in place. Kept are the calls that save most multiplications per byte, as many batches of
    each as the memory allows. From the first call on that gives other outputs each time, nothing is
    kept.

    Args:
        calls: the calls that :func:`trace_calls` found.
        uses: call -> how many later passes could take its output.
        batches: number of batches of a pass.
        limit: bytes that the outputs may take, on the model's device.
    """

    def __init__(
        self, calls: Sequence[Call], uses: Mapping[int, int], batches: int, limit: int
    ) -> None:
        self._calls = calls
        self._kept: dict[tuple[int, int], tuple[str, Tensor]] = {}
        self._wanted: dict[int, int] = {}  # call -> number of batches
        repeating = next((i for i, call in enumerate(calls) if not call.repeats), len(calls))
        gain = {i: uses.get(i, 0) * calls[i].weight_row for i in range(repeating)}
        for i in sorted(gain, key=lambda i: -gain[i]):
            if gain[i] > 0:
                self._wanted[i] = min(batches, limit // calls[i].bytes)
                limit -= self._wanted[i] * calls[i].bytes

    @contextmanager
    def recorded(self, model: nn.Module) -> Iterator[None]:
        """Keep outputs of the one pass over the data that is made inside the block."""

        def keep(place: tuple[int, int], name: str, compute: Callable[[], Any]) -> Any:
            batch, call = place
            output = compute()
            if batch < self._wanted.get(call, 0) and name == self._calls[call].layer:
                self._kept[place] = name, output.clone()
            return output

        with _answered(model, keep):
            yield

    @contextmanager
    def replayed(self, model: nn.Module, varied: Collection[str]) -> Iterator[None]:
        """Take kept outputs in the one pass that is made inside the block.

        Args:
            model: the model that was recorded.
            varied: the layers that are not clean in this pass.
        """
        spoiled = -1  # the last batch in which a layer that varies was called

        def answer(place: tuple[int, int], name: str, compute: Callable[[], Any]) -> Any:
            nonlocal spoiled
            if name in varied:
                spoiled = place[0]
            if spoiled != place[0] and place in self._kept:
                kept_name, output = self._kept[place]
                if kept_name == name:
                    return output.clone()
            return compute()

        with _answered(model, answer):
            yield


@contextmanager
def _answered(
    model: nn.Module, answer: Callable[[tuple[int, int], str, Callable[[], Any]], Any]
) -> Iterator[None]:
    """Let ``answer`` stand for the forward of every analog layer inside the block.

    It is given the place of the call (batch, number within the batch), the layer's name and the
    layer's own computation. A batch is a call of the model.
    """
    batch, call = -1, -1

    def start_batch(module: nn.Module, inputs: Any) -> None:
        nonlocal batch, call
        batch, call = batch + 1, -1

    def counted(name: str, compute: Callable[[], Any]) -> Any:
        nonlocal call
        call += 1
        return answer((batch, call), name, compute)

    layers: dict[str, Any] = dict(analog_layers(model))
    with model.register_forward_pre_hook(start_batch), forward_replaced(layers, counted):
        yield


@contextmanager
def forward_replaced(
    layers: Mapping[str, nn.Module], answer: Callable[[str, Callable[[], Any]], Any]
) -> Iterator[None]:
    """Let ``answer`` stand for the forward of layers inside the block.

    Args:
        layers: the layers by name.
        answer: is given a layer's name and its own computation, and returns its output.
    """

    def answering(name: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: answer(name, lambda: forward(*args, **kwargs))

    with eager(), ExitStack() as stack:
        for name, layer in layers.items():
            stack.callback(_reset_forward, layer, layer.__dict__.get("forward"))
            layer.__dict__["forward"] = answering(name, layer.forward)
        yield


def _reset_forward(layer: nn.Module, own: Callable[..., Any] | None) -> None:
    """Give a layer the forward of its class again, or the one that it had for itself."""
    del layer.__dict__["forward"]
    if own is not None:
        layer.__dict__["forward"] = own


def _has_unseeded_noise(layer: AnalogLayerBase) -> bool:
    """Say whether a layer is on C++ tiles with a periphery, whose noise torch does not know of."""
    return any(
        isinstance(tile, InferenceTile) and not tile.rpu_config.forward.is_perfect
        for tile in layer.analog_tiles()
    )


def _random_state(device: torch.device) -> Tensor:
    state = torch.get_rng_state()
    if device.type == "cuda":
        state = torch.cat([state, torch.cuda.get_rng_state(device)])
    return state
