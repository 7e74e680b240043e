"""Networks with charge read-out: missing clips, scales for those mapped to it, and voltages."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cnet_aihw.evaluation.first_batch import checked_call
from cnet_aihw.evaluation.metrics import evaluation_mode, pass_over
from cnet_aihw.rram import RRAMLayer, analog_layers, nominal_inside, set_readout
from cnet_aihw.rram.crossbar.refusals import check_one_crossbar_of_rows
from cnet_aihw.rram.training_variation import rram_tiles
from cnet_aihw.runtime.device_parts import placed
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.inputs import Inputs, inputs_on
from cnet_aihw.runtime.parts import as_part
from cnet_aihw.runtime.random_state import derive_seed, forked_random_state, seed_random_state
from cnet_aihw.runtime.torch_device import device_of
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import check_count, is_number
from cnet_aihw.tasks import Classification, Task

_LARGE = 1e3
GRID = (1.0, 1.5, 2.0, 3.0, 4.0)


@dataclass(frozen=True)
class ScaleFit:
    """Scales of a network's weights by sign, and what they give without variation."""

    scale_plus: float
    """Factor on weights >= 0."""

    scale_minus: float
    """Factor on weights below 0."""

    score: float
    """Clean score with them."""

    unscaled: float
    """Clean score without."""


@checked
def check_clipped(model: nn.Module, x: Inputs) -> None:
    """Refuse a network that would pass values outside [0, 1] to a layer with charge read-out.

    All outputs of such layers are replaced by large ones of both signs, so that a missing clip
    shows before any training; functions that are not modules are found too.

    Args:
        model: converted network; it is not changed.
        x: one input or more.

    Raises:
        CnetError: names the layer that would read them.
    """
    layers: dict[str, Any] = {
        name: layer
        for name, layer in analog_layers(model).items()
        if isinstance(layer, RRAMLayer) and layer.tiles()[0].rpu_config.readout is not None
    }
    if not layers:
        return
    for name, layer in layers.items():
        check_one_crossbar_of_rows(name, layer.analog_module)
    device = device_of(model)
    with (
        torch.no_grad(), forked_random_state(device), evaluation_mode(model),
        nominal_inside(model), _large_outputs(layers),
    ):  # fmt: skip
        checked_call(model, inputs_on(device, x))


@contextmanager
def _large_outputs(layers: Mapping[str, Any]) -> Iterator[None]:
    seen = set()

    def look(name: str, x: Tensor) -> None:
        low, high = (float(value) for value in torch.aminmax(x))
        if low >= -1e-5 and high <= 1.0 + 1e-5:
            seen.add(name)
            return
        fix = "clip its inputs, as torch.nn.Hardtanh(0.0, 1.0) does"
        what = "the network's inputs are" if not seen else "what it reads is"
        raise CnetError(
            f"{name} has charge read-out, but {what} not clipped to [0, 1], the times that spikes "
            f"can have; {fix}.",
            key=name,
            value=(low, high),
            expected="inputs in [0, 1]",
            fix=fix,
        )

    def large(x: Tensor, y: Tensor) -> Tensor:
        signs = torch.arange(y.numel(), device=y.device).remainder(2).view_as(y)
        return (signs.to(y.dtype) - 0.5) * (2.0 * _LARGE)

    with ExitStack() as stack:
        for name, layer in layers.items():
            before = layer.register_forward_pre_hook(lambda _, x, name=name: look(name, x[0]))
            after = layer.register_forward_hook(lambda _, x, y: large(x[0], y))
            stack.callback(before.remove)
            stack.callback(after.remove)
        yield


@checked
def fit_charge_scales(
    model: nn.Module,
    data: Any,
    grid: Sequence[float] = GRID,
    *,
    task: Task | None = None,
    batch_size: int = 250,
    seed: int = 0,
) -> ScaleFit:
    """Scale a network that was trained without the circuit, so that it does best in it.

    All pairs of the grid are tried, one scale for all weights >= 0 and one for all below 0, on the
    nominal weights; the best pair is set on the model (as
    ``set_readout(model, scale_plus=..., scale_minus=...)``), whose weights stay. Of equal scores
    the lower loss wins. Source: the scaled networks of Sakemi et al., arXiv 2412.09010.

    Args:
        model: a network with charge read-out.
        data: inputs and targets to choose on, best the validation part.
        grid: scales to try.
        task: what is a good score; None: classification.
        batch_size: samples a forward pass takes at once.
        seed: seed of the noise of spikes, the same for all pairs.

    Returns:
        The best pair.

    Raises:
        CnetError: for a network without charge read-out, and for scales that are not above 0.
    """
    task = task or Classification()
    check_count("batch_size", batch_size)
    if not len(grid) or not all(is_number(scale) and scale > 0.0 for scale in grid):
        raise bad_value("grid", grid, "numbers above 0")
    device = device_of(model)
    part = placed(as_part(data), device)

    def measured(plus: float, minus: float) -> tuple[float, float]:
        set_readout(model, scale_plus=float(plus), scale_minus=float(minus))
        seed_random_state(derive_seed(seed, "scales"), device)
        loss, score = pass_over(model, part, batch_size, task, check=True)
        return (score if task.higher_is_better else -score), -loss

    with (
        _readouts_kept(model), forked_random_state(device), evaluation_mode(model),
        nominal_inside(model),
    ):  # fmt: skip
        unscaled = measured(1.0, 1.0)
        found = {pair: measured(*pair) for pair in itertools.product(grid, repeat=2)}
    best = max(found, key=lambda pair: found[pair])
    set_readout(model, scale_plus=float(best[0]), scale_minus=float(best[1]))
    sign = 1.0 if task.higher_is_better else -1.0
    return ScaleFit(float(best[0]), float(best[1]), sign * found[best][0], sign * unscaled[0])


@contextmanager
def _readouts_kept(model: nn.Module) -> Iterator[None]:
    """Put the circuits back after the block."""
    before = [(tile.rpu_config, tile.rpu_config.readout) for _, tile in rram_tiles(model)]
    try:
        yield
    finally:
        for config, readout in before:
            config.readout = readout


@checked
def column_voltages(model: nn.Module, x: Inputs) -> dict[str, Tensor]:
    """Return the outputs of a network's analog layers for some inputs, as they are now.

    With charge read-out these are voltages at the end of the window: a network that was trained
    without noise of spikes may hide at tiny ones, which no reversal potential bends.

    Args:
        model: an analog network, programmed or not.
        x: inputs.

    Returns:
        Layer -> outputs of its last call, on the CPU. The noise of spikes is the same at each call.
    """
    found: dict[str, Tensor] = {}
    device = device_of(model)
    with (
        ExitStack() as stack, torch.no_grad(), evaluation_mode(model), forked_random_state(device)
    ):  # fmt: skip
        seed_random_state(derive_seed("voltages"), device)
        for name, layer in analog_layers(model).items():

            def keep(_: nn.Module, __: Any, y: Tensor, name: str = name) -> None:
                found[name] = y.detach().cpu().clone()

            stack.callback(layer.register_forward_hook(keep).remove)
        checked_call(model, inputs_on(device, x))
    return found
