"""Texts as tokens."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

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
    data = text(book, context=4, val_share=0.1, test_share=0.2)
    assert (data.name, data.classes, data.input_shape) == ("book", 256, (4,))
    assert torch.equal(data.train.x[0], torch.arange(4))
    assert torch.equal(data.train.y, data.train.x + 1)
    # 140 + 20 + 40 bytes; the last byte of a part is a target alone
    assert [len(part) for part in (data.train, data.val, data.test)] == [34, 4, 9]
    assert (int(data.val.x.min()), int(data.test.x.min())) == (140, 160)
    assert int(data.train.y.max()) < 140
    others = [text(book, context=4, val_share=val, test_share=0.2) for val in (0.1, 0.2)]
    assert data.fingerprint == others[0].fingerprint != others[1].fingerprint


def test_training_sequences_overlap_where_asked_for(book: Path) -> None:
    apart, over = text(book, context=4), text(book, context=4, stride=2)
    assert torch.equal(over.train.x[1], torch.arange(2, 6))
    assert torch.equal(over.val.x, apart.val.x)
    assert over.fingerprint != apart.fingerprint == text(book, context=4).fingerprint


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "empty.txt"
    path.touch()
    with pytest.raises(CnetError) as error:
        text(path)
    assert (error.value.key, error.value.value) == ("path", str(path))


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


class Words:
    """A tokenizer as one of Hugging Face's files makes it: cut to a length, with marks at ends."""

    def __init__(self, path: str) -> None:
        self.numbers: dict[str, int] = json.loads(Path(path).read_text())
        self.most: int | None = 4

    def no_truncation(self) -> None:
        self.most = None

    def no_padding(self) -> None:
        pass

    def get_vocab(self) -> dict[str, int]:
        return self.numbers

    def encode(self, words: str, add_special_tokens: bool = True) -> Any:
        ids = [self.numbers[word] for word in words.split()][: self.most]
        return SimpleNamespace(ids=[0, *ids, 0] if add_special_tokens else ids)


def test_a_tokenizer_reads_the_whole_text_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizers = SimpleNamespace(Tokenizer=SimpleNamespace(from_file=Words))
    monkeypatch.setitem(sys.modules, "tokenizers", tokenizers)
    vocabulary, book = tmp_path / "tokenizer.json", tmp_path / "book.txt"
    vocabulary.write_text(json.dumps({"[END]": 0, "a": 3, "b": 7}))  # numbers with gaps
    book.write_text("a b " * 50, encoding="utf-8-sig")
    data = text(book, context=2, tokens=str(vocabulary), val_share=0.1, test_share=0.1)
    assert data.classes == 8
    assert [len(part) for part in (data.train, data.val, data.test)] == [39, 4, 4]
    assert set(data.train.x.unique().tolist()) == {3, 7}
