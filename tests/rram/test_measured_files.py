"""Files of measured devices: forms that spreadsheets write, mistakes in units and columns."""

from pathlib import Path

import pytest

from cnet_aihw.rram import MeasuredNoiseModel
from cnet_aihw.runtime.errors import CnetError

PLAIN = "target,measured\n0,1\n10,10.5\n"


def model(tmp_path: Path, text: str, **columns: str) -> MeasuredNoiseModel:
    path = tmp_path / "devices.csv"
    path.write_text(text, encoding="utf-8")
    return MeasuredNoiseModel(path, **columns)


@pytest.mark.parametrize(
    "text",
    [
        "target;measured\n0,0;1,0\n10,0;10,5\n",
        "target\tmeasured\n0,0\t1,0\n10\t10.5\n",
        "\ufefftarget , measured\r\n0, 1\r\n\r\n10, 10.5\r\n",
        "measured,note,target\n1,a,0\n10.5,b,10\n",
    ],
)
def test_the_forms_of_spreadsheets_hold_the_same_devices(text: str, tmp_path: Path) -> None:
    assert model(tmp_path, text).digest == model(tmp_path, PLAIN).digest


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("target,measured\n0,000000,0,941715\n10,0,10,5\n", 4),  # decimal commas
        ("target,measured,measured\n0,1,2\n10,11,12\n", "measured"),
        ("target,measured\n0,1e-6\n3e-5,3.1e-5\n", 3e-5),  # siemens
        ("target,measured\n0,1e308\n10,11\n", "measured"),
        ("target,measured\n0\n10,11\n", "measured"),
        ("target,measured\n0," + "1" * 140_000 + "\n10,11\n", None),
        ("nothing\n", "target"),
        ("", "target"),
    ],
)
def test_a_mistake_names_the_file(text: str, value: object, tmp_path: Path) -> None:
    with pytest.raises(CnetError, check=lambda e: "devices.csv" in e.key and e.value == value):
        model(tmp_path, text)


def test_a_column_cannot_be_its_own_target(tmp_path: Path) -> None:
    with pytest.raises(CnetError, check=lambda e: e.key == "measured"):
        model(tmp_path, PLAIN, measured="target")
