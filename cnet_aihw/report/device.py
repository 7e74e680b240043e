"""The figure of a device check: programmed weights, and outputs of a chip."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cnet_aihw.report.style import BLUE, QUIET, VERMILLION, figure_style, new_figure, save_figure


def save_device_figure(record: Mapping[str, Any], folder: Path, name: str = "device") -> None:
    """Draw a device check as ``name``.png and ``name``.svg.

    Args:
        record: the content of device.json.
        folder: folder of the files; made when missing.
        name: name of the files, without a suffix.
    """
    with figure_style():
        save_figure(device_figure(record), folder, name)


def device_figure(record: Mapping[str, Any]) -> Figure:
    """Draw programmed against nominal weights, and a chip's outputs against the ideal ones.

    Args:
        record: the content of device.json: ``device``, ``rows``, ``weight_points`` and
            ``output_points``.

    Returns:
        The figure; call this within `figure_style`.
    """
    figure, (weights, outputs) = new_figure(7.2, 2)
    points = record["weight_points"]
    _against(weights, points["nominal"], points["programmed"], BLUE)
    weights.set_title(f"{record['device']}: weights of one chip")
    weights.set_xlabel("nominal weight")
    weights.set_ylabel("programmed weight")
    points = record["output_points"]
    _against(outputs, points["ideal"], points["chip"], VERMILLION)
    snr = record["rows"][0]["snr_db"]
    outputs.set_title(
        "outputs" + (", exact" if snr is None else f", {snr:.1f} dB over their error")
    )
    outputs.set_xlabel("ideal output")
    outputs.set_ylabel("output of the chip")
    return figure


def _against(field: Axes, wanted: list[float], got: list[float], color: str) -> None:
    """Plot points, and the line on which they would be exact."""
    ends = [min(wanted), max(wanted)]
    field.plot(wanted, got, ".", color=color, markersize=3, alpha=0.5)
    field.plot(ends, ends, color=QUIET, linewidth=1.0, linestyle="--")
