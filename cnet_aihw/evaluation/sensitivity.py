"""How much the variation of which layers costs: scans over layers, and the candidates they give."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from aihwkit.inference.noise.base import BaseNoiseModel
from torch import Tensor, nn

from cnet_aihw.evaluation.activation_cache import ActivationCache, trace_calls
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
from cnet_aihw.evaluation.statistics import chip_statistics
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.fingerprint import text_fingerprint
from cnet_aihw.runtime.progress import progress_bar
from cnet_aihw.runtime.records import append_record
from cnet_aihw.runtime.torch_device import resolve_device

ScanMode = Literal["suffix", "single"]


@dataclass(frozen=True)
class LayerRow:
    """Accuracies, in [0, 1], with variation from one layer on, or in that layer alone."""

    name: str
    """Name of the layer."""

    index: int
    """Its place in the order of execution, from 0."""

    accuracies: tuple[float, ...]
    """Accuracy of each chip, chip 0 first."""

    chips: int
    """Number of chips."""

    mean: float
    """Mean accuracy over chips."""

    std: float | None
    """Standard deviation over chips (n - 1 in the denominator); None for one chip."""

    ci95: tuple[float, float] | None
    """95 % confidence interval of the mean by Student's t; None for one chip."""

    relative: float | None
    """Mean accuracy / clean accuracy; None where the clean accuracy is 0."""


@dataclass(frozen=True)
class LayerScan:
    """What :func:`scan_layers` measured."""

    mode: ScanMode
    """``"suffix"``: variation in a layer and all after it; ``"single"``: in that layer alone."""

    clean: float
    """Clean accuracy of the network, in [0, 1]."""

    rows: tuple[LayerRow, ...]
    """One for each layer, in the order of execution."""

    seed: int
    """Seed from which the chips' seeds were derived."""

    t_inference: float | None = None
    """Seconds between programming and measuring; None: no drift."""

    def as_rows(self) -> list[dict[str, Any]]:
        """Plain rows for a table or a plot, one for each layer."""
        return [
            {
                "mode": self.mode,
                "layer": row.name,
                "index": row.index,
                "mean": row.mean,
                "std": row.std,
                "ci95_low": None if row.ci95 is None else row.ci95[0],
                "ci95_high": None if row.ci95 is None else row.ci95[1],
                "relative": row.relative,
                "clean": self.clean,
                "chips": row.chips,
                "seed": self.seed,
                "t_inference": self.t_inference,
            }
            for row in self.rows
        ]


def scan_layers(
    model: nn.Module,
    data: Samples | tuple[Tensor, Tensor],
    *,
    mode: ScanMode = "suffix",
    chips: int = 20,
    seed: int = 0,
    batch_size: int = 250,
    noise_model: BaseNoiseModel | None = None,
    t_inference: float | None = None,
    records: str | Path | None = None,
    device: str | torch.device = "auto",
    progress: bool = False,
    cache_bytes: int = 2**30,
) -> LayerScan:
    """Measure a network with variation in some of its layers only, for each layer.

    The chips are those of :func:`evaluate_chips`, with the other layers' weights nominal; so the
    first row of a suffix scan has its accuracies. Layers stand in the order of their first call,
    found with the first batch; a layer that is not called has no row. What the layers in front of
    the first one that varies give is computed once and taken again, as far as memory allows;
    results are the same, bit for bit. Digital parts are computed each time, and so is all behind a
    part that draws random numbers, such as a noisy periphery.

    Source: CorrectNet (DATE 2023), step 3, as we read the paper: the suffix scan; the single scan
    is ours.

    Args:
        model: converted model with nominal weights, giving logits [N, classes].
        data: inputs [N, ...] and labels [N].
        mode: ``"suffix"``: variation in layers i..last for every i; ``"single"``: in layer i alone.
        chips: how many chips for each layer.
        seed: seed of the chips' seeds.
        batch_size: samples a forward pass takes at once.
        noise_model: noise model of the chips; None: the model's own.
        t_inference: seconds between programming and measuring; None: just programmed.
        records: JSON lines file that gets one line per layer and chip as it is measured; what is
            there already is not measured again.
        device: "auto" (CUDA when there), or any device of torch.
        progress: whether to show a progress bar, where stderr is a terminal.
        cache_bytes: memory on the device for outputs to take again; 0: none.

    Returns:
        The scan.

    Raises:
        CnetError: for impossible arguments, a model without analog layers or with a chip
            programmed, a records file that belongs to something else, and a chip whose outputs
            are not finite.
    """
    settings = EvaluationSettings(chips, seed, batch_size, None, t_inference)
    validate_evaluation_settings(settings)
    if mode not in get_args(ScanMode):
        raise CnetError(f"mode is {mode!r}; give 'suffix' or 'single'.")
    if t_inference is not None and not isinstance(t_inference, int | float):
        raise CnetError(f"t_inference is {t_inference}; a scan is made at one time, in seconds.")
    if cache_bytes < 0:
        raise CnetError(f"cache_bytes is {cache_bytes}; give 0 or more.")
    samples = check_samples(data)
    check_nominal(model)
    check_times_known(model, noise_model, [t_inference])
    where = resolve_device(device)
    time = None if t_inference is None else float(t_inference)
    with measuring(model, where):
        x, y = samples_on(where, samples)
        calls = trace_calls(model, x[:batch_size])
        first_calls = _first_calls([call.layer for call in calls])
        order = list(first_calls)
        key, known = "", {}
        if records is not None:
            parts = chip_fingerprints(model, noise_model, samples, seed, batch_size)
            order_print = text_fingerprint(order)
            key = record_key({**parts, "order of layers": order_print, "mode of scan": mode})
            known = {
                (record["layer"], record["chip"], record.get("t_inference")): record["accuracy"]
                for record in known_records(Path(records), key)
            }
        # the last layers first: the rule for candidates goes that way
        todo = [
            (name, chip)
            for name in reversed(order)
            for chip in range(chips)
            if (name, chip, time) not in known
        ]
        begins = Counter(first_calls[name] for name, _ in todo)  # first call that varies -> passes
        uses = {
            call: sum(count for begin, count in begins.items() if begin > call)
            for call in range(len(calls))
        }
        clean_outputs = ActivationCache(calls, uses, -(-len(x) // batch_size), cache_bytes)
        with clean_outputs.recorded(model):
            clean = measure_clean(model, x, y, seed, batch_size)
        total = chips * len(order)
        with (
            writing(records, len(todo)),
            progress_bar("layers", total, total - len(todo), progress) as advance,
        ):
            for name, chip in todo:
                index = order.index(name)
                varied = order[index:] if mode == "suffix" else [name]
                with clean_outputs.replayed(model, varied):
                    record = measure_chip(
                        model, x, y, settings, chip, time, noise_model, layers=varied
                    )
                known[name, chip, time] = record["accuracy"]
                if records is not None:
                    append_record(records, {"layer": name, "index": index, **record, "key": key})
                advance(1, f"{name} accuracy {record['accuracy']:.4f}")
    rows = [
        _row(name, index, [known[name, chip, time] for chip in range(chips)], clean)
        for index, name in enumerate(order)
    ]
    return LayerScan(mode, clean, tuple(rows), seed, time)


def candidate_layers(scan: LayerScan, threshold: float = 0.95) -> tuple[str, ...]:
    """Pick the layers where compensation may go, by a scan.

    Of a suffix scan, going from the last layer to the first: the first one with which the mean
    accuracy falls under ``threshold`` times the clean one, and all layers before it (CorrectNet,
    DATE 2023, step 3, as we read the paper, with 0.95). Of a single scan: every layer whose
    variation alone takes the mean accuracy under that (ours).

    Args:
        scan: what :func:`scan_layers` gave.
        threshold: share of the clean accuracy, in (0, 1].

    Returns:
        Names in the order of execution; none where the accuracy nowhere falls so far.

    Raises:
        CnetError: for a threshold outside (0, 1].
    """
    if not 0.0 < threshold <= 1.0:
        raise CnetError(
            f"threshold is {threshold}; give a share of the clean accuracy in (0, 1], such as 0.95."
        )
    low = [row.index for row in scan.rows if row.mean < threshold * scan.clean]
    if scan.mode == "suffix":
        low = list(range(max(low) + 1)) if low else []
    return tuple(scan.rows[index].name for index in low)


def _first_calls(names: list[str]) -> dict[str, int]:
    """The first call of each layer, in the order of execution."""
    first_calls: dict[str, int] = {}
    for call, name in enumerate(names):
        first_calls.setdefault(name, call)
    return first_calls


def _row(name: str, index: int, accuracies: list[float], clean: float) -> LayerRow:
    statistics = chip_statistics(accuracies)
    return LayerRow(
        name=name,
        index=index,
        accuracies=statistics.accuracies,
        chips=statistics.chips,
        mean=statistics.mean,
        std=statistics.std,
        ci95=statistics.ci95,
        relative=statistics.mean / clean if clean > 0 else None,
    )
