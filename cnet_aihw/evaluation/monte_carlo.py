"""Monte Carlo over chips: program, measure, restore, chip after chip; each one is a record."""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import torch
from aihwkit.inference.noise.base import BaseNoiseModel
from torch import Tensor, nn

from cnet_aihw.errors import CnetError
from cnet_aihw.evaluation.devices import (
    forked_random_state,
    moved_to,
    resolve_device,
    seed_random_state,
)
from cnet_aihw.evaluation.fingerprint import chip_fingerprints
from cnet_aihw.evaluation.measure import (
    Samples,
    check_samples,
    evaluation_mode,
    pass_over,
    samples_on,
)
from cnet_aihw.evaluation.progress import progress_bar
from cnet_aihw.evaluation.settings import EvaluationSettings, validate_evaluation_settings
from cnet_aihw.evaluation.settings import times_of as _times_of
from cnet_aihw.evaluation.statistics import ChipStatistics, check_reference, chip_statistics
from cnet_aihw.records import append_record, read_records
from cnet_aihw.rram import analog_layers, derive_seed, is_programmed, programmed, restore


@overload
def evaluate_chips(
    model: nn.Module,
    data: Samples | tuple[Tensor, Tensor],
    *,
    chips: int = 100,
    seed: int = 0,
    batch_size: int = 500,
    noise_model: BaseNoiseModel | None = None,
    t_inference: float | None = None,
    threshold: float | None = None,
    reference: float | None = None,
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
    batch_size: int = 500,
    noise_model: BaseNoiseModel | None = None,
    t_inference: Sequence[float],
    threshold: float | None = None,
    reference: float | None = None,
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
    batch_size: int = 500,
    noise_model: BaseNoiseModel | None = None,
    t_inference: float | Sequence[float] | None = None,
    threshold: float | None = None,
    reference: float | None = None,
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
    analog_layers(model)  # says to convert first, where there is none
    if is_programmed(model):
        raise CnetError(
            "The model has a chip programmed, whose weights would be taken for the nominal ones; "
            "call restore(model) first."
        )
    times = _times_of(t_inference)
    key, known = "", {}
    if records is not None:
        parts = chip_fingerprints(model, noise_model, samples, seed, batch_size)
        key = ";".join(f"{name}={print_[:16]}" for name, print_ in parts.items())
        known = _known_accuracies(Path(records), key)
    where = resolve_device(device)
    total = chips * len(times)
    done = sum((chip, t) in known for chip in range(chips) for t in times)
    try:
        with (
            moved_to(model, where),
            evaluation_mode(model),
            forked_random_state(where),
            progress_bar("chips", total, done, progress) as advance,
        ):
            x, y = samples_on(where, samples)
            seed_random_state(derive_seed(seed, "clean"), where)
            clean = pass_over(model, x, y, batch_size)[1]
            for chip in range(chips):
                for t in times:
                    if (chip, t) in known:
                        continue
                    record = _measure_chip(model, x, y, settings, chip, t, noise_model, where)
                    known[chip, t] = record["accuracy"]
                    if records is not None:
                        append_record(records, {**record, "key": key})
                    advance(1, f"accuracy {record['accuracy']:.4f}")
    finally:
        restore(model)
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


def _measure_chip(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    settings: EvaluationSettings,
    chip: int,
    t_inference: float | None,
    noise_model: BaseNoiseModel | None,
    device: torch.device,
) -> dict[str, Any]:
    """Program one chip, measure it, restore; its record."""
    start = time.perf_counter()
    chip_seed = derive_seed(settings.seed, chip)
    with programmed(model, chip_seed, noise_model=noise_model, t_inference=t_inference):
        seed_random_state(derive_seed(chip_seed, "read noise"), device)
        loss, accuracy = pass_over(model, x, y, settings.batch_size)
    if not math.isfinite(loss):
        raise CnetError(
            f"Chip {chip} (seed {chip_seed}) gives outputs that are not finite (loss {loss}); "
            "check the weights and the data, or choose a smaller variation."
        )
    record: dict[str, Any] = {"chip": chip, "seed": chip_seed, "accuracy": accuracy, "loss": loss}
    if t_inference is not None:
        record["t_inference"] = t_inference
    return {**record, "seconds": time.perf_counter() - start}


def _known_accuracies(path: Path, key: str) -> dict[tuple[int, float | None], float]:
    """Accuracies that a records file holds already, by chip and time."""
    known = {}
    for number, record in enumerate(read_records(path), start=1):
        found = record.get("key")
        if found != key:
            raise CnetError(
                f"{path} line {number} was measured with another {_first_difference(found, key)}; "
                "give another records file, or delete this one."
            )
        known[record["chip"], record.get("t_inference")] = record["accuracy"]
    return known


def _first_difference(found: object, key: str) -> str:
    """The name of the first part in which two keys differ."""
    if isinstance(found, str):
        for old, new in zip(found.split(";"), key.split(";"), strict=False):
            if old != new:
                return new.split("=")[0]
    return "kind of measurement"
