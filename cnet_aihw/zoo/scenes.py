"""Scenes of handwritten digits, with a class for each pixel; needs no files."""

from __future__ import annotations

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.runtime.fingerprint import tensors_fingerprint
from cnet_aihw.runtime.memory import check_memory
from cnet_aihw.runtime.parts import TensorPart
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import check_count, is_seed
from cnet_aihw.zoo.dataset import Dataset
from cnet_aihw.zoo.split import stratified_split

_INK = 0.3  # pixels of a digit above it belong to it


@checked
def digit_scenes(
    size: int = 48,
    digit: int = 16,
    train: int = 4000,
    val: int = 500,
    test: int = 1000,
    noise: float = 0.2,
    seed: int = 0,
) -> Dataset:
    """Scikit-learn's digits, one in each of some cells of a noisy image, and the class of a pixel.

    An image is cut into equal cells of at least one and a half times the digits' side; in each a
    digit is, at a place and of a brightness of its own, or not, one half each. Class 0 is the
    background, n + 1 the digit n. Digits of one part are in no other part.

    Args:
        size: height and width of an image, at least twice ``digit``.
        digit: side of a digit, at least 8.
        train: images in the training part.
        val: images in the validation part.
        test: images in the test part.
        noise: standard deviation of the noise; digits have a brightness of 0.5 to 1.
        seed: seed of all that is drawn.

    Returns:
        The data set: images [N, 1, size, size], targets [N, size, size] int64, 11 classes.

    Raises:
        CnetError: for sizes that do not fit.
    """
    if digit < 8 or size < 2 * digit:
        raise bad_value("digit", digit, f"at least 8, at most half of size={size}")
    for key, count in (("train", train), ("val", val), ("test", test)):
        check_count(key, count)
    if not 0.0 <= noise <= 1000.0:
        raise bad_value("noise", noise, "a number from 0 to 1000")
    if not is_seed(seed) or seed < 0:
        raise bad_value("seed", seed, "a whole number from 0 to 2**63 - 1")
    check_memory((train + val + test) * size**2 * 12, "the scenes")
    from sklearn.datasets import load_digits

    pixels, numbers = load_digits(return_X_y=True)
    x = torch.from_numpy(pixels).reshape(-1, 1, 8, 8) / 16
    x = F.interpolate(x, size=(digit, digit), mode="bilinear", align_corners=False)[:, 0].float()
    y = torch.from_numpy(numbers).long()
    rows = stratified_split(y, {"test": 0.2, "val": 0.2}, seed, 10)
    generator = torch.Generator().manual_seed(seed)
    made = {
        key: _scenes(x[of], y[of], count, size, noise, generator)
        for key, of, count in zip(("test", "val", "train"), rows, (test, val, train), strict=True)
    }
    mean, std = made["train"][0].mean(), made["train"][0].std()
    parts = {key: TensorPart((image - mean) / std, label) for key, (image, label) in made.items()}
    content = {f"{key}_{n}": t for key, of in made.items() for n, t in enumerate(of)}
    return Dataset(
        name="digit_scenes",
        train=parts["train"],
        val=parts["val"],
        test=parts["test"],
        classes=11,
        input_shape=(1, size, size),
        augment=None,
        fingerprint=tensors_fingerprint(content),
        mean=(float(mean),),
        std=(float(std),),
        class_names=("background", *map(str, range(10))),
    )


def _scenes(
    digits: Tensor, labels: Tensor, count: int, size: int, noise: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return images [count, 1, size, size] float32 and classes [count, size, size] int64."""
    side = digits.shape[1]
    across = size // (side + side // 2)
    cell = size // across
    corners = range(0, across * cell, cell)
    images = noise * torch.randn(count, 1, size, size, generator=generator)
    classes = torch.zeros(count, size, size, dtype=torch.int64)

    def drawn(high: int) -> list[int]:
        numbers: list[int] = torch.randint(high, (count,), generator=generator).tolist()
        return numbers

    for row, column in product(corners, corners):
        there, chosen = drawn(2), drawn(len(digits))
        down, right = drawn(cell - side + 1), drawn(cell - side + 1)
        bright = torch.rand(count, generator=generator) / 2 + 0.5
        for n in range(count):
            if there[n]:
                ink, top, left = digits[chosen[n]], row + down[n], column + right[n]
                place = (n, slice(top, top + side), slice(left, left + side))
                images[place[0], 0, place[1], place[2]] += bright[n] * ink
                classes[place][ink > _INK] = labels[chosen[n]] + 1
    return images, classes
