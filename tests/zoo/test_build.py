"""`from_tensors`, which every source goes through: normalisation, fingerprint, no leaks, errors."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.zoo import Dataset, ImagePart, from_tensors

CLASSES = 3


def images(n: int, start: int = 0, channels: int = 1) -> Tensor:
    """Images that each carry their number in the first two pixels, so that rows are known apart."""
    x = torch.randint(0, 256, (n, channels, 4, 5), generator=torch.Generator().manual_seed(n))
    number = torch.arange(start, start + n)
    x[:, 0, 0, 0], x[:, 0, 0, 1] = number % 256, number // 256
    return x.to(torch.uint8)


def numbers(data: Dataset, part: ImagePart) -> list[int]:
    """The numbers of the images, read back through the normalisation."""
    pixels = part.x[:, 0, 0, :2].double() * data.std[0] + data.mean[0]
    low, high = (pixels * 255).round().long().unbind(1)
    return (low + 256 * high).tolist()


def labels(n: int) -> Tensor:
    return torch.arange(n) % CLASSES


def made(**changes: Any) -> Dataset:
    given: dict[str, Any] = {
        "train": (images(300), labels(300)),
        "test": (images(60, 300), labels(60)),
        "val_size": 60,
    } | changes
    return from_tensors("made", **given)


def test_parts_are_disjoint_and_complete_and_the_test_part_is_the_one_given() -> None:
    data = made()
    train, val, test = (numbers(data, part) for part in (data.train, data.val, data.test))
    assert sorted(train + val) == list(range(300))
    assert test == list(range(300, 360))
    assert len(data.train) == 240 and len(data.val) == 60
    for part, rows in ((data.train, train), (data.val, val), (data.test, test)):
        assert part.y.tolist() == [(row - 300 if row >= 300 else row) % CLASSES for row in rows]


def test_what_a_data_set_says_of_itself() -> None:
    data = made()
    assert (data.name, data.classes, data.input_shape) == ("made", 3, (1, 4, 5))
    for part in (data.train, data.val, data.test):
        assert part.x.dtype == torch.float32 and part.y.dtype == torch.int64
        assert part.x.is_contiguous()
    assert data.augment is None


def test_a_validation_part_of_its_own_is_taken_as_it_is() -> None:
    data = made(val=(images(30, 400), labels(30)))
    assert sorted(numbers(data, data.train)) == list(range(300))
    assert numbers(data, data.val) == list(range(400, 430))


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32, torch.float64])
def test_normalised_by_the_training_part_alone(kind: torch.dtype) -> None:
    x, x_test = images(300, channels=3), images(60, channels=3)
    if kind != torch.uint8:
        x, x_test = x.to(kind) * 0.7 - 20, x_test.to(kind) * 0.7 - 20
    data = made(train=(x, labels(300)), test=(x_test, labels(60)))
    seen = data.train.x.double().numpy()
    np.testing.assert_allclose(seen.mean((0, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(seen.std((0, 2, 3)), 1, atol=1e-6)
    scaled = x_test.double().numpy() / (255 if kind == torch.uint8 else 1)
    mean, std = (np.array(m)[None, :, None, None] for m in (data.mean, data.std))
    np.testing.assert_allclose(data.test.x.numpy(), (scaled - mean) / std, atol=1e-5)


def test_normalised_by_a_given_mean_and_std() -> None:
    x = images(300, channels=3)
    given = {"train": (x, labels(300)), "test": (x[:60], labels(60)), "augment": True}
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    data = made(**given, mean=mean, std=std)
    scaled = x[:60].double() / 255
    right = (scaled - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    np.testing.assert_allclose(data.test.x.numpy(), right.numpy(), atol=1e-5)
    assert (data.mean, data.std) == (tuple(mean), tuple(std))
    assert data.augment is not None
    assert data.augment.fill == pytest.approx([-m / s for m, s in zip(mean, std, strict=True)])
    assert data.fingerprint != made(**given).fingerprint


@pytest.mark.parametrize(
    ("kind", "mean", "std"),
    [
        (torch.uint8, 124.0, 58.0),  # which count as 0 to 1
        (torch.uint8, 0.485, 58.0),
        (torch.float32, 0.485, 0.229),  # of pixels from 0 to 255
    ],
)
def test_a_mean_and_std_in_other_units_are_refused(
    kind: torch.dtype, mean: float, std: float
) -> None:
    x = images(300).to(kind)
    with pytest.raises(CnetError) as error:
        made(train=(x, labels(300)), test=(x[:60], labels(60)), mean=[mean], std=[std])
    assert error.value.key == "mean and std"


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (124.0, 58.0)])
def test_pixels_to_255_have_a_mean_and_std_of_their_own(mean: float, std: float) -> None:
    x = images(300).float()
    data = made(train=(x, labels(300)), test=(x[:60], labels(60)), mean=[mean], std=[std])
    torch.testing.assert_close(data.test.x, (x[:60] - mean) / std)


def test_other_test_images_leave_mean_and_std_as_they_are() -> None:
    other = made(test=(255 - images(60), labels(60)))
    assert other.mean == made().mean and other.std == made().std


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_a_constant_channel_is_only_centred(kind: torch.dtype) -> None:
    x = images(300, channels=2).to(kind)
    x[:, 1] = 77
    data = made(train=(x, labels(300)), test=(x[:60], labels(60)))
    assert data.std[1] == 1
    assert data.train.x[:, 1].abs().max() < 1e-5


def test_the_input_is_left_as_it_is() -> None:
    x = images(300).float()
    before = x.clone()
    made(train=(x, labels(300)), test=(x[:60], labels(60)), val=(x[:60], labels(60)))
    assert torch.equal(x, before)


def test_arrays_in_any_memory_are_the_same_images() -> None:
    x, y = images(300).float().numpy(), labels(300).numpy()
    test = (x[:60], y[:60])
    wanted = made(train=(x, y), test=test).fingerprint
    turned = np.ascontiguousarray(x[::-1])[::-1]  # the same values, last ones first in memory
    forms = {
        "strides": (turned, y),
        "byte order": (x.astype(">f4"), y.astype(">i8")),
        "gradients": (torch.tensor(x, requires_grad=True), y),
        "bfloat16": (torch.tensor(x).bfloat16(), y),  # which holds whole numbers up to 255
    }
    for name, train in forms.items():
        assert made(train=train, test=test).fingerprint == wanted, name
    with pytest.raises(CnetError, check=lambda e: e.value == "ndarray of <U1"):
        made(train=(x, np.array(["a", "b", "c"] * 100)))


def test_limit_train_is_the_beginning_of_the_same_order() -> None:
    whole, part = made(), made(limit_train=33)
    assert numbers(part, part.train) == numbers(whole, whole.train)[:33]
    assert numbers(part, part.val) == numbers(whole, whole.val)
    assert torch.bincount(part.train.y).tolist() == [11] * 3
    np.testing.assert_allclose(part.train.x.double().mean(), 0, atol=1e-6)


def test_limit_train_keeps_every_class_of_an_uneven_set() -> None:
    y = (torch.arange(300) >= 290).long() + (torch.arange(300) >= 296).long()
    data = made(train=(images(300), y), limit_train=3, val_size=0.2)
    assert sorted(data.train.y.tolist()) == [0, 1, 2]


def test_the_fingerprint_follows_content_and_split() -> None:
    one = made().fingerprint
    assert len(one) == 64 and int(one, 16) >= 0
    assert made().fingerprint == one
    assert made(augment=True).fingerprint == one
    x, y = images(300), labels(300)
    x[5, 0, 2, 2] += 1
    y_swapped = y.clone()
    y_swapped[[0, 1]] = y[[1, 0]]
    x_test = images(60, 300)
    x_test[7, 0, 2, 2] += 1
    others = [
        made(split_seed=1),
        made(val_size=63),
        made(limit_train=90),
        made(train=(x, y)),
        made(train=(images(300), y_swapped)),
        made(test=(x_test, labels(60))),
        made(classes=3, test=(images(60, 300), labels(60).flip(0))),
    ]
    assert len({one, *(other.fingerprint for other in others)}) == len(others) + 1


def test_augment_crops_and_flips_as_asked() -> None:
    augment = made(augment=True, crop=1).augment
    assert augment is not None
    x = made().train.x[:8]
    assert augment(x, torch.Generator().manual_seed(0)).shape == x.shape
    with pytest.raises(CnetError, check=lambda e: e.key == "augment"):
        made(augment=True, crop=0, flip=False)
    with pytest.raises(CnetError, check=lambda e: e.key == "crop"):
        made(augment=True, crop=-1)


def pixel(value: float) -> Tensor:
    x = images(300).float()
    x[17, 0, 1, 1] = value
    return x


FLOAT_TEST = (images(60).float(), labels(60))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": (images(300), labels(299))}, "y_train"),
        ({"test": (images(60), labels(61))}, "y_test"),
        ({"train": (images(300)[:, 0], labels(300))}, "x_train"),
        ({"train": (images(0), labels(0))}, "x_train"),
        ({"test": (images(0), labels(0))}, "x_test"),
        ({"train": (images(300).long(), labels(300))}, "x_train"),
        ({"test": (images(60)[:, :, :3], labels(60))}, "x_train"),
        ({"test": FLOAT_TEST}, "x_train"),
        ({"train": (images(300), labels(300)[:, None])}, "y_train"),
        ({"train": (images(300), labels(300).float())}, "y_train"),
        ({"train": (images(300), labels(300) - 1)}, "y_train"),
        ({"classes": 2}, "y_train"),
        ({"test": (images(60), labels(60) + 1)}, "y_test"),
        ({"classes": 4}, "y_train"),
        ({"class_names": ["a", "b", "c", "cow"]}, "y_train"),
        ({"train": (images(300), labels(300) * 2)}, "y_train"),
        ({"classes": 3, "class_names": ["a", "b"]}, "class_names"),
        (
            {"train": (images(300), labels(300) * 0), "test": (images(60), labels(60) * 0)},
            "classes",
        ),
        ({"train": (pixel(float("nan")), labels(300))}, "x_train"),
        ({"train": (pixel(float("inf")), labels(300))}, "x_train"),
        ({"train": (pixel(1.0).double() * 1e300, labels(300))}, "x_train"),
        ({"val": (pixel(float("nan"))[:60], labels(60)), "test": FLOAT_TEST,
          "train": (images(300).float(), labels(300))}, 'x_val'),
        ({"limit_train": 2}, 'limit_train'),
        ({"limit_train": 241}, 'limit_train'),
        ({"val_size": 299}, "val_size"),
        ({"val_size": 2}, 'val_size'),
        ({"mean": [0.5]}, "std"),
        ({"std": [0.5]}, "mean"),
        ({"mean": [0.5, 0.5], "std": [1.0]}, "mean"),
        ({"mean": [float("nan")], "std": [1.0]}, "mean"),
        ({"mean": [0.5], "std": [0.0]}, "std"),
    ],
)  # fmt: skip
def test_mistakes_are_one_sentence(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CnetError, check=lambda e: e.key == message) as caught:
        made(**changes)
    said = str(caught.value)
    assert said.endswith(".") and "\n" not in said and ". " not in said


@pytest.mark.parametrize(
    ("x", "y", "key"),
    [
        (torch.zeros(3, 1, 2, 2), torch.zeros(2, dtype=torch.int64), "x"),
        (torch.zeros(2, 1, 2, 2), torch.zeros(2), "y"),
        (torch.zeros(2, 1, 2, 2), torch.zeros(2, 1, dtype=torch.int64), "y"),
    ],
)
def test_a_part_refuses_what_does_not_belong_together(x: Tensor, y: Tensor, key: str) -> None:
    with pytest.raises(CnetError) as error:
        ImagePart(x, y)
    assert error.value.key == key


def test_a_part_moves_with_its_labels() -> None:
    part = made().val.to("meta")
    assert part.x.device.type == part.y.device.type == "meta" and len(part) == 60
