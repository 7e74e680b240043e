"""The contract of attacks."""

from __future__ import annotations

import json
import random
from dataclasses import fields, is_dataclass, replace

import numpy as np
import torch
from torch import nn

from cnet_aihw.attacks import Attack, PixelData, PixelNetwork
from cnet_aihw.attacks.base import classifier_of, library_draws
from cnet_aihw.attacks.pixels import Array, random_noise
from cnet_aihw.attacks.settings import NORMS
from cnet_aihw.testing.promises import check_copies, promise, promised

BUDGETS = {"inf": (0.05, 0.3), "2": (0.5, 3.0), "0": (2.0, 6.0)}
"""A small and a large budget of each norm, for images of 3 channels of 12 x 12 pixels."""

_IMAGES = 8
_ROUNDING = 1e-4


def check_attack(attack: Attack) -> None:
    """Check that an attack is repeatable, keeps to its budget, and fools a linear network.

    It needs the toolbox of attacks (the extra ``attacks``).

    Args:
        attack: the attack, with settings under which it takes seconds.

    Raises:
        AssertionError: names the promise that is not kept.
    """
    promise(is_dataclass(attack), attack, "is a dataclass, whose fields are its settings")
    for name in ("name", "white_box", "norms"):
        promise(hasattr(attack, name), attack, f"says {name}")
    promise(bool(attack.name) and attack.name.isprintable(), attack, "name is a short text")
    known = bool(attack.norms) and set(attack.norms) <= set(NORMS)
    promise(known, attack, f"norms are among {', '.join(NORMS)}")
    described = attack.describe()
    promise(json.loads(json.dumps(described)) == described, attack, "describe() is plain values")
    described_all = all(f.name in described for f in fields(attack))
    promise(described_all, attack, "describe() has all settings, as they tell records apart")
    check_copies(attack, lambda one: one.describe())
    effort = getattr(attack.stronger(), attack.effort) > getattr(attack, attack.effort)
    promise(effort, attack, "stronger() has more of its effort")
    for norm in attack.norms:
        _check_norm(replace(attack, norm=norm), norm)


def _check_norm(attack: Attack, norm: str) -> None:
    with torch.random.fork_rng(devices=[]):
        _check_images(attack, norm)


def _check_images(attack: Attack, norm: str) -> None:
    network, data = _linear()
    small, large = BUDGETS[norm]
    before = {n: p.clone() for n, p in network.state_dict().items()}
    _check_generated(attack, network, data, small)
    images = _attacked(attack, network, data, [small, large])
    after = network.state_dict()
    promise(
        all(torch.equal(before[n], after[n]) for n in before)
        and not network.training
        and all(p.grad is None and not p.requires_grad for p in network.parameters()),
        attack,
        f"leaves the network as it is (norm {norm})",
    )
    states = np.random.get_state(), random.getstate()
    np.random.seed(99)
    random.seed(99)
    again = _attacked(attack, network, data, [large])[large]
    np.random.set_state(states[0])
    random.setstate(states[1])
    promise(
        np.array_equal(images[large], again),
        attack,
        f"the same seed gives the same images, whatever other budgets there are (norm {norm})",
    )
    noise = random_noise(data.x, large, norm, 3)
    fooled, by_noise = (int((_labels(network, x) != data.y).sum()) for x in (images[large], noise))
    promise(
        fooled > 0 and fooled >= by_noise,
        attack,
        f"fools a linear network more often than noise of the same size ({fooled} and {by_noise} "
        f"of {_IMAGES} images, norm {norm}, budget {large:g})",
    )


def _check_generated(attack: Attack, network: PixelNetwork, data: PixelData, eps: float) -> None:
    x, y = data.x.copy(), data.y.copy()
    with library_draws(5, network):
        classifier = classifier_of(network, x)
        with torch.set_grad_enabled(attack.white_box):
            sentence = "generate() returns images"
            with promised(
                attack, sentence if attack.white_box else f"{sentence} without gradients"
            ):
                changed = np.asarray(attack.generate(classifier, x, y, eps))
    promise(
        np.array_equal(x, data.x) and np.array_equal(y, data.y),
        attack,
        "generate() leaves images and labels as they are",
    )
    promise(
        changed.shape == x.shape and changed.dtype.kind == "f",
        attack,
        f"generate() returns floating images {x.shape}, not {changed.dtype} {changed.shape}",
    )
    promise(bool(np.isfinite(changed).all()), attack, "generate() returns finite numbers")
    low, high = float(changed.min()), float(changed.max())
    promise(
        low >= -_ROUNDING and high <= 1.0 + _ROUNDING,
        attack,
        f"generate() keeps to pixels from 0 to 1 ({low:.4g} to {high:.4g})",
    )
    if not attack.one_run:
        size = _size(changed.astype(np.float64) - x, attack.norm)
        promise(
            size <= eps * (1.0 + 1e-3) + _ROUNDING,
            attack,
            f"generate() keeps to its budget ({size:.4g} of {eps:g}, norm {attack.norm}); what is "
            "beyond is cut off, which makes the attack weaker",
        )


def _attacked(
    attack: Attack, network: PixelNetwork, data: PixelData, budgets: list[float]
) -> dict[float, Array]:
    with promised(attack, "perturb() yields the images of each budget"):
        return dict(attack.perturb(network, data.x, data.y, budgets, seed=11))


def _size(delta: Array, norm: str) -> float:
    """Return the largest size of a change of one image."""
    if norm == "inf":
        return float(np.abs(delta).max())
    if norm == "2":
        return float(np.sqrt((delta**2).reshape(len(delta), -1).sum(1)).max())
    changed = np.abs(delta).max(1) > _ROUNDING  # [N, H, W]
    return float(changed.reshape(len(delta), -1).sum(1).max())


def _linear() -> tuple[PixelNetwork, PixelData]:
    """Return a linear network of three classes, and images that it classifies correctly."""
    generator = torch.Generator().manual_seed(8)
    layer = nn.Linear(3 * 12 * 12, 3)
    x = torch.rand(_IMAGES, 3, 12, 12, generator=generator).numpy()
    with torch.no_grad():
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) / 10.0)
        layer.bias.zero_()
    unlabelled = PixelData(x, np.zeros(_IMAGES, np.int64), (0.5,), (0.25,))
    network = PixelNetwork([nn.Sequential(nn.Flatten(), layer)], unlabelled)
    return network, replace(unlabelled, y=_labels(network, x))


@torch.no_grad()
def _labels(network: PixelNetwork, x: Array) -> Array:
    return np.asarray(network(torch.from_numpy(x)).argmax(1).numpy(), dtype=np.int64)
