"""The public data sets, from tiny files in their formats (and the real ones where they are)."""

import hashlib
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from sklearn.datasets import load_digits

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.zoo import arrays, cifar10, cifar100, digits, fashion_mnist, mnist

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def raw_pixels(data, part) -> np.ndarray:  # type: ignore[no-untyped-def]
    mean, std = (torch.tensor(m)[None, :, None, None] for m in (data.mean, data.std))
    return (part.x.double() * std + mean).numpy()


def test_digits_are_scikit_learns() -> None:
    data = digits(size=8)
    pixels, numbers = load_digits(return_X_y=True)
    seen = np.concatenate([raw_pixels(data, p) for p in (data.train, data.val, data.test)])
    y = torch.cat([data.train.y, data.val.y, data.test.y]).numpy()
    assert len(seen) == 1797 and data.input_shape == (1, 8, 8)
    ours = {
        (tuple((16 * x).round().astype(int).ravel()), int(c)) for x, c in zip(seen, y, strict=True)
    }
    assert ours == {(tuple(x.astype(int)), int(c)) for x, c in zip(pixels, numbers, strict=True)}


def test_digits_are_split_60_20_20_and_stratified() -> None:
    data = digits()
    assert [len(p) for p in (data.train, data.val, data.test)] == [1079, 359, 359]
    assert data.input_shape == (1, 28, 28) and data.classes == 10 and data.augment is None
    whole = np.bincount(load_digits().target)
    for part in (data.train, data.val, data.test):
        held = torch.bincount(part.y, minlength=10).numpy()
        assert np.abs(held - whole * len(part) / 1797).max() <= 2


def test_digits_are_enlarged_bilinearly() -> None:
    """Against the formula: pixel centres at (i + 1/2) * 8 / 12 - 1/2, clamped to the image."""
    small, large = digits(size=8), digits(size=12)
    x, y = raw_pixels(small, small.test), raw_pixels(large, large.test)
    at = np.clip((np.arange(12) + 0.5) * 8 / 12 - 0.5, 0, 7)
    low = np.minimum(at.astype(int), 6)
    weights = np.zeros((12, 8))
    weights[np.arange(12), low] = 1 - (at - low)
    weights[np.arange(12), low + 1] += at - low
    np.testing.assert_allclose(y, weights @ x @ weights.T, atol=1e-6)


def test_digits_follow_their_seed() -> None:
    one, same, other = digits(8), digits(8), digits(8, split_seed=1)
    assert one.fingerprint == same.fingerprint != other.fingerprint
    assert torch.equal(one.test.x, same.test.x)
    assert not torch.equal(one.test.y, other.test.y)
    assert len(digits(8, limit_train=100).train) == 100


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 7}, "size"),
        ({"test_fraction": 0.99}, "test_fraction and val_fraction"),
        ({"val_fraction": 0.0}, "val_fraction"),
        ({"val_fraction": 0.5, "test_fraction": 0.5}, "test_fraction and val_fraction"),
        ({"limit_train": 9}, "limit_train"),
    ],
)
def test_digits_refuse(changes: dict[str, float], message: str) -> None:
    with pytest.raises(CnetError, check=lambda e: e.key == message):
        digits(**changes)  # type: ignore[arg-type]


def write_idx(file: Path, content: np.ndarray) -> None:
    header = struct.pack(f">HBB{content.ndim}I", 0, 8, content.ndim, *content.shape)
    file.write_bytes(header + content.astype(np.uint8).tobytes())


def write_mnist(root: Path, folder: str = "MNIST") -> dict[str, np.ndarray]:
    raw = root / folder / "raw"
    raw.mkdir(parents=True)
    draw = np.random.default_rng(0)
    content = {
        "train-images-idx3-ubyte": draw.integers(0, 256, (120, 28, 28)),
        "train-labels-idx1-ubyte": np.arange(120) % 10,
        "t10k-images-idx3-ubyte": draw.integers(0, 256, (30, 28, 28)),
        "t10k-labels-idx1-ubyte": np.arange(30) % 10,
    }
    for name, values in content.items():
        write_idx(raw / name, values)
    return content


@pytest.mark.parametrize(("load", "folder"), [(mnist, "MNIST"), (fashion_mnist, "FashionMNIST")])
def test_idx_files(load, folder: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    content = write_mnist(tmp_path, folder)
    data = load(tmp_path, val_size=20)
    assert data.input_shape == (1, 28, 28) and data.classes == 10
    assert [len(p) for p in (data.train, data.val, data.test)] == [100, 20, 30]
    seen = (raw_pixels(data, data.test) * 255).round()
    np.testing.assert_array_equal(seen[:, 0], content["t10k-images-idx3-ubyte"])
    np.testing.assert_array_equal(data.test.y, content["t10k-labels-idx1-ubyte"])
    assert torch.bincount(data.val.y).tolist() == [2] * 10


@pytest.mark.parametrize("load", [mnist, fashion_mnist, cifar10, cifar100])
def test_absent_files_name_the_folder_and_the_way_out(load, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(CnetError, check=lambda e: e.key == load.__name__) as caught:
        load(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_damaged_idx_files(name: str, tmp_path: Path) -> None:
    write_mnist(tmp_path)
    file = tmp_path / "MNIST" / "raw" / name
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(CnetError, check=lambda e: e.key == "mnist"):
        mnist(tmp_path, val_size=20)


def test_a_failed_download_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [(tmp_path / "no").as_uri() + "/"])
    with pytest.raises(CnetError, check=lambda e: e.key == "mnist"):
        mnist(tmp_path, download=True)


def write_cifar(root: Path, source: type, key: str, classes: int, monkeypatch) -> np.ndarray:  # type: ignore[no-untyped-def]
    """Tiny files in the format of ``source``, whose checksums are made the official ones."""
    folder = root / source.base_folder  # type: ignore[attr-defined]
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)

    def written(name: str, content: object) -> tuple[str, str]:
        data = pickle.dumps(content)
        (folder / name).write_bytes(data)
        return name, hashlib.md5(data).hexdigest()

    def batch(n: int) -> dict[str, object]:
        return {
            "data": draw.integers(0, 256, (n, 3072)).astype(np.uint8),
            key: (np.arange(n) % classes).tolist(),
        }

    test = batch(2 * classes)
    monkeypatch.setattr(source, "train_list", [written("one", batch(4 * classes))])
    monkeypatch.setattr(source, "test_list", [written("two", test)])
    meta = source.meta  # type: ignore[attr-defined]
    name, checksum = written(meta["filename"], {meta["key"]: [f"c{i}" for i in range(classes)]})
    monkeypatch.setattr(source, "meta", meta | {"filename": name, "md5": checksum})
    return np.asarray(test["data"]).reshape(-1, 3, 32, 32)


@pytest.mark.parametrize(
    ("load", "source", "key", "classes"),
    [
        (cifar10, torchvision.datasets.CIFAR10, "labels", 10),
        (cifar100, torchvision.datasets.CIFAR100, "fine_labels", 100),
    ],
)
def test_cifar_files(load, source, key, classes, tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    pixels = write_cifar(tmp_path, source, key, classes, monkeypatch)
    data = load(tmp_path, val_size=classes, augment=True)
    assert data.input_shape == (3, 32, 32) and data.classes == classes
    assert data.class_names[:2] == ("c0", "c1")
    assert [len(p) for p in (data.train, data.val, data.test)] == [k * classes for k in (3, 1, 2)]
    np.testing.assert_array_equal((raw_pixels(data, data.test) * 255).round(), pixels)
    assert data.test.y.tolist() == 2 * list(range(classes))
    assert data.augment is not None
    black = -torch.tensor(data.mean) / torch.tensor(data.std)
    shown = data.augment(torch.full((64, 3, 32, 32), 99.0), torch.Generator().manual_seed(0))
    for channel in range(3):
        assert shown[:, channel].unique().tolist() == pytest.approx([black[channel].item(), 99])


def test_cifar_pickles_of_another_checksum_are_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = torchvision.datasets.CIFAR10
    write_cifar(tmp_path, source, "labels", 10, monkeypatch)
    (tmp_path / source.base_folder / "one").write_bytes(pickle.dumps({"data": "other"}))
    monkeypatch.setattr(pickle, "load", lambda *_, **__: pytest.fail("opened"))
    with pytest.raises(CnetError, check=lambda e: e.key == "cifar10"):
        cifar10(tmp_path)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real data sets are not here")
def test_real_mnist_and_cifar10(tmp_path: Path) -> None:
    subprocess.run([sys.executable, SHARED / "unpack.py", tmp_path], check=True)
    data = mnist(tmp_path)
    assert [len(p) for p in (data.train, data.val, data.test)] == [55000, 5000, 10000]
    # the known mean and deviation of the 60,000 training images are 0.1307 and 0.3081
    assert data.mean[0] == pytest.approx(0.1307, abs=5e-4)
    assert data.std[0] == pytest.approx(0.3081, abs=5e-4)
    assert data.test.y[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    data = arrays(tmp_path / "cifar10.npz", val_size=5000, limit_train=1000)
    assert [len(p) for p in (data.train, data.val, data.test)] == [1000, 5000, 10000]
    assert torch.bincount(data.test.y).tolist() == [1000] * 10
    assert data.input_shape == (3, 32, 32) and data.class_names[0] == "airplane"
    assert data.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=0.01)
