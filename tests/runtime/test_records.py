"""Records survive kills, keep floats exactly and never hold NaN."""

import json
import math
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.provenance import check_provenance, default_values, provenance_key
from cnet_aihw.runtime.records import (
    RecordsFile,
    append_record,
    read_json,
    read_records,
    replace_file,
    write_json_atomic,
    write_records,
)


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
    with pytest.raises(CnetError) as error:
        append_record(path, {"stats": {"values": [1.0, bad]}})
    assert error.value.key == "stats.values[1]"
    with pytest.raises(CnetError) as error:
        write_json_atomic(tmp_path / "x.json", {"v": bad})
    assert error.value.key == "v"
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
    with pytest.raises(CnetError) as error:
        read_records(path)
    assert (error.value.key, error.value.value) == (str(path), 2)


def test_json_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_json_atomic(path, {"a": 1})
    write_json_atomic(path, {"a": [0.1, None]})
    assert json.loads(path.read_text()) == {"a": [0.1, None]}
    with pytest.raises(CnetError, match="cannot be written"):
        write_json_atomic(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": [0.1, None]}
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.parametrize("left", [b"", b'{"a": 1', b"[1]", b"\0\0\0\0"])
def test_a_damaged_json_file_is_named_and_need_not_cost_the_run(
    tmp_path: Path, left: bytes
) -> None:
    path = tmp_path / "chips.json"
    path.write_bytes(left)
    with pytest.raises(CnetError) as error:
        read_json(path)
    assert (error.value.key, error.value.expected) == (str(path), "a JSON object")
    assert error.value.fix is not None and error.value.fix.startswith("delete it")


def test_a_records_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    for chip in range(4):
        append_record(path, {"chip": chip})
    write_records(path, read_records(path)[:2])
    append_record(path, {"chip": 7})
    assert [record["chip"] for record in read_records(path)] == [0, 1, 7]


PROVENANCE = {"weights": "ab", "data": {"name": "digits", "sizes": (3, 4)}, "seed": 1}


def test_a_records_file_says_once_what_it_is_made_from(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.jsonl"
    file = RecordsFile(path, PROVENANCE)
    assert file.records() == []
    file.append({"chip": 0})
    RecordsFile(path, PROVENANCE).append({"chip": 1})
    header, *lines = map(json.loads, path.read_text().splitlines())
    assert header["format"] == 2 and header["provenance"]["data"]["name"] == "digits"
    assert lines == [{"chip": 0}, {"chip": 1}]
    assert RecordsFile(path, PROVENANCE).records() == read_records(path) == lines


@pytest.mark.parametrize(
    ("changes", "key"),
    [({"seed": 2}, "seed"), ({"data": {"name": "mnist", "sizes": (3, 4)}}, "data.name")],
)
def test_records_of_another_provenance_are_refused(tmp_path: Path, changes: dict, key: str) -> None:
    path = tmp_path / "x.jsonl"
    RecordsFile(path, PROVENANCE).append({"chip": 0})
    other = RecordsFile(path, {**PROVENANCE, **changes})
    for act in (other.records, lambda: other.append({"chip": 1})):
        with pytest.raises(CnetError) as error:
            act()
        assert error.value.key == key
    assert read_records(path) == [{"chip": 0}]


def test_files_of_other_formats_are_refused_but_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    old = {"chip": 0, "accuracy": 0.5, "key": "weights=ab;seed=1"}
    append_record(path, old)
    with pytest.raises(CnetError) as error:
        RecordsFile(path, PROVENANCE).records()
    assert (error.value.key, error.value.value, error.value.expected) == ("format", 1, 2)
    assert read_records(path) == [old]
    write_records(path, [{"format": 3, "provenance": PROVENANCE}, {"chip": 0}])
    with pytest.raises(CnetError) as error:
        RecordsFile(path, PROVENANCE).records()
    assert (error.value.key, error.value.value) == ("format", 3)


def test_a_header_torn_by_a_kill_is_written_again(tmp_path: Path) -> None:
    path, made = tmp_path / "x.jsonl", tmp_path / "made.jsonl"
    RecordsFile(made, PROVENANCE).append({"chip": 0})
    text = made.read_bytes()
    for length in range(len(text) + 1):
        path.write_bytes(text[:length])
        file = RecordsFile(path, PROVENANCE)
        seen = file.records()
        file.append({"chip": 1})
        assert RecordsFile(path, PROVENANCE).records() == [*seen, {"chip": 1}]


def big(path: Path) -> None:
    replace_file(path, lambda temporary: save_file({"x": np.zeros(9999)}, temporary))


WRITES: dict[str, Callable[[Path], None]] = {
    "append_record": lambda path: append_record(path, {"text": "x" * 9999}),
    "write_records": lambda path: write_records(path, [{"text": "x" * 9999}]),
    "write_json_atomic": lambda path: write_json_atomic(path, {"text": "x" * 9999}),
    "replace_file with safetensors": big,
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_disk_that_fills_up_is_said_in_one_sentence(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    path = tmp_path / "x.jsonl"
    append_record(path, {"chip": 0})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        with pytest.raises(CnetError) as error:
            write(path)
        assert error.value.key == str(path) and "too large" in str(error.value.value)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert read_records(path) == [{"chip": 0}]
    append_record(path, {"chip": 1})
    assert read_records(path) == [{"chip": 0}, {"chip": 1}]
    assert [file.name for file in tmp_path.iterdir()] == ["x.jsonl"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_device_is_said() -> None:
    with pytest.raises(CnetError) as error:
        append_record("/dev/full", {"chip": 0})
    assert error.value.value == "No space left on device"


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_file_where_a_folder_should_be_is_said(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(CnetError) as error:
        write(tmp_path / "runs" / "x.jsonl")
    assert error.value.value in ("Not a directory", "File exists")


def test_a_read_only_folder_is_said(tmp_path: Path) -> None:
    code = """
import os, sys
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.records import append_record, write_json_atomic
if os.geteuid() == 0:  # nothing is read-only to root
    os.setuid(65534)
for write in (append_record, write_json_atomic):
    try:
        write("x.jsonl", {"chip": 0})
    except CnetError as error:
        print(error)
"""
    tmp_path.chmod(0o555)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    tmp_path.chmod(0o755)
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all("x.jsonl cannot be written (Permission denied)" in line for line in lines)


def test_a_digest_is_named_only_where_nothing_else_differs() -> None:
    made = {"evaluator": {"key": "a" * 64, "chips": 2}, "metric": "accuracy"}
    asked = {"evaluator": {"key": "b" * 64, "chips": 3}, "metric": "accuracy"}
    with pytest.raises(CnetError) as error:
        check_provenance(made, asked, "folder", "give another folder")
    assert (error.value.key, error.value.expected, error.value.value) == ("evaluator.chips", 2, 3)
    asked["evaluator"] = {**asked["evaluator"], "chips": 2}
    with pytest.raises(CnetError, match=r"different evaluator\.key"):
        check_provenance(made, asked, "folder", "give another folder")


def test_a_value_that_only_one_side_knows_is_a_difference() -> None:
    for made, asked in (({"a": 1}, {"a": 1, "b": None}), ({"a": 1, "b": None}, {"a": 1})):
        with pytest.raises(CnetError) as error:
            check_provenance(made, asked, "folder", "give another folder")
        assert error.value.key == "b"


def test_a_setting_that_a_record_lacks_counts_by_its_default() -> None:
    absent = {"settings": {"new": 1.0, "group": {"name": None}}, "unasked": 2}
    made = {"settings": {"old": 3}}
    asked = {"settings": {"old": 3, "new": 1.0, "group": {"name": None}}}
    check_provenance(made, asked, "folder", "give another folder", absent)
    for key, other, known in (
        ("settings.new", {"old": 3, "new": 0.5}, 1.0),
        ("settings.group.name", {"old": 3, "group": {"name": "a"}}, None),
        ("settings.old", {"old": 4, "new": 1.0}, 3),
    ):
        with pytest.raises(CnetError) as error:
            check_provenance(made, {"settings": other}, "folder", "give another folder", absent)
        assert (error.value.key, error.value.expected) == (key, known)
    with pytest.raises(CnetError) as error:  # what it has is not overlooked
        check_provenance({"settings": asked["settings"]}, made, "folder", "another", absent)
    assert error.value.key == "settings.new"


@dataclass
class Inner:
    """Settings within settings."""

    names: list[str] = field(default_factory=list)


@dataclass
class Outer:
    """Settings, one of which has to be given."""

    given: int
    plain: float = 1.0
    inner: Inner = field(default_factory=Inner)


def test_defaults_are_plain_nested_values_of_fields_that_have_one() -> None:
    assert default_values(Outer) == {"plain": 1.0, "inner": {"names": []}}


def test_the_key_of_a_provenance_does_not_hang_on_the_order_of_its_names() -> None:
    key = provenance_key({"a": 1, "b": {"c": 2, "d": 3}})
    assert key == provenance_key({"b": {"d": 3, "c": 2}, "a": 1})
    assert key != provenance_key({"a": 1, "b": {"c": 3, "d": 2}})
