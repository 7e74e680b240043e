"""`from_samples`: data of any shape, in three parts, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.zoo import batches, from_samples

ROWS = torch.arange(40.0).reshape(20, 2)
TWO = torch.stack([ROWS.sum(1), ROWS[:, 0]], 1)


def test_numbers_to_be_found_come_back_in_disjoint_parts() -> None:
    given = (ROWS.double().numpy(), TWO.double().numpy())
    data = from_samples("two", given, (ROWS[:4], TWO[:4]), val_size=5)
    assert (data.classes, data.input_shape) == (2, (2,))
    assert [len(part) for part in (data.train, data.val, data.test)] == [15, 5, 4]
    both = torch.cat([data.train.x, data.val.x])
    assert sorted(both[:, 0].tolist()) == ROWS[:, 0].tolist()
    for part in (data.train, data.val, data.test):
        assert part.x.dtype == part.y.dtype == torch.float32
        assert torch.equal(part.y, torch.stack([part.x.sum(1), part.x[:, 0]], 1))
    assert torch.equal(data.test.x, ROWS[:4])


def test_classes_of_sequences_are_evenly_mixed() -> None:
    x, y = torch.rand(40, 7, 3), torch.arange(40, dtype=torch.int32) % 4
    data = from_samples("steps", (x, y), (x, y), val_size=8)
    assert (data.classes, data.input_shape) == (4, (7, 3))
    assert data.val.y.dtype == torch.int64
    assert data.val.y.bincount().tolist() == [2, 2, 2, 2]


def test_parts_whose_classes_lie_in_blocks_are_mixed_with_their_inputs() -> None:
    y = torch.arange(40) // 10
    x = {"a": torch.rand(40, 2), "b": 100 * y + torch.arange(40)}
    data = from_samples("blocks", (x, y), (x, y), (x, y))
    for part in (data.train, data.val, data.test):
        assert part.y[:4].bincount().tolist() == [1, 1, 1, 1]
        rows = part.x["b"] % 100
        assert torch.equal(part.y, y[rows]) and torch.equal(part.x["a"], x["a"][rows])


def test_a_mapping_of_inputs_and_a_part_given_are_kept_in_order() -> None:
    x = {"a": ROWS, "b": torch.arange(20)}
    data = from_samples("pair", (x, TWO), (x, TWO), ({"a": ROWS[:3], "b": x["b"][:3]}, TWO[:3]))
    assert torch.equal(data.train.x["b"], x["b"])
    assert torch.equal(data.val.x["a"], ROWS[:3])
    sizes = [(len(seen["a"]), len(seen["b"]), len(y)) for seen, y in batches(data.train, 8)]
    assert sizes == [(8, 8, 8), (8, 8, 8), (4, 4, 4)]


def test_the_fingerprint_follows_content_split_and_number_of_outputs() -> None:
    def mark(**more: Any) -> str:
        return from_samples("a", (ROWS, TWO), (ROWS, TWO), **more).fingerprint

    assert mark() == mark()
    assert len({mark(), mark(split_seed=1), mark(val_size=4), mark(classes=3)}) == 4


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"test": (ROWS[:, :1], TWO)}, "x of test"),
        ({"test": (ROWS, TWO[:, :1])}, "y of test"),
        ({"test": (ROWS, TWO.long())}, "y of test"),
        ({"test": (torch.full((2, 2), torch.nan), TWO[:2])}, "x of test"),
        ({"train": (ROWS, np.full((20, 2), np.inf))}, "y of train"),
        ({"train": (ROWS, TWO[:3])}, "x"),
        ({"train": (torch.tensor(0.0), torch.tensor(0.0))}, "x"),
        ({"train": torch.zeros(2)}, "train"),
        ({"train": ROWS.numpy()}, "train"),
        ({"test": (ROWS, ROWS, TWO)}, "test"),
        ({"train": (ROWS.to_sparse(), TWO)}, "x"),
        ({"train": (ROWS, TWO + 1j), "classes": 2}, "y of train"),
        ({"train": (ROWS, np.array(["a"] * 20))}, "y"),
        ({"train": (ROWS.numpy().astype(object), TWO)}, "x"),
        (
            {"train": (ROWS, torch.zeros(20, 3, 4)), "test": (ROWS, torch.zeros(20, 3, 4))},
            "classes",
        ),
        ({"classes": 0}, "classes"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], key: str) -> None:
    with pytest.raises(CnetError) as error:
        from_samples(**{"name": "a", "train": (ROWS, TWO), "test": (ROWS, TWO), **change})
    assert error.value.key == key
