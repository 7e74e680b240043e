"""The figure of a device check is drawn from its record alone, and shows its points."""

from pathlib import Path
from typing import Any

import pytest

from cnet_aihw.report.device import device_figure, save_device_figure
from cnet_aihw.report.style import figure_style


def record(snr: float | None = 12.345) -> dict[str, Any]:
    return {
        "device": "lognormal 0.5",
        "rows": [{"snr_db": snr}, {"snr_db": 3.0}],
        "weight_points": {"nominal": [-1.0, 0.0, 2.0], "programmed": [-1.5, 0.0, 2.5]},
        "output_points": {"ideal": [0.0, 4.0], "chip": [0.5, 3.0]},
    }


def test_points_and_the_line_of_exactness() -> None:
    with figure_style():
        weights, outputs = device_figure(record()).axes
    for field, x, y, ends in (
        (weights, [-1.0, 0.0, 2.0], [-1.5, 0.0, 2.5], [-1.0, 2.0]),
        (outputs, [0.0, 4.0], [0.5, 3.0], [0.0, 4.0]),
    ):
        points, line = field.get_lines()
        assert list(points.get_xdata()) == x
        assert list(points.get_ydata()) == y
        assert list(line.get_xdata()) == list(line.get_ydata()) == ends
    assert "lognormal 0.5" in weights.get_title("left")
    assert "12.3 dB" in outputs.get_title("left")


@pytest.mark.parametrize("snr", [None, 5.0])
def test_the_same_record_gives_the_same_files(tmp_path: Path, snr: float | None) -> None:
    for folder in ("a", "b"):
        save_device_figure(record(snr), tmp_path / folder)
    for name in ("device.png", "device.svg"):
        content = (tmp_path / "a" / name).read_bytes()
        assert content == (tmp_path / "b" / name).read_bytes()
        assert content.startswith(b"\x89PNG" if name.endswith("png") else b"<?xml")
