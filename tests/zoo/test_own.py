"""Images of the user's own: .npz files and folders of image files."""

import io
import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.zoo import MLP, arrays, image_folder, load_pretrained


def nhwc(n: int, height: int = 6, width: int = 5, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, height, width, channels), dtype=np.uint8)


def write(path: Path, **changes: Any) -> Path:
    content: dict[str, Any] = {
        "x_train": nhwc(40),
        "y_train": np.arange(40) % 4,
        "x_test": nhwc(8),
        "y_test": np.arange(8) % 4,
    } | changes
    np.savez(path, **{name: value for name, value in content.items() if value is not None})
    return path


def test_a_file_that_cannot_fit_into_memory_is_refused_by_its_headers(tmp_path: Path) -> None:
    x = np.zeros((2, 4, 4, 1), np.uint8)
    path = write(tmp_path / "a.npz", x_train=x, x_test=x)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "b.npz", "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "x_train.npy":  # claims 3 TiB of pixels
                header = io.BytesIO()
                shape = {"shape": (3 * 2**36, 4, 4, 1), "fortran_order": False, "descr": "|u1"}
                np.lib.format.write_array_header_1_0(header, shape)
                content = header.getvalue()
            new.writestr(name, content)
    with pytest.raises(CnetError, check=lambda e: e.key == "memory"):
        arrays(tmp_path / "b.npz")


def test_every_layout_gives_the_same_images(tmp_path: Path) -> None:
    last = arrays(write(tmp_path / "last.npz"), val_size=8)
    first = {f"x_{part}": nhwc(n).transpose(0, 3, 1, 2) for part, n in (("train", 40), ("test", 8))}
    second = arrays(write(tmp_path / "first.npz", **first), val_size=8)
    assert last.input_shape == second.input_shape == (3, 6, 5)
    assert torch.equal(last.train.x, second.train.x) and last.fingerprint == second.fingerprint
    assert last.name == "last" and last.classes == 4
    raw = (
        last.test.x * torch.tensor(last.std)[:, None, None] + torch.tensor(last.mean)[:, None, None]
    )
    np.testing.assert_array_equal((raw * 255).round(), nhwc(8).transpose(0, 3, 1, 2))


def test_images_without_a_channel_dimension_have_one_channel(tmp_path: Path) -> None:
    grey = {"x_train": nhwc(40)[..., 0], "x_test": nhwc(8)[..., 0]}
    with_channel = {name: x[..., None] for name, x in grey.items()}
    one = arrays(write(tmp_path / "b.npz", **with_channel))
    path = write(tmp_path / "a.npz", **grey)
    for layout in ("auto", "NHWC", "NCHW"):
        other = arrays(path, layout=layout)
        assert other.input_shape == (1, 6, 5)
        assert other.fingerprint == one.fingerprint


@pytest.mark.parametrize(
    "shape", [(40, 3, 7, 3), (40, 1, 7, 3), (40, 4, 7, 5)], ids=["both", "1 and 3", "neither"]
)
def test_an_ambiguous_layout_must_be_named(shape: tuple[int, ...], tmp_path: Path) -> None:
    x = np.zeros(shape, np.uint8)
    x[::2] = 9
    path = write(tmp_path / "a.npz", x_train=x, x_test=x[:8])
    with pytest.raises(CnetError, check=lambda e: e.key == "x_train"):
        arrays(path)
    assert arrays(path, layout="NCHW").input_shape == shape[1:]
    assert arrays(path, layout="NHWC").input_shape == (shape[3], *shape[1:3])


def test_class_names_come_from_the_file_and_nothing_else_is_read(tmp_path: Path) -> None:
    names = np.array(["ant", "bee", "cow", "dog"])
    path = write(tmp_path / "a.npz", classes=names, notes=np.array([{"never": "unpickled"}]))
    assert arrays(path).class_names == tuple(names)
    path = write(tmp_path / "b.npz", classes=np.char.encode(names))
    assert arrays(path).class_names == tuple(names)


def test_columns_of_labels_and_other_number_types(tmp_path: Path) -> None:
    one = arrays(write(tmp_path / "a.npz"))
    labels = {
        "y_train": (np.arange(40, dtype=np.uint8) % 4)[:, None],
        "y_test": (np.arange(8, dtype=">i2") % 4)[:, None],
    }
    assert arrays(write(tmp_path / "b.npz", **labels)).fingerprint == one.fingerprint
    floats = {"x_train": nhwc(40).astype(">f8"), "x_test": nhwc(8).astype(np.float16)}
    other = arrays(write(tmp_path / "c.npz", **floats))
    np.testing.assert_allclose(other.train.x, one.train.x, atol=1e-5)


def test_arguments_are_handed_on(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npz")
    data = arrays(path, val_size=12, augment=True, limit_train=20, classes=4, crop=1)
    assert [len(p) for p in (data.train, data.val, data.test)] == [20, 12, 8]
    assert data.augment is not None
    assert data.fingerprint != arrays(path, val_size=12, limit_train=20, split_seed=1).fingerprint


@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [
        ({"y_test": None, "x_test": None}, {}, "a.npz"),
        ({"x_train": nhwc(40)[:, 0, 0]}, {}, "x_train"),
        ({"x_train": nhwc(40).astype(np.int32) + 1}, {}, "x_train"),
        ({"x_test": nhwc(8, 7)}, {}, "x_train"),
        ({"y_train": np.arange(40.0) % 4 + 0.5}, {}, "y_train"),
        ({"y_train": np.eye(4, dtype=int)[np.arange(40) % 4]}, {}, "y_train"),
        ({"y_train": np.arange(39) % 4}, {}, "y_train"),
        ({"x_train": np.array([{"code": "run"}] * 40)}, {}, "a.npz"),
        ({"classes": np.array(["a", "b"])}, {}, "y_train"),
        ({}, {"classes": 5}, "y_train"),
        ({}, {"layout": "HWC"}, "layout"),
        ({"x_train": nhwc(40)[..., 0]}, {"layout": "NHWC"}, "x_train"),
        ({"classes": 4}, {}, "a.npz"),
        ({}, {"val_size": 40}, "val_size"),
        ({"x_test": nhwc(8).transpose(0, 3, 1, 2)}, {}, "x_test"),
        ({"x_train": nhwc(40) / 255.0, "x_test": nhwc(8) * 1.0}, {}, "x_test"),
        ({"x_train": nhwc(40) * 1e30}, {}, "x_train"),
        ({"y_train": np.arange(40) * 10**12}, {}, "y_train"),
        ({"y_train": np.full(40, 2**64 - 1, np.uint64)}, {}, "y_train"),
        ({"classes": np.array(["a", "b", "b", "d"])}, {}, "class_names"),
        ({}, {"augment": "no"}, "augment"),
        ({}, {"crop": 100}, "crop"),
        ({}, {"limit_train": 10.5}, "limit_train"),
    ],
)
def test_files_that_do_not_fit(
    changes: dict[str, Any], arguments: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(CnetError, check=lambda e: e.key.endswith(message)):
        arrays(write(tmp_path / "a.npz", **changes), **arguments)


def test_files_that_are_something_else(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with pytest.raises(CnetError, check=lambda e: e.key.endswith("a.npz")):
        arrays(path)
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(CnetError, check=lambda e: e.key.endswith("a.npy")):
        arrays(tmp_path / "a.npy")
    content = write(path).read_bytes()
    start = content.index(b"\x93NUMPY")
    path.write_bytes(content[: start + 200] + b"\xff" * 50 + content[start + 250 :])
    with pytest.raises(CnetError, check=lambda e: e.key.endswith("a.npz")):
        arrays(path)


COLORS = {"apple": (200, 10, 10), "leaf": (10, 180, 20), "sky": (30, 60, 250)}


def write_folder(root: Path, parts: dict[str, int]) -> Path:
    for part, count in parts.items():
        for name, color in COLORS.items():
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                image = Image.new("RGB", (9 + number, 7), color)
                image.putpixel((0, 0), (number, 0, 0))
                image.save(folder / f"{number}.png")
    return root


def test_image_folder_reads_resizes_and_labels(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "fruit", {"train": 6, "test": 2})
    data = image_folder(root, size=4, val_size=3)
    assert data.name == "fruit" and data.class_names == tuple(sorted(COLORS))
    assert data.input_shape == (3, 4, 4) and data.classes == 3
    assert [len(p) for p in (data.train, data.val, data.test)] == [15, 3, 6]
    assert data.test.y.tolist() == [0, 0, 1, 1, 2, 2]
    mean, std = (torch.tensor(m)[None, :, None, None] for m in (data.mean, data.std))
    corner = ((data.test.x * std + mean) * 255).round()[:, :, -1, -1]  # plain color there
    expected = [COLORS[data.class_names[label]] for label in data.test.y]
    assert corner.int().tolist() == [list(color) for color in expected]


def test_image_folder_keeps_images_of_the_right_size_as_they_are(tmp_path: Path) -> None:
    pixels = {name: nhwc(6 + number, 5, 5) for number, name in enumerate(COLORS)}
    for part in ("train", "test"):
        for name, images in pixels.items():
            (tmp_path / part / name).mkdir(parents=True)
            for number, image in enumerate(images):
                Image.fromarray(image).save(tmp_path / part / name / f"{number}.png")
    data = image_folder(tmp_path, size=5, val_size=3)
    mean, std = (torch.tensor(m)[None, :, None, None] for m in (data.mean, data.std))
    seen = ((data.test.x * std + mean) * 255).round().permute(0, 2, 3, 1)
    for label, name in enumerate(sorted(pixels)):
        some = {image.int().numpy().tobytes() for image in seen[data.test.y == label]}
        assert some == {image.astype(np.int32).tobytes() for image in pixels[name]}


def test_the_beginning_of_each_part_of_an_image_folder_holds_all_classes(tmp_path: Path) -> None:
    """Its files come class by class; scans, searches, attacks and fits take the first samples."""
    root = write_folder(tmp_path, {"train": 8, "val": 7, "test": 9})
    data = image_folder(root, size=4)
    for part in (data.train, data.val, data.test):
        for count in (3, 6, 9):
            assert part.first(count).y.bincount().tolist() == [count // 3] * 3
    again = image_folder(root, size=4)
    assert torch.equal(again.test.y, data.test.y) and again.fingerprint == data.fingerprint


def test_image_folder_takes_its_own_validation_part_and_grey(tmp_path: Path) -> None:
    root = write_folder(tmp_path, {"train": 4, "val": 2, "test": 1})
    data = image_folder(root, size=4, channels=1)
    assert [len(p) for p in (data.train, data.val, data.test)] == [12, 6, 3]
    assert data.input_shape == (1, 4, 4)


@pytest.mark.parametrize("kind", ["png", "tif", "pgm"])
@pytest.mark.parametrize("channels", [1, 3])
def test_grey_images_of_16_bits_look_as_those_of_8(
    kind: str, channels: int, tmp_path: Path
) -> None:
    grey = {name: nhwc(6 + number)[..., 0] for number, name in enumerate(COLORS)}
    for part in ("train", "test"):
        for name, images in grey.items():
            for root, pixels in (("8", images), ("16", images.astype(np.uint16) * 257)):
                folder = tmp_path / root / "grey" / part / name
                folder.mkdir(parents=True)
                for number, one in enumerate(pixels):
                    Image.fromarray(one).save(folder / f"{number}.{kind}")
    wanted, found = (
        image_folder(tmp_path / root / "grey", 4, val_size=3, channels=channels)
        for root in ("8", "16")
    )
    assert found.fingerprint == wanted.fingerprint


def test_images_without_a_known_range_are_refused(tmp_path: Path) -> None:
    root = write_folder(tmp_path, {"train": 4, "test": 1})
    for pixels in (np.ones((5, 5), np.float32), np.ones((5, 5), np.int32)):
        Image.fromarray(pixels).save(root / "train" / "sky" / "9.tif")
        with pytest.raises(CnetError, check=lambda e: e.key.endswith("9.tif")):
            image_folder(root, size=4)


def test_image_folder_mistakes(tmp_path: Path) -> None:
    root = write_folder(tmp_path, {"train": 4})
    with pytest.raises(CnetError, check=lambda e: e.key.endswith("test")):
        image_folder(root, size=4)
    write_folder(tmp_path, {"test": 1})
    with pytest.raises(CnetError, check=lambda e: e.key == "channels"):
        image_folder(root, size=4, channels=2)
    with pytest.raises(CnetError, check=lambda e: e.key == "size"):
        image_folder(root, size=0)
    (root / "test" / "leaf").rename(root / "test" / "leaves")
    with pytest.raises(CnetError, check=lambda e: e.key.endswith("test")):
        image_folder(root, size=4)
    (root / "test" / "leaves").rename(root / "test" / "leaf")
    (root / "train" / "moon").mkdir()
    with pytest.raises(CnetError, check=lambda e: e.key.endswith("train")):
        image_folder(root, size=4)
    (root / "train" / "moon").rmdir()
    (root / "train" / "sky" / "0.png").write_bytes(b"no image")
    with pytest.raises(CnetError, check=lambda e: e.key.endswith("0.png")):
        image_folder(root, size=4)


def test_whole_numbers_of_other_types_are_the_same_images_and_labels(tmp_path: Path) -> None:
    wanted = arrays(write(tmp_path / "a.npz"), val_size=8)
    forms = {"x_train": nhwc(40).astype(np.int64), "y_test": np.arange(8.0) % 4}
    assert arrays(write(tmp_path / "b.npz", **forms), val_size=8).fingerprint == wanted.fingerprint


def test_a_member_that_is_not_an_array_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npz")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "b.npz", "w") as new:
        for name in old.namelist():
            new.writestr(name, b"hello" if name == "y_train.npy" else old.read(name))
    with pytest.raises(CnetError, check=lambda e: e.key.endswith("b.npz")):
        arrays(tmp_path / "b.npz")


# -- folders as people have them


def save(path: Path, image: Image.Image, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def two_classes(root: Path, classes: tuple[str, ...] = ("a", "b"), **options: Any) -> Path:
    """Red images above blue ones, 8 x 8, three of each class and part."""
    image = options.pop("image", None) or Image.new("RGB", (8, 8), (255, 0, 0))
    for part in ("train", "test"):
        for name in classes:
            for number in range(3):
                save(root / part / name / f"{number}.png", image, **options)
    return root


def test_numbered_classes_stand_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    root = two_classes(tmp_path, ("0", "1", "10", "11", "2"))
    assert image_folder(root, 8, val_size=5).class_names == ("0", "1", "2", "10", "11")


def test_hidden_files_and_folders_are_left_out_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = two_classes(tmp_path)
    save(root / "train" / ".ipynb_checkpoints" / "0.png", Image.new("RGB", (8, 8)))
    (root / "train" / "a" / "._0.png").write_bytes(b"\0\5")
    data = image_folder(root, 8, val_size=2)
    assert data.class_names == ("a", "b")
    assert len(data.train) + len(data.val) == 6
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_link_that_leads_back_adds_no_copies(tmp_path: Path) -> None:
    root = two_classes(tmp_path)
    (root / "train" / "a" / "all").symlink_to(root / "train" / "a")
    data = image_folder(root, 8, val_size=2)
    assert len(data.train) + len(data.val) == 6


def test_images_that_are_left_out_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = two_classes(tmp_path)
    save(root / "train" / "a" / "9.gif", Image.new("RGB", (8, 8)))
    save(root / "test" / "9.png", Image.new("RGB", (8, 8)))
    data = image_folder(root, 8, val_size=2)
    assert len(data.train) + len(data.val) + len(data.test) == 12
    warned = [record.getMessage() for record in caplog.records]
    assert [one.rsplit("/", 1)[1] for one in warned] == ["9.gif", "9.png"]


def test_a_folder_that_cannot_be_read_is_not_taken_for_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = two_classes(tmp_path)
    save(root / "train" / "a" / "more" / "9.png", Image.new("RGB", (8, 8)))
    scan = os.scandir

    def denied(path: Any) -> Any:
        if os.fspath(path).endswith("more"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(CnetError, check=lambda e: e.key.endswith("more")):
        image_folder(root, 8, val_size=2)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_are_white(mode: str, tmp_path: Path) -> None:
    clear = {"RGBA": (255, 0, 0, 0), "LA": (9, 0), "P": 0}[mode]
    image = Image.new(mode, (8, 8), clear)  # type: ignore[arg-type]
    options = {}
    if mode == "P":
        image.putpalette([255, 0, 0] + [0] * 765)
        options["transparency"] = 0
    data = image_folder(two_classes(tmp_path, image=image, **options), 8, val_size=2)
    assert data.mean == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("white", [np.uint8(255), np.uint16(65535)])
def test_an_image_is_turned_as_its_camera_says(white: np.generic, tmp_path: Path) -> None:
    pixels = np.zeros((8, 8), white.dtype)
    pixels[:4] = white  # the upper half
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x112] = 6  # to be turned clockwise
    data = image_folder(two_classes(tmp_path, image=image, exif=exif), 8, val_size=2, channels=1)
    shown = data.test.x[0, 0] * data.std[0] + data.mean[0]
    assert shown[:, 4:].round().min() == 1.0 and shown[:, :4].round().max() == 0.0


def png(width: int, height: int, extra: bytes = b"") -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 14))
    return b"\x89PNG\r\n\x1a\n" + head + extra + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["giant", "text", "empty"])
def test_a_file_that_pillow_refuses_is_named(kind: str, tmp_path: Path) -> None:
    root = two_classes(tmp_path)
    bomb = b"k\0\0" + zlib.compress(b"a" * 10**7)
    text = struct.pack(">I", len(bomb)) + b"zTXt" + bomb
    content = {
        "giant": png(40000, 40000),
        "text": png(2, 2, text + struct.pack(">I", zlib.crc32(b"zTXt" + bomb))),
        "empty": b"",
    }[kind]
    (root / "train" / "a" / "bad.png").write_bytes(content)
    with pytest.raises(CnetError, check=lambda e: e.key.endswith("bad.png")):
        image_folder(root, 8)


def test_a_file_without_permission_is_not_called_broken(tmp_path, monkeypatch):
    path = write(tmp_path / "mine.npz")
    weights = tmp_path / "net.safetensors"
    weights.write_bytes(b"")

    def denied(self, *arguments, **others):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", denied)
    for read in (lambda: arrays(path), lambda: load_pretrained(MLP((1, 8, 8)), str(weights))):
        with pytest.raises(CnetError, match=r"cannot be read \(Permission denied\)"):
            read()
