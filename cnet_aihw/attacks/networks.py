"""Networks that attackers and judges hold: they take pixels, on chips or without."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import torch
from aihwkit.inference.noise.base import BaseNoiseModel
from torch import Tensor, nn

from cnet_aihw.attacks.pixels import PixelData
from cnet_aihw.evaluation import ChipCalibration
from cnet_aihw.rram import chip_model, named_tiles, nominal_inside, programmed
from cnet_aihw.runtime.inputs import main_output
from cnet_aihw.runtime.random_state import derive_seed, seed_random_state
from cnet_aihw.runtime.torch_device import device_of

_HELD_BYTES = 2**31
"""Weights of chips that are kept for the next use."""


class PixelNetwork(nn.Module):
    """A frozen network behind the normalisation of its data: pixels in, logits out.

    With several members or readings it gives the mean of their logits.

    Args:
        members: networks of normalised inputs, each with its chip.
        data: says the normalisation.
        readings: how often each member is read in one forward.

    Attributes:
        passes: samples that went through a member so far, all readings counted.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, members: Sequence[nn.Module], data: PixelData, readings: int = 1) -> None:
        super().__init__()
        self.members, self.readings, self.passes = nn.ModuleList(members), readings, 0
        shape = (1, -1) + (1,) * (data.x.ndim - 2)
        device = device_of(self)
        self.register_buffer("mean", torch.tensor(data.mean, device=device).view(shape))
        self.register_buffer("std", torch.tensor(data.std, device=device).view(shape))
        self.eval().requires_grad_(False)

    def outputs(self, pixels: Tensor) -> Tensor:
        """Return the logits of every reading of every member, [members * readings, N, classes]."""
        x = (pixels.to(self.mean.dtype) - self.mean) / self.std  # some attacks compute in float64
        readings = [main_output(member(x)) for member in self.members for _ in range(self.readings)]
        self.passes += len(pixels) * len(readings)
        return torch.stack(readings)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits, [N, classes]."""
        outputs = self.outputs(pixels)
        return outputs[0] if len(outputs) == 1 else outputs.mean(0)

    def seed(self, seed: int) -> None:
        """Let all noise of the forwards that follow belong to a seed."""
        for number, member in enumerate(self.members):
            for name, tile in named_tiles(member):
                chip = getattr(tile, "chip", None)
                if chip is not None:
                    chip.seed_reads(derive_seed(seed, number, name))
        seed_random_state(seed, device_of(self))


class Networks:
    """The networks that attacks need, made when asked for.

    Args:
        model: the analog network, where it is to compute.
        data: says the normalisation.
        seed: seed of the chips' seeds, as in ``evaluate_chips``: chip 3 here is chip 3 there.
        noise_model: noise model of the chips; None: the model's own.
        t_inference: seconds between programming and reading; None: just programmed.
        calibration: what is calibrated on each chip.
    """

    def __init__(
        self,
        model: nn.Module,
        data: PixelData,
        seed: int,
        noise_model: BaseNoiseModel | None = None,
        t_inference: float | None = None,
        calibration: ChipCalibration | None = None,
    ) -> None:
        self.model, self.data, self.chips_seed = model, data, seed
        self.calibration = calibration
        self._of_chip: dict[str, Any] = {"noise_model": noise_model, "t_inference": t_inference}
        self._kept: dict[int, nn.Module] = {}
        size = sum(p.numel() * p.element_size() for p in model.parameters())
        self._most = max(2, _HELD_BYTES // max(1, size))

    def nominal(self) -> PixelNetwork:
        """Return the network with its nominal weights."""
        with nominal_inside(self.model):
            return PixelNetwork([deepcopy(self.model)], self.data)

    def chip(self, number: int, readings: int = 1) -> PixelNetwork:
        """Return the network on one of the chips."""
        return PixelNetwork([self._member(self.seed_of(number))], self.data, readings)

    def others(self, count: int) -> PixelNetwork:
        """Return the mean over chips that are none of those with a number."""
        seeds = [derive_seed(self.chips_seed, "other chips", k) for k in range(count)]
        return PixelNetwork([self._made(seed) for seed in seeds], self.data)

    def seed_of(self, number: int) -> int:
        """Return the seed of a chip."""
        return derive_seed(self.chips_seed, number)

    def _member(self, seed: int) -> nn.Module:
        if seed not in self._kept:
            if len(self._kept) >= self._most:
                self._kept.pop(next(iter(self._kept)))
            self._kept[seed] = self._made(seed)
        return self._kept[seed]

    def _made(self, seed: int) -> nn.Module:
        if self.calibration is None:
            return chip_model(self.model, seed, **self._of_chip)
        with programmed(self.model, seed, **self._of_chip):
            seed_random_state(derive_seed(seed, "calibration"), device_of(self.model))
            with self.calibration(self.model):
                return deepcopy(self.model)


def is_random(network: PixelNetwork, data: PixelData) -> bool:
    """Say whether two forwards of the same inputs differ."""
    x = _few(network, data)
    return not torch.equal(*_seeded(network, lambda: (network(x), network(x))))


def are_equal(network: PixelNetwork, data: PixelData) -> bool:
    """Say whether all members and readings give the same outputs."""
    outputs: Tensor = _seeded(network, lambda: network.outputs(_few(network, data)))
    return bool((outputs == outputs[:1]).all())


@torch.no_grad()
def _seeded(network: PixelNetwork, compute: Callable[[], Any]) -> Any:
    network.seed(0)
    return compute()


def _few(network: PixelNetwork, data: PixelData) -> Tensor:
    return torch.from_numpy(data.x[:8]).to(device_of(network))
