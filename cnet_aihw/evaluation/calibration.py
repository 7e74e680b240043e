"""Calibration of each chip by itself on unlabelled inputs: the baselines beside compensation.

A calibration is a callable: inside ``with calibration(model):`` the chip is calibrated.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import pairwise
from typing import Any, Protocol

import torch
from aihwkit.nn.modules.base import AnalogLayerBase
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from cnet_aihw.evaluation.affine_hooks import ChannelCorrector, Observer
from cnet_aihw.evaluation.metrics import evaluation_mode
from cnet_aihw.evaluation.settings import CALIBRATIONS
from cnet_aihw.rram import CrossbarRecurrent, analog_layers, nominal_inside
from cnet_aihw.rram.tile_chips import is_read_with_noise
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.fingerprint import tensors_fingerprint
from cnet_aihw.runtime.inputs import Inputs, call, inputs_on, named_tensors, samples_in, select
from cnet_aihw.runtime.parts import Part, gathered
from cnet_aihw.runtime.torch_device import device_of
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import bad_choice

READINGS = 16
"""Readings of a chip that is read with noise, so that little of it is taken for the chip's own."""

_IN_A_READING = 32
"""Samples of a reading, at least, for BatchNorm's statistics."""


class ChipCalibration(Protocol):
    """Calibrates the chip that is programmed on a model, inside a block."""

    def __call__(self, model: nn.Module) -> AbstractContextManager[None]:
        """Calibrate the programmed chip; everything is as before, bit for bit, after the block."""

    def label(self) -> str:
        """Return a short name for tables and records."""

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of all that determines what it does to a chip."""

    def cost(self, model: nn.Module) -> int:
        """Return the number of digital weights that it adds to a network."""


class BatchNormReestimation:
    """Re-estimate the running statistics of every BatchNorm on each chip: AdaBS.

    One pass over the inputs, in batches of equal size (or one sample less). As in training, each
    BatchNorm normalises a batch by that batch's own statistics, and so feeds what follows;
    its running mean and variance become the plain averages over its calls of the batches' means and
    (unbiased) variances (torch's ``momentum=None``). With one batch they are the statistics of the
    inputs themselves. All else computes as in evaluation, and no hardware is added.

    Source: Joshi et al., *Accurate deep neural network inference using computational phase-change
    memory*, Nature Communications 11 (2020): adaptive batch normalisation statistics.

    Args:
        x: unlabelled inputs, at least two: a tensor [N, ...], or a tuple or mapping of them; moved
            to the model's device.
        batch_size: samples a forward pass takes at once (the last ones may come on top rather than
            stand alone); fewer on chips that are read with noise, over up to 16 readings.

    Raises:
        CnetError: for fewer than two inputs or a batch size below 2; when calibrating, for a
            network without BatchNorm that has running statistics.
    """

    @checked
    def __init__(self, x: Inputs, batch_size: int = 500) -> None:
        _check_inputs(x)
        if batch_size < 2:
            raise bad_value("batch_size", batch_size, "at least 2 samples, for statistics")
        self.x = x
        self.batch_size = batch_size

    def __call__(self, model: nn.Module) -> AbstractContextManager[None]:
        """Re-estimate inside a block; afterwards the old statistics are back."""
        return self._calibrated(model)

    def label(self) -> str:
        """Return a short name for tables and records."""
        return f"BatchNorm re-estimated ({samples_in(self.x)} inputs)"

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of the inputs and how they are divided."""
        return tensors_fingerprint(
            named_tensors(self.x, f"{type(self).__name__} {self.batch_size}")
        )

    def cost(self, model: nn.Module) -> int:
        """Return 0: no digital weight is added."""
        return 0

    @contextmanager
    def _calibrated(self, model: nn.Module) -> Iterator[None]:
        norms = running_batchnorms(model)
        if not norms:
            raise CnetError(
                f"{type(model).__name__} has no BatchNorm with running statistics to re-estimate; "
                "calibrate with AffineCorrection instead.",
                key="calibration",
                value="batchnorm",
                expected="a network with BatchNorm that has running statistics",
                fix="calibrate with AffineCorrection instead",
            )
        kept = [(n, n.momentum, n.training, [b.clone() for b in n.buffers()]) for n in norms]
        try:
            with evaluation_mode(model):
                self._estimate(model, norms)
            yield
        finally:
            for norm, momentum, training, buffers in kept:
                norm.momentum, norm.training = momentum, training
                with torch.no_grad():
                    for buffer, old in zip(norm.buffers(), buffers, strict=True):
                        buffer.copy_(old)

    # torch.optim.swa_utils.update_bn puts the whole network into training mode, where dropout and
    # the variation of training would act, and averages over unequal batches alike.
    @torch.no_grad()
    def _estimate(self, model: nn.Module, norms: list[_BatchNorm]) -> None:
        """Run all inputs through; the BatchNorms are left in evaluation mode."""
        calls = dict.fromkeys(norms, 0)

        def average(norm: _BatchNorm, _: Any) -> None:
            # as torch's momentum=None, which would wait for a counter on the device at each call
            calls[norm] += 1
            norm.momentum = 1.0 / calls[norm]

        x, samples = inputs_on(device_of(model), self.x), samples_in(self.x)
        batches = max(1, min(-(-samples // self.batch_size), samples // 2))
        if is_read_with_noise(model):
            batches = max(batches, min(READINGS, samples // _IN_A_READING))
        with ExitStack() as stack:
            for norm in norms:
                norm.reset_running_stats()
                norm.training = True
                stack.callback(norm.register_forward_pre_hook(average).remove)
            size, longer = divmod(samples, batches)  # the first ones take one sample more
            starts = [number * size + min(number, longer) for number in range(batches + 1)]
            for start, end in pairwise(starts):
                call(model, select(x, slice(start, end)))
        for norm in norms:
            norm.training = False


def running_batchnorms(model: nn.Module) -> list[_BatchNorm]:
    """Return all BatchNorm layers that have running statistics, which can be re-estimated."""
    return [
        module
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    ]


class AffineCorrection:
    """Give each output channel of every analog layer a digital scale and offset, on each chip.

    They give the channel the mean and the standard deviation (over inputs and positions) that it
    has in the clean network on the same inputs. All is estimated in one pass of the clean network
    and one of the chip, all inputs in one batch; there each layer is corrected before the next one
    sees its outputs. A channel that is constant on the chip, or seen at fewer than four positions
    of all inputs, gets an offset only. A layer that is called several times is corrected everywhere
    by what its first call gives in which samples differ, a recurrent one by its second or later,
    since states begin with zeros. A chip that is read with noise is read 16 times; means and
    variances are averages over the readings.

    Args:
        x: unlabelled inputs, at least two: a tensor [N, ...], or a tuple or mapping of them; moved
            to the model's device.

    Raises:
        CnetError: for fewer than two inputs.
    """

    @checked
    def __init__(self, x: Inputs) -> None:
        _check_inputs(x)
        self.x = x

    def __call__(self, model: nn.Module) -> AbstractContextManager[None]:
        """Correct the chip inside a block; afterwards its layers are as before."""
        return self._calibrated(model)

    def label(self) -> str:
        """Return a short name for tables and records."""
        return f"affine correction ({samples_in(self.x)} inputs)"

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of the inputs."""
        return tensors_fingerprint(named_tensors(self.x, type(self).__name__))

    def cost(self, model: nn.Module) -> int:
        """Return the digital weights: two for each output channel of each analog layer."""
        return sum(2 * layer.get_weights()[0].shape[0] for layer in analog_layers(model).values())

    @contextmanager
    def _calibrated(self, model: nn.Module) -> Iterator[None]:
        layers = list(analog_layers(model).values())
        x = inputs_on(device_of(model), self.x)
        states = _of_states(model)
        with evaluation_mode(model):
            with ExitStack() as observing, nominal_inside(model):
                observers = {y: Observer(int(y in states)) for y in layers}
                _hook(observing, observers)
                _forward(model, x)
            correctors = {
                layer: ChannelCorrector(observer.mean_and_std, observer.number)
                for layer, observer in observers.items()
                if observer.mean_and_std is not None
            }
        with ExitStack() as correcting:
            _hook(correcting, correctors)
            with evaluation_mode(model):
                for _ in range(READINGS if is_read_with_noise(model) else 1):
                    for corrector in correctors.values():
                        corrector.begin()
                    _forward(model, x)
            for corrector in correctors.values():
                corrector.average()
            yield


@checked
def make_calibration(
    name: str, part: Part, samples: int = 1000, batch_size: int = 500
) -> ChipCalibration | None:
    """Return a calibration by its name in settings.

    Args:
        name: "none", "batchnorm" or "affine".
        part: training part, of which the first inputs are taken; targets are not used.
        samples: how many inputs, at least two.
        batch_size: samples a forward pass takes at once, for "batchnorm".

    Returns:
        The calibration; None for "none".

    Raises:
        CnetError: for another name, or as the calibrations themselves.
    """
    if name not in CALIBRATIONS:
        raise bad_choice("calibration", name, CALIBRATIONS)
    if name == "none":
        return None
    x = gathered(part, samples).x
    return BatchNormReestimation(x, batch_size) if name == "batchnorm" else AffineCorrection(x)


def _of_states(model: nn.Module) -> set[nn.Module]:
    """Return the layers of states, whose first call says nothing, since states begin with zeros."""
    recurrent = [module for module in model.modules() if isinstance(module, CrossbarRecurrent)]
    return {m for module in recurrent for layer in module.state_layers() for m in layer.modules()}


def _hook(stack: ExitStack, hooks: dict[AnalogLayerBase, Any]) -> None:
    """Register forward hooks, each the first of its layer, for as long as the stack is open."""
    for layer, hook in hooks.items():
        stack.enter_context(layer.register_forward_hook(hook, prepend=True))


@torch.no_grad()
def _forward(model: nn.Module, x: Inputs) -> None:
    call(model, x)


def _check_inputs(x: Any) -> None:
    tensors = named_tensors(x).values()
    if not tensors or any(tensor.dim() == 0 or len(tensor) < 2 for tensor in tensors):
        found = [tuple(tensor.shape) for tensor in tensors] or type(x).__name__
        raise bad_value("x", found, "unlabelled inputs, [N, ...], at least two")
