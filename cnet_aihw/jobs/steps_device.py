"""The step that shows what a device and its crossbars do, before a long run."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from cnet_aihw.jobs.table import render
from cnet_aihw.runtime.records import write_json_atomic

if TYPE_CHECKING:
    from cnet_aihw.jobs.pipeline import Run

log = logging.getLogger(__name__)

DEVICE = "device.json"

_LINES = {
    "gain": "programmed / nominal weight, as a whole",
    "error_std": "error of a weight / largest weight, std",
    "relative_mean": "error / weight, mean",
    "relative_std": "error / weight, std",
    "sign_flips": "weights with the other sign %",
    "zeros": "weights that became 0 %",
    "zeros_moved": "weights of 0 that moved %",
    "saturated": "weights programmed as the largest %",
    "values": "different weights on a chip",
    "snr_weights_db": "outputs over their error, from weights, dB",
    "snr_periphery_db": "outputs over their error, from the periphery, dB",
    "snr_db": "outputs over their error, dB",
}


def inspect(run: Run) -> None:
    """Program a layer of random weights onto chips, and show weights and outputs.

    It takes ``rram`` and the chips, their seed and times from ``evaluation``; the network and the
    data are not looked at.
    """
    from cnet_aihw.evaluation import inspect_device
    from cnet_aihw.jobs.build import make
    from cnet_aihw.report.device import save_device_figure

    recipe = run.recipes[0]
    settings = recipe.evaluation
    report = inspect_device(
        make(recipe.config.rram.rpu_config),
        chips=settings.chips,
        seed=settings.seed,
        t_inference=settings.t_inference,
    )
    rram = HydraConfig.get().runtime.choices["rram"]
    record = {
        "command": run.command,
        "rram": rram,
        "config": OmegaConf.to_container(recipe.config.rram, resolve=True),
        **report.as_record(),
    }
    write_json_atomic(run.folder / DEVICE, record)
    save_device_figure(record, run.folder)
    title = f"rram: {rram}  device: {report.device}  chips: {report.chips}"
    print(f"\n{render(title, *_table(record['rows']))}", flush=True)
    for sentence in report.warnings:
        log.warning(sentence)


def _table(rows: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """One line a number, one column a time."""
    times = [_time(row["t_inference"]) for row in rows]
    lines = [
        {"": words, **{t: _shown(name, row[name]) for t, row in zip(times, rows, strict=True)}}
        for name, words in _LINES.items()
    ]
    return lines, ["", *times]


def _time(t_inference: float | None) -> str:
    return "just programmed" if t_inference is None else f"after {t_inference:g} s"


def _shown(name: str, value: float | None) -> str:
    if value is None:
        return "exact" if name.endswith("_db") else "-"
    if _LINES[name].endswith("%"):
        return f"{100.0 * value:.2f}"
    return f"{value:.4g}"
