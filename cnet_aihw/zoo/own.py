"""The ways to bring your own images: one .npz file of arrays, or folders of image files."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray
from torch import Tensor

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.memory import check_memory
from cnet_aihw.zoo.build import Raw, from_tensors
from cnet_aihw.zoo.dataset import Dataset

if TYPE_CHECKING:
    from PIL import Image

_MEMBERS = ("x_train", "y_train", "x_test", "y_test")
_LAYOUTS = ("auto", "NHWC", "NCHW")


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
) -> Dataset:
    """A data set from an .npz file with ``x_train``, ``y_train``, ``x_test`` and ``y_test``.

    Images are uint8 (0 to 255) or floating numbers, [N, H, W] (one channel, whatever the layout),
    [N, H, W, C] or [N, C, H, W]. With ``layout="auto"`` channels are the dimension that is 1 or 3,
    second or last; where both or neither are, the layout must be named. Labels are integers [N] or
    [N, 1], from 0.
    A member ``classes`` may hold the class names; other members are not read. Nothing is unpickled.

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

    Returns:
        The data set, named after the file.

    Raises:
        CnetError: the file is absent or is something else, or its content does not fit.
    """
    path = Path(path)
    if layout not in _LAYOUTS:
        raise CnetError(
            f"layout={layout!r} is unknown: give one of {', '.join(_LAYOUTS)}.",
            key="layout",
            value=layout,
        )
    members = _read_members(path)
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
    )


def image_folder(
    root: str | Path,
    size: int,
    val_size: int | float = 0.1,
    split_seed: int = 0,
    augment: bool = False,
    channels: int = 3,
    limit_train: int | None = None,
    crop: int = 4,
    flip: bool = True,
) -> Dataset:
    """A data set from image files: ``root/train/CLASS/*`` and ``root/test/CLASS/*``.

    The validation part is ``root/val/CLASS/*`` where that folder is there (``val_size`` is then
    not used), and else cut from ``root/train``. Images are resized to ``size`` x ``size``
    (bilinear, the aspect is not kept) and held in memory. Grey images of 16 bits are scaled to 8.

    Args:
        root: folder with ``train``, ``test`` and perhaps ``val``.
        size: height and width of the images in pixels.
        val_size: size of the validation part, images or share of ``root/train``.
        split_seed: seed of the split.
        augment: give the data set a random crop and flip.
        channels: 3 reads colour, 1 grey.
        limit_train: keep only the first so many images of the training part's order.
        crop: border of the random crop in pixels; 0 does not crop.
        flip: whether to flip left to right.

    Returns:
        The data set, named after the folder; classes in alphabetical order of their folders.

    Raises:
        CnetError: a folder or class is absent, or a file is not a readable image.
    """
    root = Path(root)
    if size < 1:
        raise CnetError(
            f"size={size} is below 1: give the height and width in pixels.",
            key="size",
            value=size,
            expected="the height and width in pixels",
        )
    if channels not in (1, 3):
        raise CnetError(
            f"channels={channels} is not possible: give 3 for colour or 1 for grey.",
            key="channels",
            value=channels,
            expected="3 for colour or 1 for grey",
        )
    _check_memory(root, size, channels)
    train, names = _read_folder(root / "train", size, channels)
    test, _ = _read_folder(root / "test", size, channels, names)
    val = None
    if (root / "val").is_dir():
        val, _ = _read_folder(root / "val", size, channels, names)
    return from_tensors(
        root.resolve().name,
        train,
        test,
        val,
        class_names=names,
        val_size=val_size,
        split_seed=split_seed,
        limit_train=limit_train,
        augment=augment,
        crop=crop,
        flip=flip,
    )


def _read_members(path: Path) -> dict[str, NDArray[np.generic]]:
    if not path.is_file():
        raise CnetError(
            f"The file {path} does not exist: give an .npz file with {', '.join(_MEMBERS)}.",
            key=str(path),
        )
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
            need = sum(_bytes_needed(file, name) for name in ("x_train", "x_test"))
            check_memory(need, f"the data set in {path} as float32")
            return {n: file[n] for n in (*_MEMBERS, "classes") if n in file.files}
    except CnetError:
        raise
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
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
    if x.dtype != np.uint8 and not np.issubdtype(x.dtype, np.floating):
        raise CnetError(
            f"{name} holds {x.dtype}: give pixels as uint8 (0 to 255) or as floating numbers.",
            key=name,
            value=x.dtype,
            expected="pixels as uint8 (0 to 255) or as floating numbers",
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
    elif (_layout(name, x.shape) if layout == "auto" else layout) == "NHWC":
        x = x.transpose(0, 3, 1, 2)
    # torch knows no other byte orders and no longdouble
    x = np.ascontiguousarray(x, dtype=np.uint8 if x.dtype == np.uint8 else np.float32)
    return torch.from_numpy(x)


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
    if not np.issubdtype(y.dtype, np.integer):
        raise CnetError(
            f"{name} holds {y.dtype}: labels are class numbers of an integer type.",
            key=name,
            value=y.dtype,
        )
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    return torch.from_numpy(y.astype(np.int64))


def _eight_bits(image: Image.Image, file: str) -> NDArray[np.uint8] | None:
    """Grey values of 16 bits, which Pillow would cut off at 255, as [H, W] uint8; else None."""
    # Pillow gives 32 bits to some files of 16
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return ((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8)
    if image.mode in ("I", "F"):
        raise CnetError(
            f"{file} has pixels of 32 bits, which have no known range: save it with 8 or 16 bits.",
            key=str(file),
        )
    return None


def _check_memory(root: Path, size: int, channels: int) -> None:
    """Check, before the first file is read, that all images fit into memory.

    Each is held as uint8 while it is read, and then as float32.
    """
    files = sum(
        path.is_file() for part in ("train", "val", "test") for path in root.glob(f"{part}/*/*")
    )
    need = files * channels * size * size * (1 + 4)
    check_memory(need, f"a data set of {files} images of {channels} x {size} x {size} in memory")


def _read_folder(
    folder: Path, size: int, channels: int, names: Sequence[str] | None = None
) -> tuple[Raw, list[str]]:
    """Images [N, C, size, size] uint8, labels [N] and class names of one part."""
    from PIL import Image
    from torchvision.datasets import ImageFolder

    if not folder.is_dir():
        raise CnetError(
            f"The folder {folder} does not exist: put one folder of images for each class there.",
            key=str(folder),
            expected="one folder of images for each class there",
        )
    try:
        listing = ImageFolder(str(folder))
    except FileNotFoundError as error:
        raise CnetError(
            f"{folder} lacks images ({error}): give images for each class.",
            key=str(folder),
            expected="images for each class",
        ) from error
    if names is not None and listing.classes != list(names):
        odd = sorted(set(names) ^ set(listing.classes))[0]
        raise CnetError(
            f"The class {odd} is not in both the training folder and {folder}: "
            "give every part the same class folders.",
            key=str(folder),
            value=odd,
        )
    pixels = np.empty((len(listing.samples), channels, size, size), np.uint8)
    for row, (file, _) in enumerate(listing.samples):
        try:
            with Image.open(file) as image:
                grey = _eight_bits(image, file)
                shown = image if grey is None else Image.fromarray(grey)
                small = shown.convert("RGB" if channels == 3 else "L").resize(
                    (size, size), Image.Resampling.BILINEAR
                )
        except OSError as error:
            raise CnetError(
                f"{file} cannot be read as an image: mend or remove it.", key=str(file)
            ) from error
        pixels[row] = np.asarray(small).reshape(size, size, channels).transpose(2, 0, 1)
    return (torch.from_numpy(pixels), torch.tensor(listing.targets)), listing.classes
