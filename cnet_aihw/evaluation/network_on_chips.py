"""Everything that is measured of one network on chips, as one record."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnet_aihw.cluster.settings import RaySettings
from cnet_aihw.evaluation.calibration import ChipCalibration
from cnet_aihw.evaluation.chip_run import mean_calibration_cost
from cnet_aihw.evaluation.crossbars import adc_summary
from cnet_aihw.evaluation.layer_errors import error_growth
from cnet_aihw.evaluation.monte_carlo import evaluate_chips
from cnet_aihw.evaluation.settings import EvaluationSettings
from cnet_aihw.runtime.parts import as_part, gathered
from cnet_aihw.runtime.records import read_records
from cnet_aihw.runtime.typed import checked
from cnet_aihw.tasks import Task

GROWTH_CHIPS, GROWTH_SAMPLES = 5, 100
"""Chips and samples of the growth of the error: enough for a curve over layers."""


@checked
def network_record(
    model: nn.Module,
    test: Any,
    validation: Any,
    settings: EvaluationSettings,
    *,
    task: Task,
    calibration: ChipCalibration | None,
    reference: Callable[[nn.Module], AbstractContextManager[object]] = nullcontext,
    records: str | Path,
    device: str | torch.device = "auto",
    progress: bool = False,
    ray: RaySettings | None = None,
) -> dict[str, Any]:
    """Measure one network on chips.

    Args:
        model: the network as it is measured.
        test: inputs and targets of the statistics.
        validation: inputs of the growth of the error, the first ones.
        settings: of these the chips, their seed, the batch size, times and threshold; the
            calibration, and how many samples, are those that are given.
        task: loss and score.
        calibration: what is calibrated on each chip.
        reference: as in :func:`~cnet_aihw.evaluation.error_growth`.
        records: JSON lines file of the chips.
        device: "auto", "cpu" or a CUDA device.
        progress: whether to show a progress bar.
        ray: where Ray runs, and how many workers measure chips; None: this process alone.

    Returns:
        ``records`` (the file's name), ``calibration_cost`` (mean over chips; None where it is not
        counted), ``adc``, ``statistics`` (one for each time) and ``error_growth`` (at the first
        time), as plain values.
    """
    found = evaluate_chips(
        model,
        test,
        task=task,
        chips=settings.chips,
        seed=settings.seed,
        batch_size=settings.batch_size,
        t_inference=settings.t_inference,
        threshold=settings.threshold,
        calibration=calibration,
        records=records,
        device=device,
        progress=progress,
        ray=ray,
    )
    by_time = list(found.values()) if isinstance(found, dict) else [found]
    growth = error_growth(
        model,
        gathered(as_part(validation), GROWTH_SAMPLES).x,
        chips=min(GROWTH_CHIPS, settings.chips),
        seed=settings.seed,
        t_inference=by_time[0].t_inference,
        calibration=calibration,
        reference=reference,
        device=device,
    )
    return {
        "records": Path(records).name,
        "calibration_cost": mean_calibration_cost(read_records(records), settings.chips),
        "adc": adc_summary(model, gathered(as_part(validation), 1).x),
        "statistics": [statistics.as_record() for statistics in by_time],
        "error_growth": [error.as_record() for error in growth],
    }
