"""Monte Carlo over chips: program, measure, restore, chip after chip; each one is a record."""

from collections.abc import Sequence
from pathlib import Path
from typing import overload

import torch
from aihwkit.inference.noise.base import BaseNoiseModel
from torch import Tensor, nn

from cnet_aihw.evaluation.calibration import ChipCalibration
from cnet_aihw.evaluation.chip_identity import chip_fingerprints
from cnet_aihw.evaluation.chip_run import (
    check_nominal,
    check_times_known,
    known_records,
    measure_chip,
    measure_clean,
    measuring,
    record_key,
    writing,
)
from cnet_aihw.evaluation.metrics import Samples, check_samples, samples_on
from cnet_aihw.evaluation.settings import EvaluationSettings, validate_evaluation_settings
from cnet_aihw.evaluation.settings import times_of as _times_of
from cnet_aihw.evaluation.statistics import ChipStatistics, check_reference, chip_statistics
from cnet_aihw.runtime.progress import progress_bar
from cnet_aihw.runtime.records import append_record
from cnet_aihw.runtime.torch_device import resolve_device


@overload
def evaluate_chips(
    model: nn.Module,
    data: Samples | tuple[Tensor, Tensor],
    *,
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
) -> ChipStatistics: ...


@overload
def evaluate_chips(
    model: nn.Module,
    data: Samples | tuple[Tensor, Tensor],
    *,
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
) -> dict[float, ChipStatistics]: ...


def evaluate_chips(
    model: nn.Module,
    data: Samples | tuple[Tensor, Tensor],
    *,
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
) -> ChipStatistics | dict[float, ChipStatistics]:
    """Measure a network on a number of chips.

    Chip i has a seed of its own, derived from ``seed`` and i, for its weights and for the noise of
    its periphery. So more chips extend fewer, and neither order nor interruption changes a result.
    Afterwards weights (bit for bit), modes, device and torch's random state are as before, also
    after an exception.

    Args:
        model: converted model with nominal weights, giving logits [N, classes].
        data: inputs [N, ...] and labels [N].
        chips: how many chips.
        seed: seed of the chips' seeds.
        batch_size: samples a forward pass takes at once.
        noise_model: noise model of the chips; None: the model's own.
        t_inference: seconds between programming and measuring; a sequence measures each chip at
            each of these times; None: just programmed.
        threshold: accuracy in [0, 1] that a chip must reach to count for the yield.
        reference: clean accuracy of the plainly trained network, for the recovery.
        calibration: what is calibrated on each chip before it is measured, and undone afterwards;
            the clean accuracy is without it.
        records: JSON lines file that gets one line per chip (and time) as it is measured; what is
            there already is not measured again.
        device: "auto" (CUDA when there), or any device of torch.
        progress: whether to show a progress bar, where stderr is a terminal.

    Returns:
        The statistics over chips; for a sequence of times one for each time.

    Raises:
        CnetError: for impossible arguments, a model without analog layers or with a chip
            programmed, a records file that belongs to something else, and a chip whose outputs
            are not finite.
    """
    settings = EvaluationSettings(chips, seed, batch_size, threshold, t_inference)
    validate_evaluation_settings(settings)
    check_reference(reference)
    samples = check_samples(data)
    check_nominal(model)
    times = _times_of(t_inference)
    check_times_known(model, noise_model, times)
    key, known = "", {}
    if records is not None:
        parts = chip_fingerprints(model, noise_model, samples, seed, batch_size)
        if calibration is not None:
            parts["calibration"] = calibration.fingerprint()
        key = record_key(parts)
        known = {
            (record["chip"], record.get("t_inference")): record["accuracy"]
            for record in known_records(Path(records), key)
        }
    where = resolve_device(device)
    total = chips * len(times)
    done = sum((chip, t) in known for chip in range(chips) for t in times)
    with (
        writing(records, total - done),
        measuring(model, where),
        progress_bar("chips", total, done, progress) as advance,
    ):
        x, y = samples_on(where, samples)
        clean = measure_clean(model, x, y, seed, batch_size)
        for chip in range(chips):
            for t in times:
                if (chip, t) in known:
                    continue
                record = measure_chip(
                    model, x, y, settings, chip, t, noise_model, calibration=calibration
                )
                known[chip, t] = record["accuracy"]
                if records is not None:
                    append_record(records, {**record, "key": key})
                advance(1, f"accuracy {record['accuracy']:.4f}")
    statistics = {
        t: chip_statistics(
            [known[chip, t] for chip in range(chips)],
            threshold=threshold,
            clean=clean,
            reference=reference,
            seed=seed,
            t_inference=t,
        )
        for t in times
    }
    if t_inference is None or isinstance(t_inference, int | float):
        return statistics[times[0]]
    return {t: result for t, result in statistics.items() if t is not None}
