"""Samples of predictions: from several chips, from readings of one, from stochastic cells."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from aihwkit.inference.noise.base import BaseNoiseModel
from torch import Tensor, nn

from cnet_aihw.bayes.settings import SOURCES
from cnet_aihw.evaluation.calibration import ChipCalibration
from cnet_aihw.evaluation.chip_run import check_times_known, measuring
from cnet_aihw.evaluation.first_batch import checked_call
from cnet_aihw.rram import analog_layers, has_read_noise, programmed
from cnet_aihw.rram.devices.stochastic_cell import cell_of
from cnet_aihw.rram.training_variation import rram_tiles
from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.runtime.inputs import (
    Inputs,
    inputs_on,
    main_output,
    named_tensors,
    samples_in,
    select,
)
from cnet_aihw.runtime.random_state import derive_seed, seed_random_state
from cnet_aihw.runtime.torch_device import device_of
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import bad_choice, check_count


@checked
def predict(
    model: nn.Module,
    x: Inputs,
    source: str = "chips",
    samples: int = 16,
    *,
    seed: int = 0,
    noise_model: BaseNoiseModel | None = None,
    t_inference: float | None = None,
    calibration: ChipCalibration | None = None,
    batch_size: int = 1000,
) -> Tensor:
    """Return class probabilities of samples of the network that devices give.

    Sample t is one network for all inputs: the noise of its devices belongs to ``seed`` and t, so
    that neither the batch size nor further samples change it. Noise of the periphery is another for
    each input, and belongs to the batch too. Afterwards the model and torch's random state are as
    before.

    Args:
        model: a network of RRAM layers, which gives logits [N, C].
        x: inputs, [N, ...].
        source: "chips": each sample is another chip; programming variation is frozen in a chip, so
            that only several chips average over it. "readings": each sample is a reading of one
            chip, by its devices' read noise or its periphery's. "cells": each sample is a reading
            of one chip's stochastic cells.
        samples: number of samples T.
        seed: the chip's seed; for several chips what their seeds are derived from.
        noise_model: noise model of the chips; None: the model's own.
        t_inference: seconds between programming and reading; None: just programmed.
        calibration: what is calibrated on each chip before it is read.
        batch_size: inputs a forward pass takes at once.

    Returns:
        Probabilities, [T, N, C], on the model's device.

    Raises:
        CnetError: for fewer than one sample; for readings where nothing is read with noise; for
            cells where devices are others, and the other way round.
    """
    check_count("samples", samples)
    check_count("batch_size", batch_size)
    check_source(model, source, noise_model)
    check_times_known(model, noise_model, [t_inference])
    check_inputs(x)
    device = device_of(model)
    with measuring(model, device):
        logits = sampled_logits(
            *(model, inputs_on(device, x), source, samples, seed, noise_model, t_inference),
            calibration=calibration,
            batch_size=batch_size,
        )
    return logits.softmax(-1)


def check_inputs(x: object) -> None:
    """Check that there are inputs at all.

    Raises:
        CnetError: if they are not tensors [N, ...] of at least one sample.
    """
    tensors = named_tensors(x).values()
    if not tensors or any(tensor.dim() < 2 or len(tensor) == 0 for tensor in tensors):
        found = [tuple(tensor.shape) for tensor in tensors] or type(x).__name__
        raise bad_value("x", found, "inputs [N, ...], at least one")


def check_source(
    model: nn.Module, source: str, noise_model: BaseNoiseModel | None, key: str = "source"
) -> None:
    """Check that a network's devices can give such samples; ``key`` names them in messages.

    Raises:
        CnetError: if they cannot.
    """
    if source not in SOURCES:
        raise bad_choice(key, source, SOURCES)
    analog_layers(model)  # says to convert first, where there is none
    configs = [tile.rpu_config for _, tile in rram_tiles(model)]
    models = [noise_model or config.noise_model for config in configs]
    cells = [cell_of(found) is not None for found in models]
    if source == "cells" and not all(cells):
        fix = "choose rram=stochastic_cell and training=bayes_binary"
        raise bad_value(key, source, "chips or readings: devices are not stochastic cells", fix)
    if source == "readings":
        if any(cells):
            raise bad_value(key, source, "cells, as devices are stochastic cells")
        noisy = any(map(periphery_is_noisy, configs))
        if not noisy and not any(has_read_noise(found) for found in models):
            fix = "choose a device that is read with noise, such as rram=read_noise"
            raise bad_value(key, source, "chips: all readings would be the same", fix)


def periphery_is_noisy(config: Any) -> bool:
    """Say whether two readings of the same weights may differ: by the periphery, or by spikes.

    Args:
        config: configuration of a tile.
    """
    return not config.forward.is_perfect or bool(getattr(config.readout, "spike_noise", 0.0))


@torch.no_grad()
def sampled_logits(
    model: nn.Module,
    x: Inputs,
    source: str,
    samples: int,
    seed: int,
    noise_model: BaseNoiseModel | None = None,
    t_inference: float | None = None,
    *,
    calibration: ChipCalibration | None = None,
    batch_size: int = 1000,
    others: Inputs | None = None,
) -> Any:
    """Return the logits of :func:`predict`, [T, N, C], inside of ``measuring``; all is checked.

    Args:
        model: as there.
        x: inputs on the model's device.
        source: as there.
        samples: as there.
        seed: as there.
        noise_model: as there.
        t_inference: as there.
        calibration: as there.
        batch_size: as there.
        others: further inputs, whose logits [T, M, C] then are returned too.
    """
    parts = [x] if others is None else [x, others]
    found: list[list[Tensor]] = [[] for _ in parts]
    several = source == "chips"
    for chip in range(samples if several else 1):
        chip_seed = derive_seed(seed, "member", chip) if several else seed
        with _calibrated(model, chip_seed, noise_model, t_inference, calibration):
            for logits, inputs in zip(found, parts, strict=True):
                count = 1 if several else samples
                logits.append(chip_logits(model, inputs, count, chip_seed, batch_size))
    stacked = [torch.cat(logits) for logits in found]
    return stacked[0] if others is None else tuple(stacked)


@torch.no_grad()
def chip_logits(
    model: nn.Module, x: Inputs, samples: int, seed: int, batch_size: int, stream: str = "sample"
) -> Tensor:
    """Return logits of readings of the chip that is programmed, [T, N, C].

    Args:
        model: the network, in evaluation mode.
        x: inputs on its device.
        samples: readings.
        seed: what their noise belongs to, with the number of the reading.
        batch_size: inputs a forward pass takes at once.
        stream: name of the draws; a fit has others than what it is judged by.
    """
    device, batches = device_of(model), []
    tiles = [(name, tile.chip) for name, tile in rram_tiles(model) if tile.chip is not None]
    for start in range(0, samples_in(x), batch_size):
        batch, readings = select(x, slice(start, start + batch_size)), []
        for sample in range(samples):
            drawn = derive_seed(seed, stream, sample)
            seed_random_state(derive_seed(drawn, start), device)  # of the periphery's noise
            for name, chip in tiles:
                chip.seed_reads(derive_seed(drawn, name))
            readings.append(logits_of(model, batch))
        batches.append(torch.stack(readings))
    return torch.cat(batches, dim=1)


def logits_of(model: nn.Module, batch: Inputs) -> Tensor:
    """Return the logits of a batch, also of a network whose outputs have names.

    Raises:
        CnetError: if the network does not take the batch, or gives no logits.
    """
    found = main_output(checked_call(model, batch))
    if not isinstance(found, Tensor):
        expected = "a network that gives logits [N, C], or outputs one of which has that name"
        raise bad_value("model", f"outputs of {type(found).__name__}", expected)
    return found


@contextmanager
def _calibrated(
    model: nn.Module,
    seed: int,
    noise_model: BaseNoiseModel | None,
    t_inference: float | None,
    calibration: ChipCalibration | None,
) -> Iterator[None]:
    with programmed(model, seed, noise_model, t_inference):
        seed_random_state(derive_seed(seed, "calibration"), device_of(model))
        with nullcontext() if calibration is None else calibration(model):
            yield
