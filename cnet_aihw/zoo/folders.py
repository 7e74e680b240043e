"""Data sets from folders of image files."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.memory import check_memory
from cnet_aihw.runtime.typed import checked
from cnet_aihw.zoo.build import Raw, from_tensors
from cnet_aihw.zoo.dataset import Dataset

if TYPE_CHECKING:
    from PIL import Image

log = logging.getLogger(__name__)

_ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
_BACKGROUND = (255, 255, 255, 255)  # white, behind transparent pixels
_Listing = dict[str, list[Path]]  # class -> its files
_LeftOut = dict[str, list[Path]]  # kind, in words -> what was left out
_HIDDEN = "hidden files and folders"
_OTHERS = "files that are not images by their ending"
_OUTSIDE = "images outside the folders of classes"


@checked
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
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Dataset:
    """A data set from image files: ``root/train/CLASS/*`` and ``root/test/CLASS/*``.

    The validation part is ``root/val/CLASS/*`` where that folder is there (``val_size`` is then
    not used), and else cut from ``root/train``. Images are turned as their EXIF orientation says,
    put on white where they are transparent, resized to ``size`` x ``size`` (bilinear, the aspect is
    not kept) and held in memory. Grey images of 16 bits are scaled to 8. Left out, with a warning,
    are hidden files and folders, files that are not images by their ending, and images that lie in
    no folder of a class. A folder that is reached twice by links counts once.

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
        mean: what is subtracted from each channel, [C], such as the mean of the data a network was
            pretrained on; of uint8 pixels as 0 to 1. None: the mean of the training part.
        std: what each channel is divided by, [C], above 0. None: the training part's deviation.

    Returns:
        The data set, named after the folder; classes in the natural order of their folders: 2
        before 10.

    Raises:
        CnetError: a folder or class is absent, or a file is not a readable image.
    """
    root = Path(root)
    if size < 1:
        raise bad_value("size", size, "the height and width in pixels, at least 1")
    if channels not in (1, 3):
        raise bad_value("channels", channels, "3 for colour or 1 for grey")
    parts = [part for part in ("train", "test", "val") if part != "val" or (root / part).is_dir()]
    left: _LeftOut = {}
    listings = {part: _listing(root / part, left) for part in parts}
    for what, paths in left.items():
        log.warning("left out %d %s, such as %s", len(paths), what, paths[0])
    names = list(listings["train"])
    for part, listing in listings.items():
        _check_classes(root / part, names, list(listing))
    images = sum(len(files) for listing in listings.values() for files in listing.values())
    check_memory(  # uint8 while they are read, and then float32
        images * channels * size * size * (1 + 4),
        f"a data set of {images} images of {channels} x {size} x {size} in memory",
    )
    read = {part: _read(listing, size, channels) for part, listing in listings.items()}
    return from_tensors(
        root.resolve().name,
        read["train"],
        read["test"],
        read.get("val"),
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


def _listing(folder: Path, left: _LeftOut) -> _Listing:
    """Return the image files of each class; other files are added to what is left out."""
    if not folder.is_dir():
        raise CnetError(
            f"The folder {folder} does not exist: put one folder of images for each class there.",
            key=str(folder),
            expected="one folder of images for each class there",
        )
    found: _Listing = {}
    try:
        inside = sorted(folder.iterdir(), key=lambda path: _natural(path.name))
    except OSError as error:
        raise _unreadable(error, folder) from error
    for path in inside:
        if path.is_dir() and not path.name.startswith("."):
            found[path.name] = _images(path, left)
        elif path.is_dir():
            left.setdefault(_HIDDEN, []).append(path)
        elif path.name.lower().endswith(_ENDINGS):
            left.setdefault(_OUTSIDE, []).append(path)
    empty = [name for name, files in found.items() if not files]
    if empty or not found:
        what = f"the class {empty[0]} has no image" if empty else "it has no folder of a class"
        raise CnetError(
            f"{folder} lacks images: {what} ({', '.join(_ENDINGS)}); give images for each class.",
            key=str(folder),
            value=empty[0] if empty else None,
            expected="images for each class",
        )
    return found


def _images(folder: Path, left: _LeftOut) -> list[Path]:
    """Return the image files below a folder, in the order of their names."""
    files, seen = [], set()
    for place, inner, names in os.walk(folder, onerror=_refuse, followlinks=True):
        here = os.path.realpath(place)
        inner.sort()
        if here in seen:  # links may lead back
            inner.clear()
            continue
        seen.add(here)
        for name in (*inner, *sorted(names)):
            if name.startswith("."):
                left.setdefault(_HIDDEN, []).append(Path(place, name))
            elif name in inner:
                continue
            elif name.lower().endswith(_ENDINGS):
                files.append(Path(place, name))
            else:
                left.setdefault(_OTHERS, []).append(Path(place, name))
        inner[:] = [name for name in inner if not name.startswith(".")]
    return sorted(files)


def _refuse(error: OSError) -> None:
    raise _unreadable(error, error.filename) from error


def _unreadable(error: OSError, folder: Path | str) -> CnetError:
    return CnetError(
        f"{folder} cannot be read ({error.strerror}): make it readable or remove it.",
        key=str(folder),
    )


def _natural(name: str) -> tuple[list[tuple[int, int | str]], str]:
    """Return a key that sorts the numbers in names by value: 2 before 10."""
    pieces = re.split(r"(\d+)", name)
    return [(0, int(p)) if p.isdecimal() else (1, p) for p in pieces if p], name


def _check_classes(folder: Path, wanted: Sequence[str], found: Sequence[str]) -> None:
    odd = sorted(set(wanted) ^ set(found))
    if odd:
        raise CnetError(
            f"The class {odd[0]} is not in both the training folder and {folder}: "
            "give every part the same class folders.",
            key=str(folder),
            value=odd[0],
        )


def _read(listing: _Listing, size: int, channels: int) -> Raw:
    """Images [N, C, size, size] uint8 and labels [N] of one part."""
    files = [(file, label) for label, some in enumerate(listing.values()) for file in some]
    pixels = np.empty((len(files), channels, size, size), np.uint8)
    for row, (file, _) in enumerate(files):
        pixels[row] = _pixels(file, size, channels)
    return torch.from_numpy(pixels), torch.tensor([label for _, label in files])


def _pixels(file: Path, size: int, channels: int) -> NDArray[np.uint8]:
    """One image [C, size, size]."""
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as image:
            image.load()  # which turns a TIFF
            upright = ImageOps.exif_transpose(image)
            grey = _eight_bits(upright, image.format, file)
            shown = upright if grey is None else Image.fromarray(grey)
            if shown.has_transparency_data:
                behind = Image.new("RGBA", shown.size, _BACKGROUND)
                shown = Image.alpha_composite(behind, shown.convert("RGBA"))
            small = shown.convert("RGB" if channels == 3 else "L").resize(
                (size, size), Image.Resampling.BILINEAR
            )
    except CnetError:
        raise
    except Image.DecompressionBombError as error:
        raise CnetError(
            f"{file} is too large an image ({error}): make it smaller or remove it.", key=str(file)
        ) from error
    except Exception as error:  # Pillow's readers fail in any way on damaged files
        raise CnetError(
            f"{file} cannot be read as an image ({_first_line(error)}): mend or remove it.",
            key=str(file),
        ) from error
    return np.asarray(small).reshape(size, size, channels).transpose(2, 0, 1)


def _eight_bits(image: Image.Image, kind: str | None, file: Path) -> NDArray[np.uint8] | None:
    """Grey values of 16 bits, which Pillow would cut off at 255, as [H, W] uint8; else None."""
    # Pillow gives 32 bits to some files of 16
    if image.mode.startswith("I;16") or (image.mode == "I" and kind in ("PNG", "PPM")):
        return ((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8)
    if image.mode in ("I", "F"):
        raise CnetError(
            f"{file} has pixels of 32 bits, which have no known range: save it with 8 or 16 bits.",
            key=str(file),
        )
    return None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
