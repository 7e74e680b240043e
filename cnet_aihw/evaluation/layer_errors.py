"""Growth of the error through the layers: outputs on chips against those of the clean network."""

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
from cnet_aihw.evaluation.chip_run import measuring, walk_chips
from cnet_aihw.evaluation.first_batch import SAMPLES, check_inputs
from cnet_aihw.evaluation.statistics import AllChipsFailed
from cnet_aihw.rram import analog_layers, find_module
from cnet_aihw.runtime.device_parts import placed
from cnet_aihw.runtime.inputs import Inputs, call, samples_in, select
from cnet_aihw.runtime.parts import Part, TensorPart
from cnet_aihw.runtime.random_state import derive_seed, seed_random_state
from cnet_aihw.runtime.torch_device import device_of, resolve_device
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import MOST_CHIPS, check_count


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
    """Number of chips with finite outputs."""

    samples: int
    """Number of inputs that the outputs were computed for."""

    failed: int = 0
    """Number of chips whose outputs are not finite; they are left out."""

    def as_record(self) -> dict[str, Any]:
        """Return all fields as plain values."""
        return asdict(self)


class LayerErrors:
    """Measurement of the relative error of each layer's output, against outputs of a clean pass.

    Args:
        clean: layer -> outputs of each of its calls, for one batch of all samples.
    """

    name = "layer errors"

    def __init__(self, clean: dict[str, list[Tensor]]) -> None:
        self.clean = clean

    def __call__(self, model: nn.Module, part: Part, batch_size: int) -> dict[str, float]:
        """Return layer -> relative error, over one batch; without layers that have none."""
        ((inputs, _),) = part.batches(batch_size)
        return _errors(model, inputs, self.clean)

    def describe(self) -> dict[str, Any]:
        """Return the names of the layers."""
        return {"layers": list(self.clean)}


@checked
def error_growth(
    model: nn.Module,
    inputs: Inputs,
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
        model: converted model.
        inputs: [N, ...], taken as one batch; the outputs of all layers are kept in memory.
        chips: how many chips.
        seed: seed of the chips' seeds.
        noise_model: noise model of the chips; None: the model's own.
        t_inference: seconds between programming and measuring; None: just programmed.
        calibration: what is calibrated on each chip before it is measured.
        reference: puts the model into the state whose clean outputs count, such as
            ``compensation_disabled``; by default the model as it is.
        device: "auto" (CUDA where available), "cpu" or a CUDA device.

    Returns:
        One for each analog layer, in the order of execution; a layer that is not called, or gives
        only zeros in the clean network, has none, and neither has one that is given other samples
        on a chip, as behind a choice of experts.

    Raises:
        CnetError: without chips or inputs, or for a model without analog layers.
        AllChipsFailed: if no chip has finite outputs.
    """
    samples = samples_in(inputs)
    check_count("chips", chips, most=MOST_CHIPS)
    check_count("inputs", samples)
    names = list(analog_layers(model))
    where = resolve_device(device)
    with measuring(model, where), torch.no_grad():
        part = placed(TensorPart(inputs, torch.zeros(samples)), where)
        ((x, _),) = part.batches(samples)
        check_inputs(model, select(x, slice(SAMPLES)))
        with reference(model):
            clean = _clean_outputs(model, names, x, seed)
        measured = list(
            walk_chips(
                model,
                part,
                LayerErrors(clean),
                [(chip, t_inference) for chip in range(chips)],
                seed=seed,
                batch_size=samples,
                noise_model=noise_model,
                calibration=calibration,
            )
        )
    found = [one.values for one in measured if not one.failed]
    if not found:
        raise AllChipsFailed(
            f"all of {chips} chips give outputs that are not finite; check the weights, or choose "
            "a smaller variation.",
            key="chips",
            value=chips,
            expected="at least one chip with finite outputs",
        )
    rows = []
    for index, name in enumerate(clean):
        errors = [values[name] for values in found if name in values]
        if len(errors) < len(found):
            continue
        mean = math.fsum(errors) / len(errors)
        low, high, failed = min(errors), max(errors), chips - len(errors)
        rows.append(LayerError(name, index, mean, low, high, len(errors), samples, failed))
    return rows


def _clean_outputs(
    model: nn.Module, names: list[str], x: Inputs, seed: int
) -> dict[str, list[Tensor]]:
    """Return the outputs of each call of each layer, in the order of the layers' first calls."""
    outputs: dict[str, list[Tensor]] = {}

    def keep(name: str, output: Tensor) -> None:
        outputs.setdefault(name, []).append(output.clone())  # networks change outputs in place

    seed_random_state(derive_seed(seed, "clean"), device_of(model))
    with _watched(model, names, keep):
        call(model, x)
    return {name: calls for name, calls in outputs.items() if any(y.any() for y in calls)}


def _errors(model: nn.Module, x: Inputs, clean: dict[str, list[Tensor]]) -> dict[str, float]:
    """Return the relative error of each layer on the chip that is programmed now.

    A network may call a layer more or less often on a chip; calls without a clean one, or the other
    way round, are left out. So are layers without a call to compare, or whose outputs are of other
    samples than in the clean network.
    """
    squares = {name: calls[0].new_zeros((), dtype=torch.float64) for name, calls in clean.items()}
    norms = {name: square.clone() for name, square in squares.items()}
    left = {name: list(calls) for name, calls in clean.items()}
    others: set[str] = set()

    def compare(name: str, output: Tensor) -> None:
        wanted = left[name].pop(0) if left[name] else None
        if wanted is not None and wanted.shape != output.shape:
            others.add(name)
        elif wanted is not None:
            squares[name] += (output - wanted).double().square().sum()
            norms[name] += wanted.double().square().sum()

    with _watched(model, list(clean), compare):
        call(model, x)
    compared = [n for n in clean if n not in others and len(left[n]) < len(clean[n])]
    return {name: math.sqrt((squares[name] / norms[name]).item()) for name in compared}


@contextmanager
def _watched(
    model: nn.Module, names: list[str], see: Callable[[str, Tensor], None]
) -> Iterator[None]:
    """Show each output of these layers, with what stands beside them, as it is computed."""
    handles: list[RemovableHandle] = []

    def watch(name: str) -> None:
        layer = find_module(model, name)  # the wrapper, where there is one
        handles.append(layer.register_forward_hook(lambda _, __, output: see(name, output)))

    try:
        for name in names:
            watch(name)
        yield
    finally:
        for handle in handles:
            handle.remove()
