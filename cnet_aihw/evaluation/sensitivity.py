"""Sensitivity to variation layer by layer: scans over layers, and candidates for compensation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from aihwkit.inference.noise.base import BaseNoiseModel
from torch import nn

from cnet_aihw.cluster.settings import RaySettings
from cnet_aihw.evaluation.chip_identity import chip_provenance
from cnet_aihw.evaluation.chip_run import check_times_known, measuring, writing
from cnet_aihw.evaluation.layer_work import LayerWork
from cnet_aihw.evaluation.measurement import Score
from cnet_aihw.evaluation.settings import EvaluationSettings, validate_evaluation_settings
from cnet_aihw.evaluation.spread import check_workers, on_workers, spread
from cnet_aihw.evaluation.statistics import chip_statistics
from cnet_aihw.rram import analog_layers
from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.runtime.parts import as_part
from cnet_aihw.runtime.progress import progress_bar
from cnet_aihw.runtime.records import RecordsFile
from cnet_aihw.runtime.torch_device import resolve_device
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import is_number
from cnet_aihw.tasks import Classification, Task

ScanMode = Literal["suffix", "single"]


@dataclass(frozen=True)
class LayerRow:
    """Scores with variation from one layer on, or in that layer alone."""

    name: str
    """Name of the layer."""

    index: int
    """Its place in the order of execution, from 0."""

    scores: tuple[float | None, ...]
    """Score of each chip, chip 0 first; None for a chip whose outputs are not finite."""

    chips: int
    """Number of chips."""

    mean: float
    """Mean score over chips with finite outputs."""

    std: float | None
    """Standard deviation over chips (n - 1 in the denominator); None for one chip."""

    ci95: tuple[float, float] | None
    """95 % confidence interval of the mean by Student's t; None for one chip."""

    relative: float | None
    """How much of the clean score the mean keeps, as the task says; for an accuracy mean / clean.
    None where that has no meaning."""

    failed: int = 0
    """Number of chips whose outputs are not finite."""


@dataclass(frozen=True)
class LayerScan:
    """Result of :func:`scan_layers`."""

    mode: ScanMode
    """``"suffix"``: variation in a layer and all after it; ``"single"``: in that layer alone."""

    clean: float
    """Clean score of the network."""

    rows: tuple[LayerRow, ...]
    """One for each layer, in the order of execution."""

    seed: int
    """Seed from which the chips' seeds were derived."""

    t_inference: float | None = None
    """Seconds between programming and measuring; None: no drift."""

    metric: str = "accuracy"
    """Name of the score."""

    higher_is_better: bool = True
    """Direction of the score."""

    def sensitivity(self) -> dict[str, float]:
        """Return layer -> how much worse than clean the mean score is, in the score's units."""
        sign = 1.0 if self.higher_is_better else -1.0
        return {row.name: sign * (self.clean - row.mean) for row in self.rows}

    def as_rows(self) -> list[dict[str, Any]]:
        """Return plain rows for a table or a plot, one for each layer."""
        return [
            {
                "mode": self.mode,
                "layer": row.name,
                "index": row.index,
                "metric": self.metric,
                "mean": row.mean,
                "std": row.std,
                "ci95_low": None if row.ci95 is None else row.ci95[0],
                "ci95_high": None if row.ci95 is None else row.ci95[1],
                "relative": row.relative,
                "clean": self.clean,
                "chips": row.chips,
                "failed": row.failed,
                "seed": self.seed,
                "t_inference": self.t_inference,
            }
            for row in self.rows
        ]


@checked
def scan_layers(
    model: nn.Module,
    data: Any,
    *,
    task: Task | None = None,
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
    ray: RaySettings | None = None,
) -> LayerScan:
    """Measure a network with variation in some of its layers only, for each layer.

    The chips are those of :func:`evaluate_chips`, with the other layers' weights nominal; so the
    first row of a suffix scan has its scores. Layers stand in the order of their first call,
    found with the first batch; a layer that is not called has no row. Outputs of the layers before
    the first one that varies are computed once and taken again, as far as memory allows; results
    are the same, bit for bit. Digital parts are computed each time, and so is all behind a
    part that draws random numbers, such as a noisy periphery.

    Source: CorrectNet (DATE 2023), step 3, as we read the paper: the suffix scan; the single scan
    is ours.

    Args:
        model: converted model.
        data: inputs and targets, as for :func:`evaluate_chips`.
        task: loss and score; None: classification, of logits [N, classes].
        mode: ``"suffix"``: variation in layers i..last for every i; ``"single"``: in layer i alone.
        chips: how many chips for each layer.
        seed: seed of the chips' seeds.
        batch_size: samples a forward pass takes at once.
        noise_model: noise model of the chips; None: the model's own.
        t_inference: seconds between programming and measuring; None: just programmed.
        records: JSON lines file that gets one line per layer and chip as it is measured; what is
            there already is not measured again.
        device: "auto" (CUDA where available), "cpu" or a CUDA device.
        progress: whether to show a progress bar, where stderr is a terminal.
        cache_bytes: memory on the device for outputs to take again, of each process; 0: none.
        ray: where Ray runs, and how many workers measure; None: this process alone. Results are the
            same with as many threads.

    Returns:
        The scan.

    Raises:
        CnetError: for impossible arguments, a model without analog layers, targets that do not fit
            its outputs, and a records file that belongs to something else.
        AllChipsFailed: if for some layer no chip has finite outputs; all are recorded by then.
    """
    settings = EvaluationSettings(chips, seed, batch_size, None, t_inference)
    validate_evaluation_settings(settings)
    if mode not in get_args(ScanMode):
        raise bad_value("mode", mode, "'suffix' or 'single'")
    if t_inference is not None and not is_number(t_inference):
        raise bad_value("t_inference", t_inference, "one time, in seconds; a scan has no others")
    if cache_bytes < 0:
        raise bad_value("cache_bytes", cache_bytes, "0 or more")
    task = task or Classification()
    measurement = Score(task)
    analog_layers(model)  # says to convert first, where there is none
    check_times_known(model, noise_model, [t_inference])
    where, data_part = resolve_device(device), as_part(data)
    check_workers(ray, where)
    time = None if t_inference is None else float(t_inference)
    work = LayerWork(
        *(model, data_part, where, measurement),
        suffix=mode == "suffix",
        seed=seed,
        batch_size=batch_size,
        t_inference=time,
        cache_bytes=cache_bytes,
        noise_model=noise_model,
    )
    with measuring(model, where):
        work.trace()
        order, file, known = work.order, None, {}
        if records is not None:
            provenance = chip_provenance(
                model,
                data_part,
                measurement,
                noise_model=noise_model,
                calibration=None,
                seed=seed,
                batch_size=batch_size,
                device=where,
            )
            file = RecordsFile(records, {**provenance, "scan": {"mode": mode, "layers": order}})
            known = {
                (r["layer"], r["chip"], r.get("t_inference")): r["score"] for r in file.records()
            }
        # the last layers first: the rule for candidates goes that way
        todo = [
            (name, chip)
            for name in reversed(order)
            for chip in range(chips)
            if (name, chip, time) not in known
        ]
        total = chips * len(order)
        work.todo = todo
        with (
            writing(records, len(todo)),
            progress_bar("layers", total, total - len(todo), progress) as advance,
            spread(work, todo, ray, f"scan-{mode}") as found,  # workers start meanwhile
        ):
            clean = work.prepare(keep=not on_workers(ray, todo))
            for (name, chip), measured in found:
                record = measured.as_record()
                score = known[name, chip, time] = record["score"]
                if file is not None:
                    file.append({"layer": name, "index": order.index(name), **record})
                text = "failed" if score is None else f"{task.metric} {task.format(score)}"
                advance(1, f"{name} {text}")
    rows = [
        _row(name, index, [known[name, chip, time] for chip in range(chips)], clean, task)
        for index, name in enumerate(order)
    ]
    return LayerScan(mode, clean, tuple(rows), seed, time, task.metric, task.higher_is_better)


@checked
def candidate_layers(scan: LayerScan, threshold: float = 0.95) -> tuple[str, ...]:
    """Pick the layers where compensation may go, by a scan.

    Of a suffix scan, going from the last layer to the first: the first one with which the mean
    score keeps less than ``threshold`` of the clean one, and all layers before it (CorrectNet, DATE
    2023, step 3, as we read the paper, with 0.95). Of a single scan: every layer whose variation
    alone does so (ours).

    Args:
        scan: what :func:`scan_layers` gave.
        threshold: share of the clean score that must be kept, in (0, 1].

    Returns:
        Names in the order of execution; none where the score nowhere falls so far.

    Raises:
        CnetError: for a threshold outside (0, 1].
    """
    if not 0.0 < threshold <= 1.0:
        raise bad_value(
            "threshold", threshold, "a share of the clean score in (0, 1], such as 0.95"
        )
    low = [r.index for r in scan.rows if r.relative is not None and r.relative < threshold]
    if scan.mode == "suffix":
        low = list(range(max(low) + 1)) if low else []
    return tuple(scan.rows[index].name for index in low)


def _row(name: str, index: int, scores: list[float | None], clean: float, task: Task) -> LayerRow:
    statistics = chip_statistics(scores, task=task)
    return LayerRow(
        name=name,
        index=index,
        scores=statistics.scores,
        chips=statistics.chips,
        mean=statistics.mean,
        std=statistics.std,
        ci95=statistics.ci95,
        relative=task.recovery(statistics.mean, clean),
        failed=statistics.failed,
    )
