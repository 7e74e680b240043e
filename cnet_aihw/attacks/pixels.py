"""Inputs in pixel units, 0 to 1, and perturbations that keep to a budget there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.fingerprint import tensors_fingerprint
from cnet_aihw.runtime.parts import TensorPart, as_part, gathered

Array = np.ndarray[Any, Any]

_OUTSIDE = 1e-3
"""How far pixels may lie outside 0 to 1, by rounding alone."""


@dataclass(frozen=True, eq=False)
class PixelData:
    """Inputs in pixel units with their labels, and the normalisation that the network expects.

    Raises:
        CnetError: for pixels outside of 0 to 1, labels that are not one class number each, and a
            normalisation that does not fit them.
    """

    x: Array
    """Pixels, [N, C, H, W] or [N, C], float32, from 0 to 1."""

    y: Array
    """Labels, [N], int64."""

    mean: tuple[float, ...]
    """Mean of each channel, which is subtracted before the network."""

    std: tuple[float, ...]
    """Standard deviation of each channel, by which is divided before the network."""

    def __post_init__(self) -> None:
        """Check that all fits together."""
        expected = "pixels [N, C, ...], float32, from 0 to 1, at least one image"
        if self.x.dtype != np.float32 or self.x.ndim < 2 or not self.x.size:
            raise _no_pixels(f"{self.x.dtype} {self.x.shape}", expected)
        low, high = float(self.x.min()), float(self.x.max())
        if not (low >= 0.0 and high <= 1.0):  # also where one is not a number
            raise _no_pixels(f"from {low:.4g} to {high:.4g}", expected)
        if self.y.shape != (len(self.x),) or self.y.dtype != np.int64 or self.y.min() < 0:
            found = f"labels {self.y.dtype} {self.y.shape}"
            raise bad_value("data", found, f"one class number for each of {len(self.x)} images")
        count, finite = len(self.mean), all(map(math.isfinite, (*self.mean, *self.std)))
        fits = count == len(self.std) and count in (1, self.x.shape[1])
        if not (fits and finite and min(self.std) > 0.0):
            expected = f"a mean and a std above 0, for each of {self.x.shape[1]} channels or all"
            raise _no_pixels(f"mean {list(self.mean)}, std {list(self.std)}", expected)

    def __len__(self) -> int:
        return len(self.y)

    @property
    def part(self) -> TensorPart:
        """Return the inputs as the network takes them, with the labels."""
        shape = (1, -1) + (1,) * (self.x.ndim - 2)
        x = torch.from_numpy(self.x)
        mean, std = (torch.tensor(values).view(shape) for values in (self.mean, self.std))
        return TensorPart((x - mean) / std, torch.from_numpy(self.y))

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of pixels, labels and normalisation."""
        tensors = {"x": torch.from_numpy(self.x), "y": torch.from_numpy(self.y)}
        numbers = torch.tensor([self.mean, self.std], dtype=torch.float64)
        return tensors_fingerprint({**tensors, "normalisation": numbers})

    def first(self, count: int) -> PixelData:
        """Return the first samples."""
        return PixelData(self.x[:count], self.y[:count], self.mean, self.std)

    def whole(self, norm: str) -> float:
        """Return the budget that reaches every image of the range 0 to 1."""
        pixels = math.prod(self.x.shape[2:])
        sizes = {"inf": 1.0, "2": math.sqrt(pixels * self.x.shape[1]), "0": float(pixels)}
        return sizes[norm]


def pixel_data(data: Any, samples: int | None = None) -> PixelData:
    """Return the test part of a data set in pixel units.

    Args:
        data: a data set with ``test``, ``mean`` and ``std`` (``zoo.Dataset``), whose parts are
            normalised by them; or :class:`PixelData`.
        samples: how many samples, from the beginning; None: all.

    Raises:
        CnetError: if the data say no normalisation, or lie outside of 0 to 1 without it; for
            labels that are not class numbers.
    """
    if isinstance(data, PixelData):
        return data if samples is None else data.first(samples)
    mean, std = (tuple(getattr(data, name, None) or ()) for name in ("mean", "std"))
    expected = "a data set of images, with the mean and std by which they are normalised"
    if not mean or len(mean) != len(std) or not hasattr(data, "test"):
        raise _no_pixels(f"mean {list(mean)}, std {list(std)}", expected)
    part = as_part(data.test)
    found = gathered(part, len(part) if samples is None else samples)
    x, y = found.x, found.y
    if not isinstance(x, torch.Tensor) or not x.is_floating_point() or x.ndim < 2:
        raise _no_pixels(type(x).__name__, expected)
    if y.ndim != 1 or y.is_floating_point():
        raise bad_value("data", f"labels {y.dtype} {tuple(y.shape)}", "one class number a sample")
    if len(mean) not in (1, x.shape[1]):
        raise _no_pixels(f"{len(mean)} means for {x.shape[1]} channels", expected)
    shape = (1, -1) + (1,) * (x.ndim - 2)
    scale, shift = (torch.tensor(of, dtype=torch.float64).view(shape) for of in (std, mean))
    pixels = x.cpu().double() * scale + shift
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= -_OUTSIDE and high <= 1.0 + _OUTSIDE):  # also where one is not a number
        raise _no_pixels(f"from {low:.4g} to {high:.4g}", "values from 0 to 1 before normalisation")
    return PixelData(pixels.clamp(0.0, 1.0).float().numpy(), y.cpu().long().numpy(), mean, std)


def check_budget(data: PixelData, eps: float, norm: str, key: str = "eps") -> None:
    """Check that a budget is in pixel units; ``key`` names it in messages.

    Raises:
        CnetError: if it is larger than the range, as budgets in 0 to 255 are; for a number of
            pixels that is not whole.
    """
    whole = data.whole(norm)
    if eps > whole:
        fix = f"divide it by 255: '{eps:g}/255'" if norm == "inf" else None
        raise bad_value(key, eps, f"at most {whole:g}, as pixels are 0 to 1", fix)
    if norm == "0" and eps != int(eps):
        raise bad_value(key, eps, "a whole number of pixels, as the norm is 0")


def within_budget(x: Array, changed: Array, eps: float, norm: str) -> Array:
    """Return changed images moved into the budget and the range 0 to 1, by rounding errors or more.

    Args:
        x: pixels, [N, C, ...], float32.
        changed: as an attack left them, of the same shape; what is not finite is not changed.
        eps: the budget.
        norm: "inf", "2" or "0".

    Returns:
        float32; the budget holds in exact arithmetic.
    """
    changed = np.clip(np.where(np.isfinite(changed), changed, x), 0.0, 1.0)
    delta = changed.astype(np.float64) - x
    if norm == "inf":
        low, high = x.astype(np.float64) - eps, x.astype(np.float64) + eps
        found = np.clip(changed, low, high).astype(np.float32)
        found = np.where(found < low, np.nextafter(found, np.float32(2)), found)
        found = np.where(found > high, np.nextafter(found, np.float32(-1)), found)
        return np.asarray(np.clip(found, 0.0, 1.0), dtype=np.float32)
    flat = delta.reshape(len(x), x.shape[1], -1)
    if norm == "2":
        length = np.sqrt((flat**2).sum((1, 2), keepdims=True))
        over = length > eps * (1.0 - 1e-6)
        factor = np.where(over, eps * (1.0 - 1e-6) / np.maximum(length, 1e-30), 1.0)
        moved = (flat * factor).reshape(x.shape)
        found = (x + moved).astype(np.float32)
        further = np.abs(found.astype(np.float64) - x) > np.abs(moved)  # rounded away from x
        found = np.where(further, np.nextafter(found, x), found)
        return np.asarray(np.clip(found, 0.0, 1.0), dtype=np.float32)
    size = np.abs(flat).max(1)  # [N, pixels]
    order = np.argsort(-size, axis=1, kind="stable")[:, : int(eps)]
    kept = np.zeros(size.shape, dtype=bool)
    np.put_along_axis(kept, order, True, axis=1)
    kept &= size > 1e-4  # less than half a step of 8 bits is rounding
    keep = np.broadcast_to(kept[:, None], flat.shape).reshape(x.shape)
    return np.asarray(np.where(keep, changed, x), dtype=np.float32)


def random_noise(x: Array, eps: float, norm: str, seed: int) -> Array:
    """Return images with random changes of the size of a budget.

    Args:
        x: pixels, [N, C, ...].
        eps: the budget: each pixel changes by it ("inf"), or the whole image ("2"), or so many
            pixels become black or white in each channel ("0").
        norm: "inf", "2" or "0".
        seed: seed of the changes.
    """
    rng = np.random.default_rng(seed)
    if norm == "inf":
        changed = x + eps * rng.choice([-1.0, 1.0], size=x.shape)
    elif norm == "2":
        noise = np.asarray(rng.standard_normal(x.shape))
        axes = tuple(range(1, x.ndim))
        changed = x + eps * noise / np.sqrt((noise**2).sum(axes, keepdims=True))
    else:
        pixels = math.prod(x.shape[2:])
        places = rng.random((len(x), 1, pixels)).argsort(2).argsort(2) < int(eps)
        values = rng.integers(0, 2, (*x.shape[:2], pixels))
        changed = np.where(places, values, x.reshape(*x.shape[:2], pixels)).reshape(x.shape)
    return within_budget(x, changed, eps, norm)


def _no_pixels(found: str, expected: str) -> CnetError:
    return CnetError(
        f"the data have no range of pixels ({found}); expected {expected}, as budgets of attacks "
        "are in pixel units.",
        key="data",
        value=found,
        expected=expected,
    )
