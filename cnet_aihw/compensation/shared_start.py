"""Correctors shared by all chips, fitted in closed form to several of them at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from aihwkit.inference.noise.base import BaseNoiseModel
from torch import nn

from cnet_aihw.compensation.closed_form import fit_linear
from cnet_aihw.compensation.corrector import layer_shape
from cnet_aihw.compensation.layer_passes import (
    add_rows,
    calls_seen,
    closed_form_layers,
    run,
)
from cnet_aihw.compensation.moments import Moments
from cnet_aihw.compensation.settings import PerChipSettings, validate_per_chip_settings
from cnet_aihw.compensation.targets import Targets
from cnet_aihw.compensation.wrapping import CompensatedLayer
from cnet_aihw.evaluation.calibration import running_batchnorms
from cnet_aihw.evaluation.first_batch import SAMPLES, check_inputs
from cnet_aihw.evaluation.metrics import evaluation_mode
from cnet_aihw.rram import programmed
from cnet_aihw.rram.tile_chips import chips_of, put_chips
from cnet_aihw.runtime.inputs import Inputs, inputs_on, samples_in, select
from cnet_aihw.runtime.random_state import derive_seed, forked_random_state, seed_random_state
from cnet_aihw.runtime.torch_device import device_of
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import MOST_CHIPS, check_count
from cnet_aihw.tasks import Classification


@checked
@torch.no_grad()
def fit_shared_closed_form(
    model: nn.Module,
    x: Inputs,
    seeds: Sequence[int],
    *,
    ridge: float = 1e-3,
    batch_size: int = 1000,
    noise_model: BaseNoiseModel | None = None,
    t_inference: float | None = None,
    batch_statistics: bool = False,
) -> list[str]:
    """Fit correctors in closed form to several chips at once, and leave them so (ours).

    As :class:`~cnet_aihw.compensation.PerChipFit` does for one chip, towards the clean outputs;
    moments are summed over the chips, layer by layer. Correctors without a closed form, and those
    of layers whose outputs are not finite on a chip, are left as they are.

    Args:
        model: a compensated model; a chip that is programmed stays.
        x: unlabelled inputs, at least two.
        seeds: the chips' seeds.
        ridge: ridge / mean variance of the features.
        batch_size: inputs that a forward pass takes at once.
        noise_model: noise model of the chips; None: the model's own.
        t_inference: seconds after programming; None: just programmed.
        batch_statistics: whether BatchNorm uses the statistics of each batch on each chip; they
            still count into its own where it has a momentum.

    Returns:
        Names of the layers that were fitted, in the order of execution.

    Raises:
        CnetError: without inputs that the network takes or without seeds, and for impossible
            values.
    """
    validate_per_chip_settings(PerChipSettings(ridge=ridge, batch_size=batch_size))
    check_count("seeds", len(seeds), most=MOST_CHIPS)
    layers = closed_form_layers(model)
    if not layers:
        return []
    device = device_of(model)
    x = inputs_on(device, x)
    check_inputs(model, select(x, slice(SAMPLES)))
    starts = range(0, max(1, samples_in(x) - 1), batch_size)
    ends = [*starts[1:], samples_in(x)]
    batches = [select(x, slice(a, b)) for a, b in zip(starts, ends, strict=True)]
    with evaluation_mode(model), forked_random_state(device):
        targets = Targets(PerChipSettings(), Classification())
        targets.begin(model, layers, batches)
        order = targets.order(model, layers)
        chips, fitted = [], []
        for seed in seeds:
            with programmed(model, seed, noise_model, t_inference):
                chips.append((seed, chips_of(model)))
        for name in order:
            module: Any = layers[name].corrector_module
            moments = module.moments()
            for seed, chip in chips:
                seed_random_state(derive_seed(seed, "calibration", name), device)
                with _on_chip(model, chip, batch_statistics):
                    _add_chip(model, name, layers[name], batches, targets, moments)
            if not moments.finite:
                continue
            fitted.append(name)
            channels = layer_shape(layers[name].base_layer).out_channels
            fit = fit_linear(moments, channels, module.filters, ridge, on_output=module.on_output)
            module.put(fit)
    return fitted


def _add_chip(
    model: nn.Module, name: str, layer: CompensatedLayer, batches: Sequence[Inputs],
    targets: Targets, moments: Moments,
) -> None:  # fmt: skip
    for number, x in enumerate(batches):
        wanted = targets.of_calls(model, name, layer, number)
        with calls_seen(name, layer, wanted, partial(add_rows, moments, layer)):
            run(model, x)


@contextmanager
def _on_chip(
    model: nn.Module, chip: list[tuple[Any, Any]], batch_statistics: bool
) -> Iterator[None]:
    """Compute on a chip inside the block."""
    before = chips_of(model)
    norms = running_batchnorms(model) if batch_statistics else []
    put_chips(chip)
    try:
        for norm in norms:
            norm.training = True
        yield
    finally:
        for norm in norms:
            norm.training = False
        put_chips(before)
