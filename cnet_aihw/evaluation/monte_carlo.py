"""Monte Carlo over chips: program and measure chip after chip; each one is a record."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import torch
from aihwkit.inference.noise.base import BaseNoiseModel
from torch import nn

from cnet_aihw.cluster.settings import RaySettings
from cnet_aihw.evaluation.calibration import ChipCalibration
from cnet_aihw.evaluation.chip_identity import chip_provenance
from cnet_aihw.evaluation.chip_run import (
    check_times_known,
    measure_clean,
    measuring,
    warn_of_equal_times,
    writing,
)
from cnet_aihw.evaluation.first_batch import check_first_batch
from cnet_aihw.evaluation.measurement import Measurement, Score
from cnet_aihw.evaluation.settings import (
    EvaluationSettings,
    times_of,
    validate_evaluation_settings,
)
from cnet_aihw.evaluation.spread import ChipWork, check_workers, spread
from cnet_aihw.evaluation.statistics import (
    ChipStatistics,
    check_threshold_and_reference,
    chip_statistics,
)
from cnet_aihw.rram import analog_layers
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.parts import as_part
from cnet_aihw.runtime.progress import progress_bar
from cnet_aihw.runtime.records import RecordsFile
from cnet_aihw.runtime.torch_device import resolve_device
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import is_number
from cnet_aihw.tasks import Classification, Task


@overload
def evaluate_chips(
    model: nn.Module,
    data: Any,
    *,
    task: Task | None = None,
    measurement: Measurement | None = None,
    chips: int = 100,
    seed: int = 0,
    batch_size: int = 250,
    noise_model: BaseNoiseModel | None = None,
    t_inference: float | None = None,
    threshold: float | None = None,
    reference: float | None = None,
    calibration: ChipCalibration | None = None,
    records: str | Path | None = None,
    device: str | torch.device = "auto",
    progress: bool = False,
    ray: RaySettings | None = None,
) -> ChipStatistics: ...


@overload
def evaluate_chips(
    model: nn.Module,
    data: Any,
    *,
    task: Task | None = None,
    measurement: Measurement | None = None,
    chips: int = 100,
    seed: int = 0,
    batch_size: int = 250,
    noise_model: BaseNoiseModel | None = None,
    t_inference: Sequence[float],
    threshold: float | None = None,
    reference: float | None = None,
    calibration: ChipCalibration | None = None,
    records: str | Path | None = None,
    device: str | torch.device = "auto",
    progress: bool = False,
    ray: RaySettings | None = None,
) -> dict[float, ChipStatistics]: ...


@checked
def evaluate_chips(
    model: nn.Module,
    data: Any,
    *,
    task: Task | None = None,
    measurement: Measurement | None = None,
    chips: int = 100,
    seed: int = 0,
    batch_size: int = 250,
    noise_model: BaseNoiseModel | None = None,
    t_inference: float | Sequence[float] | None = None,
    threshold: float | None = None,
    reference: float | None = None,
    calibration: ChipCalibration | None = None,
    records: str | Path | None = None,
    device: str | torch.device = "auto",
    progress: bool = False,
    ray: RaySettings | None = None,
) -> ChipStatistics | dict[float, ChipStatistics]:
    """Measure a network on a number of chips.

    Chip i has a seed of its own, derived from ``seed`` and i, for its weights and for the noise of
    its periphery. So more chips extend fewer, and neither order nor interruption changes a result.
    A chip whose outputs are not finite is recorded as failed and counted. Afterwards modes, device,
    torch's random state and the chip that was programmed, if any, are as before, also after an
    exception. On CUDA it is computed deterministically and without TF32.

    Args:
        model: converted model.
        data: inputs and targets: a tuple of tensors, an object with ``x`` and ``y``, a DataLoader
            or a part.
        task: loss and score; None: that of the measurement if it is a :class:`Score`, otherwise
            classification, of logits [N, classes].
        measurement: what is done on each chip, with "score" and "loss" among its results; None:
            the task's score.
        chips: how many chips.
        seed: seed of the chips' seeds.
        batch_size: samples a forward pass takes at once.
        noise_model: noise model of the chips; None: the model's own.
        t_inference: seconds between programming and measuring; a sequence measures each chip at
            each of these times; None: just programmed.
        threshold: score that a chip must reach to count for the yield.
        reference: clean score of the plainly trained network, for the recovery.
        calibration: what is calibrated on each chip before it is measured, and undone afterwards;
            the clean score is without it.
        records: JSON lines file that gets one line per chip (and time) as it is measured; what is
            there already is not measured again.
        device: "auto" (CUDA where available), "cpu" or a CUDA device.
        progress: whether to show a progress bar, where stderr is a terminal.
        ray: where Ray runs, and how many workers measure; None: this process alone. Results are the
            same with as many threads; records come in the order in which chips are done.

    Returns:
        The statistics over chips; for a sequence of times one for each time.

    Raises:
        CnetError: for impossible arguments, a model without analog layers, targets that do not fit
            its outputs, a clean network whose outputs are not finite, and a records file that
            belongs to something else.
        AllChipsFailed: if no chip has finite outputs; all are recorded by then.
    """
    settings = EvaluationSettings(chips, seed, batch_size, threshold, t_inference)
    validate_evaluation_settings(settings)
    if task is None:
        task = measurement.task if isinstance(measurement, Score) else Classification()
    measurement = measurement or Score(task)
    check_threshold_and_reference(task, threshold, reference)
    analog_layers(model)  # says to convert first, where there is none
    times = times_of(t_inference)
    check_times_known(model, noise_model, times)
    warn_of_equal_times(model, noise_model, times)
    where, data_part = resolve_device(device), as_part(data)
    check_workers(ray, where)
    known: dict[tuple[int, float | None], float | None] = {}
    file = None
    if records is not None:
        provenance = chip_provenance(
            model,
            data_part,
            measurement,
            noise_model=noise_model,
            calibration=calibration,
            seed=seed,
            batch_size=batch_size,
            device=where,
        )
        file = RecordsFile(records, provenance)
        known = {(r["chip"], r.get("t_inference")): r["score"] for r in file.records()}
    asked = [(chip, t) for chip in range(chips) for t in times]
    todo = [one for one in asked if one not in known]
    work = ChipWork(
        *(model, data_part, where, measurement),
        seed=seed,
        batch_size=batch_size,
        noise_model=noise_model,
        calibration=calibration,
    )
    with (
        writing(records, len(todo)),
        measuring(model, where),
        progress_bar("chips", len(asked), len(asked) - len(todo), progress) as advance,
    ):
        check_first_batch(model, work.part(), task if isinstance(measurement, Score) else None)
        with spread(work, todo, ray, "chips") as found:  # workers start meanwhile
            values = measure_clean(model, work.part(), measurement, seed, batch_size)
            _check_measured(measurement, values)
            for _, measured in found:
                record = measured.as_record()
                score = known[measured.chip, measured.t_inference] = record["score"]
                if file is not None:
                    file.append(record)
                advance(1, "failed" if score is None else f"{task.metric} {task.format(score)}")
    statistics = {
        t: chip_statistics(
            [known[chip, t] for chip in range(chips)],
            task=task,
            threshold=threshold,
            clean=values["score"],
            reference=reference,
            seed=seed,
            t_inference=t,
        )
        for t in times
    }
    if t_inference is None or is_number(t_inference):
        return statistics[times[0]]
    return {t: result for t, result in statistics.items() if t is not None}


def _check_measured(measurement: Measurement, values: dict[str, float]) -> None:
    """Check that there is what statistics need."""
    if not {"score", "loss"} <= set(values):
        raise CnetError(
            f"the measurement {measurement.name!r} gives {', '.join(values) or 'nothing'}; "
            "expected score and loss among its results; walk over measured_chips() for others.",
            key="measurement",
            value=list(values),
            expected=["score", "loss"],
        )
