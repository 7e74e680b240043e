"""Networks with charge read-out: scales for those trained without the circuit, and voltages."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cnet_aihw.evaluation.metrics import evaluation_mode, pass_over
from cnet_aihw.rram import analog_layers, nominal_inside, set_readout
from cnet_aihw.runtime.device_parts import placed
from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.runtime.inputs import Inputs, call, inputs_on
from cnet_aihw.runtime.parts import as_part
from cnet_aihw.runtime.random_state import derive_seed, forked_random_state, seed_random_state
from cnet_aihw.runtime.torch_device import device_of
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import check_count, is_number
from cnet_aihw.tasks import Classification, Task

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
    if not grid or not all(is_number(scale) and scale > 0.0 for scale in grid):
        raise bad_value("grid", grid, "numbers above 0")
    device = device_of(model)
    part = placed(as_part(data), device)

    def measured(plus: float, minus: float) -> tuple[float, float]:
        set_readout(model, scale_plus=float(plus), scale_minus=float(minus))
        seed_random_state(derive_seed(seed, "scales"), device)
        loss, score = pass_over(model, part, batch_size, task, check=True)
        return (score if task.higher_is_better else -score), -loss

    with forked_random_state(device), evaluation_mode(model), nominal_inside(model):
        unscaled = measured(1.0, 1.0)
        found = {pair: measured(*pair) for pair in itertools.product(grid, repeat=2)}
    best = max(found, key=lambda pair: found[pair])
    set_readout(model, scale_plus=float(best[0]), scale_minus=float(best[1]))
    sign = 1.0 if task.higher_is_better else -1.0
    return ScaleFit(float(best[0]), float(best[1]), sign * found[best][0], sign * unscaled[0])


@checked
def column_voltages(model: nn.Module, x: Inputs) -> dict[str, Tensor]:
    """Return the outputs of a network's analog layers for some inputs, as they are now.

    With charge read-out these are voltages at the end of the window: a network that was trained
    without noise of spikes may hide at tiny ones, which no reversal potential bends.

    Args:
        model: an analog network, programmed or not.
        x: inputs.

    Returns:
        Layer -> outputs of its last call, on the CPU.
    """
    found: dict[str, Tensor] = {}
    with ExitStack() as stack, torch.no_grad(), evaluation_mode(model):
        for name, layer in analog_layers(model).items():

            def keep(_: nn.Module, __: Any, y: Tensor, name: str = name) -> None:
                found[name] = y.detach().cpu().clone()

            stack.callback(layer.register_forward_hook(keep).remove)
        call(model, inputs_on(device_of(model), x))
    return found
