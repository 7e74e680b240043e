"""Checks of attacks by themselves: a weak attack makes any network look robust.

Source of the list: Athalye et al., *Obfuscated Gradients Give a False Sense of Security*, ICML
2018.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from cnet_aihw.attacks.base import STRONGER, Attack
from cnet_aihw.attacks.judging import Judge
from cnet_aihw.attacks.networks import PixelNetwork
from cnet_aihw.attacks.pixels import PixelData
from cnet_aihw.runtime.random_state import derive_seed
from cnet_aihw.runtime.torch_device import device_of

_STEP = 1e-3
"""Change of a pixel for a difference."""

_WRONG_GRADIENT = 0.1
"""Median relative error beyond which gradients do not match differences."""


@dataclass(frozen=True)
class Check:
    """One check of an attack."""

    name: str
    """Short name."""

    passed: bool
    """Whether it was passed."""

    value: float | None
    """The number found."""

    limit: float | None
    """The number that it is compared with."""

    sentence: str
    """Both in words."""

    def as_record(self) -> dict[str, Any]:
        """Return all fields as plain values."""
        return asdict(self)


def strength_checks(
    attack: Attack, network: PixelNetwork, judge: Judge, data: PixelData, eps: float, seed: int
) -> list[Check]:
    """Attack one chip directly: more steps must not be worse, and the whole range must do.

    Args:
        attack: the attack.
        network: the network on the chip, as the attacker has it.
        judge: the same chip, as a judge of these data.
        data: the inputs, few of them.
        eps: the budget for the comparison of steps.
        seed: seed of the attacks.
    """
    correct = ~judge.wrong(data.x, "clean")
    count = int(correct.sum())
    if count == 0:
        return []

    def success(of: Attack, budget: float) -> float:
        ((_, changed),) = of.perturb(network, data.x, data.y, [budget], seed)
        return float((judge.wrong(changed, "check") & correct).sum()) / count

    base, more = success(attack, eps), success(attack.stronger(), eps)
    words = f"{STRONGER} times the steps: success {more:.3f}, before {base:.3f}"
    found = [Check("more_steps", more >= base - 1.0 / count, more, base, words)]
    if attack.norm != "0":
        whole = data.whole(attack.norm)
        all_ = success(attack.stronger(), whole)
        words = f"with a budget of the whole range ({whole:.3g}): success {all_:.3f}, expected 1"
        found.append(Check("whole_range", all_ >= 0.99, all_, 1.0, words))
    return found


def gradient_check(network: PixelNetwork, data: PixelData, seed: int) -> Check:
    """Compare gradients with differences, along random directions, at the same noise."""
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(data.x[:32]).to(device_of(network))
    y = torch.from_numpy(data.y[:32]).to(x.device)
    signs = torch.from_numpy(rng.choice([-1.0, 1.0], x.shape).astype(np.float32)).to(x.device)

    def losses(at: torch.Tensor) -> torch.Tensor:
        network.seed(derive_seed(seed, "gradient"))
        return F.cross_entropy(network(at), y, reduction="none").double()

    at = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(losses(at).sum(), at)
    slopes = (gradient * signs).double().flatten(1).sum(1)
    with torch.no_grad():
        differences = (losses(x + _STEP * signs) - losses(x - _STEP * signs)) / (2.0 * _STEP)
    scale = torch.maximum(slopes.abs(), differences.abs()).clamp(min=1e-3)
    error = float(((slopes - differences).abs() / scale).median())
    words = f"gradients against differences: median relative error {error:.3g}"
    return Check("gradient", error <= _WRONG_GRADIENT, error, _WRONG_GRADIENT, words)


def first_inputs(judge: Judge, data: PixelData, count: int) -> tuple[Judge, PixelData]:
    """Return judge and data of the first inputs alone."""
    few = data.first(count)
    return replace(judge, y=few.y), few
