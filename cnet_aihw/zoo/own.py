"""Your own images in one .npz file of arrays."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray
from torch import Tensor

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.memory import check_memory
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import bad_choice, check_readable
from cnet_aihw.zoo.build import from_tensors
from cnet_aihw.zoo.dataset import Dataset

_MEMBERS = ("x_train", "y_train", "x_test", "y_test")
_LAYOUTS = ("auto", "NHWC", "NCHW")


@checked
def arrays(
    path: str | Path,
    val_size: int | float = 0.1,
    split_seed: int = 0,
    augment: bool = False,
    classes: int | None = None,
    layout: str = "auto",
    limit_train: int | None = None,
    crop: int = 4,
    flip: bool = True,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Dataset:
    """A data set from an .npz file with ``x_train``, ``y_train``, ``x_test`` and ``y_test``.

    Images are whole numbers from 0 to 255 or floating numbers, [N, H, W] (one channel, whatever the
    layout), [N, H, W, C] or [N, C, H, W]. With ``layout="auto"`` channels are the dimension that is
    1 or 3, second or last; where both or neither are, the layout must be named. Labels are whole
    numbers [N] or [N, 1], from 0. A member ``classes`` may hold the class names; other members are
    not read. Nothing is unpickled.

    Args:
        path: the file.
        val_size: size of the validation part, images or share of ``x_train``.
        split_seed: seed of the split.
        augment: give the data set a random crop and flip.
        classes: number of classes; None counts the names in the file, or else takes the largest
            label of ``y_train`` plus one.
        layout: "NHWC", "NCHW" or "auto".
        limit_train: keep only the first so many images of the training part's order.
        crop: border of the random crop in pixels; 0 does not crop.
        flip: whether to flip left to right.
        mean: what is subtracted from each channel, [C], such as the mean of the data a network was
            pretrained on; of uint8 pixels as 0 to 1. None: the mean of the training part.
        std: what each channel is divided by, [C], above 0. None: the training part's deviation.

    Returns:
        The data set, named after the file.

    Raises:
        CnetError: the file is absent or is something else, or its content does not fit.
    """
    path = Path(path)
    if layout not in _LAYOUTS:
        raise bad_choice("layout", layout, _LAYOUTS)
    members = _read_members(path)
    if layout == "auto":
        layout = _one_layout(members)
    train, test = (
        (
            _images(f"x_{part}", members[f"x_{part}"], layout),
            _labels(f"y_{part}", members[f"y_{part}"]),
        )
        for part in ("train", "test")
    )
    return from_tensors(
        path.stem,
        train,
        test,
        classes=classes,
        class_names=_class_names(path, members.get("classes")),
        val_size=val_size,
        split_seed=split_seed,
        limit_train=limit_train,
        augment=augment,
        crop=crop,
        flip=flip,
        mean=mean,
        std=std,
    )


def _read_members(path: Path) -> dict[str, NDArray[np.generic]]:
    if not path.is_file():
        raise CnetError(
            f"The file {path} does not exist: give an .npz file with {', '.join(_MEMBERS)}.",
            key=str(path),
        )
    check_readable(path)
    if not zipfile.is_zipfile(path):
        raise CnetError(
            f"{path} is not an .npz file: write it with numpy.savez.",
            key=str(path),
            fix="write it with numpy.savez",
        )
    try:
        with np.load(path, allow_pickle=False) as file:
            absent = [name for name in _MEMBERS if name not in file.files]
            if absent:
                raise CnetError(
                    f"{path} lacks {', '.join(absent)}: an .npz file of images holds "
                    f"{', '.join(_MEMBERS)}.",
                    key=str(path),
                )
            names = [name for name in (*_MEMBERS, "classes") if name in file.files]
            need = sum(_bytes_needed(file, name) for name in names)
            check_memory(need, f"the data set in {path} as float32")
            return {name: file[name] for name in names}
    except CnetError:
        raise
    except Exception as error:  # the readers of zip files and headers fail in any way
        raise CnetError(
            f"{path} cannot be read ({error}): write plain arrays with numpy.savez.",
            key=str(path),
            expected="plain arrays with numpy.savez",
        ) from error


def _bytes_needed(file: NpzFile, name: str) -> int:
    """Return the bytes of a member as it is read and then as float32, from its header alone."""
    assert file.zip is not None  # it is open
    with file.zip.open(f"{name}.npy") as member:
        version = np.lib.format.read_magic(member)
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read(member)
    return math.prod(shape) * (dtype.itemsize + 4)


def _class_names(path: Path, names: NDArray[np.generic] | None) -> list[str]:
    if names is None:
        return []
    if names.ndim != 1:
        raise CnetError(
            f"{path} has classes of shape {names.shape}: the member is the list of class names; "
            "give their number with the argument classes.",
            key=str(path),
            expected="their number with the argument classes",
        )
    return [
        name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in names
    ]


def _images(name: str, x: NDArray[np.generic], layout: str) -> Tensor:
    """Images as [N, C, H, W]."""
    if x.ndim == 2:
        raise CnetError(
            f"{name} has shape {x.shape}: images have three or four dimensions; reshape vectors to "
            "[N, 1, 1, length] and choose model=mlp.",
            key=name,
            value=x.shape,
            fix="reshape vectors to [N, 1, 1, length] and choose model=mlp",
        )
    if x.ndim == 3:
        x = x[:, None]
    elif x.ndim != 4:
        raise CnetError(
            f"{name} has shape {x.shape}: images have the shape [N, H, W], [N, H, W, C] or "
            "[N, C, H, W].",
            key=name,
            value=x.shape,
        )
    elif layout == "NHWC":
        x = x.transpose(0, 3, 1, 2)
    # torch knows no other byte orders and no longdouble
    return torch.from_numpy(np.ascontiguousarray(x, dtype=_pixel_type(name, x)))


def _pixel_type(name: str, x: NDArray[np.generic]) -> type[np.generic]:
    """Return uint8 for whole numbers from 0 to 255, float32 for floating numbers."""
    if np.issubdtype(x.dtype, np.floating):
        return np.float32
    whole = np.issubdtype(x.dtype, np.integer)
    if whole and (x.size == 0 or (x.min() >= 0 and x.max() <= 255)):  # type: ignore[operator]
        return np.uint8
    values = f" from {x.min()} to {x.max()}" if whole else ""
    raise CnetError(
        f"{name} holds {x.dtype}{values}: give pixels as whole numbers from 0 to 255 or as "
        "floating numbers.",
        key=name,
        value=x.dtype,
        expected="whole numbers from 0 to 255, or floating numbers",
    )


def _one_layout(members: Mapping[str, NDArray[np.generic]]) -> str:
    """Return the layout of both parts, found from their shapes.

    Raises:
        CnetError: where a shape fits both layouts or none, or the parts have different ones.
    """
    found = {
        name: _layout(name, members[name].shape)
        for name in ("x_train", "x_test")
        if members[name].ndim == 4
    }
    layouts = list(found.values())
    if len(set(layouts)) > 1:
        raise CnetError(
            f"x_train has the layout {layouts[0]} and x_test {layouts[1]}: give both the same.",
            key="x_test",
            value=layouts[1],
            expected=layouts[0],
        )
    return layouts[0] if layouts else "NCHW"


def _layout(name: str, shape: tuple[int, ...]) -> str:
    first, last = shape[1] in (1, 3), shape[3] in (1, 3)
    if first == last:
        raise CnetError(
            f"{name} has shape {shape}, which may be [N, H, W, C] or [N, C, H, W]: say which with "
            "layout=NHWC or layout=NCHW.",
            key=name,
            value=shape,
        )
    return "NCHW" if first else "NHWC"


def _labels(name: str, y: NDArray[np.generic]) -> Tensor:
    """Labels [N] as int64, from whole numbers of any type."""
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim == 2:
        raise CnetError(
            f"{name} has shape {y.shape}: labels are one class number for each image; of one "
            "column a class, give y.argmax(1).",
            key=name,
            value=y.shape,
            fix="give y.argmax(1)",
        )
    numeric = np.issubdtype(y.dtype, np.number) or y.dtype == np.bool_
    whole = numeric and not np.iscomplexobj(y) and bool(np.all(y == np.floor(y.astype(float))))
    if not whole or (y.size and not -(2**62) < float(y.min()) <= float(y.max()) < 2**62):
        raise CnetError(
            f"{name} holds {y.dtype} that are not class numbers: labels are whole numbers from 0.",
            key=name,
            value=y.dtype,
            expected="whole numbers from 0",
        )
    return torch.from_numpy(y.astype(np.int64))
