"""The public data sets: scikit-learn's digits, MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.memory import check_memory
from cnet_aihw.runtime.typed import checked
from cnet_aihw.zoo.build import Raw, build, from_tensors, limited
from cnet_aihw.zoo.dataset import Dataset
from cnet_aihw.zoo.split import stratified_split

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10, MNIST


@checked
def digits(
    size: int = 28,
    val_fraction: float = 0.2,
    split_seed: int = 0,
    test_fraction: float = 0.2,
    limit_train: int | None = None,
    augment: bool = False,
    crop: int = 2,
    flip: bool = False,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Dataset:
    """The 1797 handwritten digits that scikit-learn brings (8x8, one channel); needs no files.

    They have no official test part: test and validation part are both cut with ``split_seed``.

    Args:
        size: height and width to which the images are enlarged (bilinear), at least 8.
        val_fraction: share (or number) of images in the validation part.
        split_seed: seed of the split.
        test_fraction: share (or number) of images in the test part.
        limit_train: keep only the first so many images of the training part's order.
        augment: give the data set a random crop and flip.
        crop: border of the random crop in pixels; 0 does not crop.
        flip: whether to flip left to right.
        mean: what is subtracted from each channel, [C], such as the mean of the data a network was
            pretrained on; of uint8 pixels as 0 to 1. None: the mean of the training part.
        std: what each channel is divided by, [C], above 0. None: the training part's deviation.

    Returns:
        The data set, images [1, size, size], 10 classes.

    Raises:
        CnetError: ``size`` below 8, or a share that leaves a part without some class.
    """
    if size < 8:
        raise CnetError(
            f"size={size} is smaller than the 8x8 images of digits: give 8 or more.",
            key="size",
            value=size,
            expected="8 or more",
        )
    check_memory(1797 * size * size * (8 + 4), f"digits as images of {size} x {size}")
    from sklearn.datasets import load_digits

    pixels, numbers = load_digits(return_X_y=True)
    x = torch.from_numpy(pixels).reshape(-1, 1, 8, 8) / 16  # [1797, 1, 8, 8] float64, 0 to 1
    y = torch.from_numpy(numbers).long()
    if size != 8:  # in float64, so that every machine gives the same float32
        x = F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)
    x = x.float()
    sizes = {"test_fraction": test_fraction, "val_fraction": val_fraction}
    test, val, train = stratified_split(y, sizes, split_seed, 10)
    train = limited(train, limit_train, 10)
    return build(
        "digits",
        (x[train], y[train]),
        (x[val], y[val]),
        (x[test], y[test]),
        classes=10,
        class_names=(),
        augment=augment,
        crop=crop,
        flip=flip,
        mean=mean,
        std=std,
    )


@checked
def mnist(
    root: str | Path,
    download: bool = False,
    val_size: int | float = 5000,
    split_seed: int = 0,
    limit_train: int | None = None,
    augment: bool = False,
    crop: int = 2,
    flip: bool = False,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Dataset:
    """MNIST: 60,000 + 10,000 handwritten digits, images [1, 28, 28], 10 classes.

    The official test part is the test part; the validation part is cut, stratified, from the
    official training part.

    Args:
        root: folder that holds (or will hold) the files, as torchvision has them: the four IDX
            files in ``root/MNIST/raw``.
        download: fetch the files when they are not there.
        val_size: size of the validation part, images or share of the official training part.
        split_seed: seed of the split.
        limit_train: keep only the first so many images of the training part's order.
        augment: give the data set a random crop and flip.
        crop: border of the random crop in pixels; 0 does not crop.
        flip: whether to flip left to right.
        mean: what is subtracted from each channel, [C], such as the mean of the data a network was
            pretrained on; of uint8 pixels as 0 to 1. None: the mean of the training part.
        std: what each channel is divided by, [C], above 0. None: the training part's deviation.

    Returns:
        The data set.

    Raises:
        CnetError: the files are absent or damaged, or a size does not fit.
    """
    from torchvision.datasets import MNIST

    train, test = _idx_parts("mnist", MNIST, root, download)
    return from_tensors(
        "mnist",
        train,
        test,
        classes=10,
        val_size=val_size,
        split_seed=split_seed,
        limit_train=limit_train,
        augment=augment,
        crop=crop,
        flip=flip,
        mean=mean,
        std=std,
    )


@checked
def fashion_mnist(
    root: str | Path,
    download: bool = False,
    val_size: int | float = 5000,
    split_seed: int = 0,
    limit_train: int | None = None,
    augment: bool = False,
    crop: int = 2,
    flip: bool = True,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Dataset:
    """Fashion-MNIST: 60,000 + 10,000 pieces of clothing, images [1, 28, 28], 10 classes.

    Arguments, split and errors as `mnist`; the files are in ``root/FashionMNIST/raw``.
    """
    from torchvision.datasets import FashionMNIST

    train, test = _idx_parts("fashion_mnist", FashionMNIST, root, download)
    return from_tensors(
        "fashion_mnist",
        train,
        test,
        class_names=FashionMNIST.classes,
        val_size=val_size,
        split_seed=split_seed,
        limit_train=limit_train,
        augment=augment,
        crop=crop,
        flip=flip,
        mean=mean,
        std=std,
    )


@checked
def cifar10(
    root: str | Path,
    download: bool = False,
    val_size: int | float = 5000,
    split_seed: int = 0,
    limit_train: int | None = None,
    augment: bool = False,
    crop: int = 4,
    flip: bool = True,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Dataset:
    """CIFAR-10: 50,000 + 10,000 photographs, images [3, 32, 32], 10 classes.

    Arguments, split and errors as `mnist`; the files are in ``root/cifar-10-batches-py``. They are
    pickles: torchvision opens them only when their checksums are the official ones.
    """
    from torchvision.datasets import CIFAR10

    train, test, names = _cifar_parts("cifar10", CIFAR10, root, download)
    return from_tensors(
        "cifar10",
        train,
        test,
        class_names=names,
        val_size=val_size,
        split_seed=split_seed,
        limit_train=limit_train,
        augment=augment,
        crop=crop,
        flip=flip,
        mean=mean,
        std=std,
    )


@checked
def cifar100(
    root: str | Path,
    download: bool = False,
    val_size: int | float = 5000,
    split_seed: int = 0,
    limit_train: int | None = None,
    augment: bool = False,
    crop: int = 4,
    flip: bool = True,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Dataset:
    """CIFAR-100: 50,000 + 10,000 photographs, images [3, 32, 32], 100 (fine) classes.

    Arguments, split and errors as `cifar10`; the files are in ``root/cifar-100-python``.
    """
    from torchvision.datasets import CIFAR100

    train, test, names = _cifar_parts("cifar100", CIFAR100, root, download)
    return from_tensors(
        "cifar100",
        train,
        test,
        class_names=names,
        val_size=val_size,
        split_seed=split_seed,
        limit_train=limit_train,
        augment=augment,
        crop=crop,
        flip=flip,
        mean=mean,
        std=std,
    )


_UNREADABLE = (RuntimeError, OSError, AssertionError, ValueError, KeyError, IndexError, EOFError)
"""Errors that torchvision raises for files that are absent, cut short or of another kind."""


def _idx_parts(name: str, source: type[MNIST], root: str | Path, download: bool) -> tuple[Raw, Raw]:
    folder = Path(root) / source.__name__ / "raw"
    train, test = _read(name, source, folder, root, download)
    for pixels in (train.data, test.data):
        if pixels.ndim != 3 or pixels.dtype != torch.uint8:
            raise CnetError(
                f"The image file of {name} in {folder} holds {pixels.dtype} of shape "
                f"{tuple(pixels.shape)}, not uint8 images [N, H, W]: fetch it again.",
                key=name,
                value=str(pixels.dtype),
                expected="uint8",
            )
    # [N, 1, H, W], [N]
    return (train.data[:, None], train.targets.long()), (test.data[:, None], test.targets.long())


def _cifar_parts(
    name: str, source: type[CIFAR10], root: str | Path, download: bool
) -> tuple[Raw, Raw, tuple[str, ...]]:
    parts = _read(name, source, Path(root) / source.base_folder, root, download)
    pixels = [np.ascontiguousarray(np.asarray(of.data).transpose(0, 3, 1, 2)) for of in parts]
    train, test = (
        (torch.from_numpy(x), torch.tensor(of.targets)) for x, of in zip(pixels, parts, strict=True)
    )
    return train, test, tuple(parts[0].classes)


def _read[Source: (MNIST, CIFAR10)](
    name: str, source: type[Source], folder: Path, root: str | Path, download: bool
) -> list[Source]:
    """Return training and test part as torchvision reads them."""
    try:
        return [source(str(root), train=train, download=download) for train in (True, False)]
    except _UNREADABLE as error:
        raise _unreadable(name, folder, download, error) from error


def _unreadable(name: str, folder: Path, download: bool, error: Exception) -> CnetError:
    if download:
        return CnetError(
            f"{name} could not be downloaded into {folder} ({error}): check the network, or put "
            "the files there by hand.",
            key=name,
        )
    return CnetError(
        f"{name} was not found complete and undamaged in {folder}: set data.download=true (in "
        "Python download=True) to fetch it, or give your own copy as .npz with data=arrays.",
        key=name,
        expected="download=true, or an .npz file with data=arrays",
    )
