"""Records survive kills, keep floats exactly and never hold NaN."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnet_aihw.errors import CnetError
from cnet_aihw.records import append_record, read_records, write_json_atomic, write_records


def test_lines_come_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "chips.jsonl"
    assert read_records(path) == []
    records = [{"chip": i, "accuracy": 0.1 * i, "name": "µ\n"} for i in range(3)]
    for record in records:
        append_record(path, record)
    assert read_records(path) == records
    assert path.read_text().count("\n") == 3


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_are_exact(tmp_path_factory: pytest.TempPathFactory, value: float) -> None:
    path = tmp_path_factory.mktemp("floats") / "x.jsonl"
    append_record(path, {"v": value})
    assert math.copysign(1, read_records(path)[0]["v"]) == math.copysign(1, value)
    assert read_records(path)[0]["v"] == value


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_numbers_are_refused_and_named(tmp_path: Path, bad: float) -> None:
    path = tmp_path / "x.jsonl"
    with pytest.raises(CnetError, match=r"stats\.values\[1\] is NaN or infinite"):
        append_record(path, {"stats": {"values": [1.0, bad]}})
    with pytest.raises(CnetError, match="NaN or infinite"):
        write_json_atomic(tmp_path / "x.json", {"v": bad})
    assert list(tmp_path.iterdir()) == []


def test_every_torn_end_is_dropped_and_mended(tmp_path: Path) -> None:
    """Whatever byte a kill stops at, readers see whole records and the next append mends."""
    whole = [{"chip": 0, "accuracy": 0.5}, {"chip": 1, "accuracy": {"a": [1, 2]}}]
    text = "".join(json.dumps(record) + "\n" for record in whole).encode()
    path = tmp_path / "x.jsonl"
    first = text.index(b"\n")
    for length in range(len(text) + 1):
        path.write_bytes(text[:length])
        seen = read_records(path)
        # a record counts as soon as its closing brace is there
        assert seen == whole[: (length >= first) + (length >= len(text) - 1)]
        append_record(path, {"chip": 9})
        assert read_records(path) == [*seen, {"chip": 9}]
        assert path.read_bytes().endswith(b'\n{"chip": 9}\n') or not seen


def test_a_long_torn_line_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    append_record(path, {"chip": 0})
    with open(path, "ab") as file:
        file.write(b'{"text": "' + b"a" * 200_000)
    append_record(path, {"chip": 1})
    assert read_records(path) == [{"chip": 0}, {"chip": 1}]


@pytest.mark.parametrize("line", ["garbage", "[1]", '{"chip": 1', ""])
def test_a_corrupt_middle_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"chip": 0}\n' + line + '\n{"chip": 2}\n')
    with pytest.raises(CnetError, match=r"x\.jsonl line 2 is not a JSON object"):
        read_records(path)


def test_json_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_json_atomic(path, {"a": 1})
    write_json_atomic(path, {"a": [0.1, None]})
    assert json.loads(path.read_text()) == {"a": [0.1, None]}
    with pytest.raises(CnetError, match="cannot be written"):
        write_json_atomic(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": [0.1, None]}
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


def test_a_records_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    for chip in range(4):
        append_record(path, {"chip": chip})
    write_records(path, read_records(path)[:2])
    append_record(path, {"chip": 7})
    assert [record["chip"] for record in read_records(path)] == [0, 1, 7]
