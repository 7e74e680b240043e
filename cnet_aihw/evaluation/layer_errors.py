"""How an error grows through the layers: each layer's output on chips against the clean network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
from aihwkit.inference.noise.base import BaseNoiseModel
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from cnet_aihw.evaluation.calibration import ChipCalibration
from cnet_aihw.evaluation.chip_run import check_nominal, measuring
from cnet_aihw.evaluation.metrics import inputs_on
from cnet_aihw.rram import analog_layers, programmed
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.random_state import derive_seed, seed_random_state
from cnet_aihw.runtime.torch_device import resolve_device


@dataclass(frozen=True)
class LayerError:
    """Relative error of one layer's output: norm of the difference / norm of the clean output."""

    layer: str
    """Name of the layer."""

    index: int
    """Its place in the order of execution, from 0."""

    mean: float
    """Mean over chips."""

    low: float
    """The smallest of the chips."""

    high: float
    """The largest of the chips."""

    chips: int
    """Number of chips."""

    samples: int
    """Number of inputs that the outputs were computed for."""

    def as_record(self) -> dict[str, Any]:
        """All fields as plain values."""
        return asdict(self)


def error_growth(
    model: nn.Module,
    inputs: Tensor,
    *,
    chips: int = 5,
    seed: int = 0,
    noise_model: BaseNoiseModel | None = None,
    t_inference: float | None = None,
    calibration: ChipCalibration | None = None,
    reference: Callable[[nn.Module], AbstractContextManager[object]] = nullcontext,
    device: str | torch.device = "auto",
) -> list[LayerError]:
    r"""Measure how far each analog layer's output on chips is from that of the clean network.

    .. math:: \|y_{chip} - y\|_2 / \|y\|_2

    over all inputs and numbers of the output, y being what comes out of the layer and, where it is
    wrapped, of what stands beside it. Inputs of a layer are those that the chip's own layers in
    front of it give: this is the growth of the error through the network that CorrectNet (DATE
    2023) argues with; the measure is ours. The chips are those of :func:`evaluate_chips`.

    Args:
        model: converted model with nominal weights.
        inputs: [N, ...], taken as one batch; the outputs of all layers are kept in memory.
        chips: how many chips.
        seed: seed of the chips' seeds.
        noise_model: noise model of the chips; None: the model's own.
        t_inference: seconds between programming and measuring; None: just programmed.
        calibration: what is calibrated on each chip before it is measured.
        reference: puts the model into the state whose clean outputs count, such as
            ``compensation_disabled``; by default the model as it is.
        device: "auto" (CUDA when there), or any device of torch.

    Returns:
        One for each analog layer, in the order of execution; a layer that is not called, or gives
        zeros alone in the clean network, has none.

    Raises:
        CnetError: without chips or inputs, for a model without analog layers or with a chip
            programmed, and for a chip whose outputs are not finite.
    """
    if chips < 1 or len(inputs) < 1:
        raise CnetError(f"There are {chips} chips and {len(inputs)} inputs; give at least one.")
    check_nominal(model)
    where = resolve_device(device)
    with measuring(model, where), torch.inference_mode():
        x = inputs_on(where, inputs)
        with reference(model):
            names = list(analog_layers(model))
            clean = _clean_outputs(model, names, x, seed)
        errors: dict[str, list[float]] = {name: [] for name in clean}
        for chip in range(chips):
            chip_seed = derive_seed(seed, chip)
            with programmed(model, chip_seed, noise_model, t_inference):
                seed_random_state(derive_seed(chip_seed, "calibration"), where)
                with nullcontext() if calibration is None else calibration(model):
                    seed_random_state(derive_seed(chip_seed, "read noise"), where)
                    for name, error in _errors(model, x, clean).items():
                        errors[name].append(error)
    for name, found in errors.items():
        if not all(math.isfinite(error) for error in found):
            raise CnetError(
                f"Layer {name} gives outputs on chips that are not finite; check the weights, or "
                "choose a smaller variation."
            )
    return [
        LayerError(name, index, math.fsum(e) / chips, min(e), max(e), chips, len(inputs))
        for index, (name, e) in enumerate(errors.items())
    ]


def _clean_outputs(
    model: nn.Module, names: list[str], x: Tensor, seed: int
) -> dict[str, list[Tensor]]:
    """The outputs of each call of each layer, in the order of the layers' first calls."""
    outputs: dict[str, list[Tensor]] = {}

    def keep(name: str, output: Tensor) -> None:
        outputs.setdefault(name, []).append(output.clone())  # networks change outputs in place

    seed_random_state(derive_seed(seed, "clean"), x.device)
    with _watched(model, names, keep):
        model(x)
    return {name: calls for name, calls in outputs.items() if any(y.any() for y in calls)}


def _errors(model: nn.Module, x: Tensor, clean: dict[str, list[Tensor]]) -> dict[str, float]:
    """Relative error of each layer on the chip that is programmed now."""
    squares = {name: x.new_zeros((), dtype=torch.float64) for name in clean}
    left = {name: list(calls) for name, calls in clean.items()}

    def compare(name: str, output: Tensor) -> None:
        squares[name] += (output - left[name].pop(0)).double().square().sum()

    with _watched(model, list(clean), compare):
        model(x)
    norms = {name: sum(y.double().square().sum() for y in calls) for name, calls in clean.items()}
    return {name: math.sqrt((squares[name] / norms[name]).item()) for name in clean}


@contextmanager
def _watched(
    model: nn.Module, names: list[str], see: Callable[[str, Tensor], None]
) -> Iterator[None]:
    """Show each output of these layers, with what stands beside them, as it is computed."""
    handles: list[RemovableHandle] = []

    def watch(name: str) -> None:
        layer = model.get_submodule(name)  # the wrapper, where there is one
        handles.append(layer.register_forward_hook(lambda _, __, output: see(name, output)))

    try:
        for name in names:
            watch(name)
        yield
    finally:
        for handle in handles:
            handle.remove()
