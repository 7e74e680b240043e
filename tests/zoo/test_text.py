"""Texts as tokens."""

from pathlib import Path

import pytest
import torch

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.zoo import text


@pytest.fixture
def book(tmp_path: Path) -> Path:
    path = tmp_path / "book.txt"
    path.write_bytes(bytes(range(200)))
    return path


def test_targets_are_the_bytes_that_follow(book: Path) -> None:
    data = text(book, context=4, val_share=0.1, test_share=0.1)
    assert (data.name, data.classes, data.input_shape) == ("book", 256, (4,))
    assert torch.equal(data.train.x[0], torch.arange(4))
    assert torch.equal(data.train.y, data.train.x + 1)
    # 160 + 20 + 20 bytes; the last byte of a part is a target alone
    assert [len(part) for part in (data.train, data.val, data.test)] == [39, 4, 4]
    assert int(data.val.x.min()), int(data.test.x.min()) == (160, 180)
    assert int(data.train.y.max()) < 160


def test_training_sequences_overlap_where_asked_for(book: Path) -> None:
    apart, over = text(book, context=4), text(book, context=4, stride=2)
    assert torch.equal(over.train.x[1], torch.arange(2, 6))
    assert torch.equal(over.val.x, apart.val.x)
    assert over.fingerprint != apart.fingerprint == text(book, context=4).fingerprint


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"path": "absent.txt"}, "path"),
        ({"context": 0}, "context"),
        ({"context": 50}, "context"),
        ({"stride": 0}, "stride"),
        ({"val_share": 0.7}, "val_share"),
        ({"tokens": "absent.json"}, "tokens"),
    ],
)
def test_what_cannot_be_read(book: Path, changes: dict, key: str) -> None:
    with pytest.raises(CnetError) as error:
        text(**{"path": book, **changes})
    assert error.value.key == key
