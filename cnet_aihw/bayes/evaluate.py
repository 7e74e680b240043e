"""Uncertainty of a network over chips, times and numbers of samples; each one is a record."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from aihwkit.inference.noise.base import BaseNoiseModel
from torch import Tensor, nn

from cnet_aihw.bayes.sampling import check_source, sampled_logits
from cnet_aihw.bayes.scores import reliability, uncertainty_scores
from cnet_aihw.bayes.settings import samples_of
from cnet_aihw.bayes.statistics import UncertaintyStatistics, pooled, row_of
from cnet_aihw.cluster.settings import RaySettings
from cnet_aihw.evaluation import ChipCalibration, Score
from cnet_aihw.evaluation.chip_identity import chip_provenance
from cnet_aihw.evaluation.chip_run import check_times_known, measuring, warn_of_equal_times, writing
from cnet_aihw.evaluation.first_batch import check_first_batch
from cnet_aihw.evaluation.settings import times_of
from cnet_aihw.evaluation.spread import OnDevice, check_workers, spread
from cnet_aihw.runtime.inputs import inputs_on
from cnet_aihw.runtime.parts import Part, as_part, gathered
from cnet_aihw.runtime.progress import progress_bar
from cnet_aihw.runtime.random_state import derive_seed
from cnet_aihw.runtime.records import RecordsFile
from cnet_aihw.runtime.torch_device import resolve_device
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import MOST_CHIPS, check_count, check_seed
from cnet_aihw.tasks import Classification

Task = tuple[int, float | None, tuple[int, ...]]
"""Number of a chip, seconds after programming, numbers of samples."""


@checked
def evaluate_uncertainty(
    model: nn.Module,
    data: Any,
    *,
    source: str = "chips",
    samples: int | Sequence[int] = (1, 4, 16),
    chips: int = 5,
    seed: int = 0,
    ood: Any = None,
    noise_model: BaseNoiseModel | None = None,
    t_inference: float | Sequence[float] | None = None,
    calibration: ChipCalibration | None = None,
    batch_size: int = 1000,
    records: str | Path | None = None,
    device: str | torch.device = "auto",
    progress: bool = False,
    ray: RaySettings | None = None,
) -> UncertaintyStatistics:
    """Measure what predictions on chips know of their own errors.

    Chip i is chip i of ``evaluate_chips`` with the same seed; with the source "chips" it is set i
    of chips. Draws belong to the chip and the number of the sample: more chips, times and samples
    extend fewer, and neither order nor interruption changes a result. Afterwards the model and
    torch's random state are as before.

    Args:
        model: a network of RRAM layers, which gives logits [N, C].
        data: inputs and classes, as ``evaluate_chips`` takes them.
        source: origin of the samples, see :func:`predict`.
        samples: numbers of samples of a prediction; each begins with the samples of the smaller
            ones.
        chips: how many chips.
        seed: seed of the chips' seeds.
        ood: inputs of another kind, of the same shape, to be distinguished from them; None: none.
        noise_model: noise model of the chips; None: the model's own.
        t_inference: seconds between programming and reading, one time or several; None: just
            programmed.
        calibration: what is calibrated on each chip, such as :class:`LogitCorrection`.
        batch_size: inputs a forward pass takes at once.
        records: JSON lines file that gets one line for each chip, time and number of samples; what
            is there already is not measured again.
        device: "auto" (CUDA where available), "cpu" or a CUDA device.
        progress: whether to show a progress bar, where stderr is a terminal.
        ray: where Ray runs, and how many workers measure; None: this process alone.

    Returns:
        The statistics over chips.

    Raises:
        CnetError: for impossible arguments; as :func:`predict`; for a records file that belongs to
            something else; if no chip has finite outputs.
    """
    counts, times = samples_of(samples), times_of(t_inference)
    check_count("chips", chips, most=MOST_CHIPS)
    check_count("batch_size", batch_size)
    check_seed("seed", seed)
    check_source(model, source, noise_model)
    check_times_known(model, noise_model, times)
    warn_of_equal_times(model, noise_model, times)
    where, part = resolve_device(device), as_part(data)
    other = None if ood is None else as_part(ood)
    check_workers(ray, where)
    file = None
    if records is not None:
        provenance = {
            **chip_provenance(
                *(model, part, Score()),
                noise_model=noise_model,
                calibration=calibration,
                seed=seed,
                batch_size=batch_size,
                device=where,
            ),
            "source": source,
            "ood": None if other is None else other.fingerprint,
        }
        file = RecordsFile(records, provenance)
    known = {_key(record): record for record in ([] if file is None else file.records())}
    todo: list[Task] = []
    for chip in range(chips):
        for t in times:
            missing = tuple(n for n in counts if (chip, t, n) not in known)
            todo += [(chip, t, missing)] if missing else []
    work = UncertaintyWork(
        *(model, part, where, other, source, seed, noise_model, calibration, batch_size)
    )
    asked = chips * len(times)
    with (
        writing(records, len(todo)),
        measuring(model, where),
        progress_bar("chips", asked, asked - len(todo), progress) as advance,
    ):
        check_first_batch(model, work.part(), Classification())
        with spread(work, todo, ray, "uncertainty") as found:
            for _, made in found:
                for record in made:
                    known[_key(record)] = record
                    if file is not None:
                        file.append(record)
                advance(1, "failed" if made[-1].get("failed") else f"nll {made[-1]['nll']:.3f}")
    rows = [
        row_of([known[chip, t, n] for chip in range(chips)], n, t) for t in times for n in counts
    ]
    first = [known[chip, times[0], counts[-1]] for chip in range(chips)]
    return UncertaintyStatistics(
        source=source,
        correction=None if calibration is None else calibration.label(),
        chips=chips,
        inputs=len(part),
        rows=tuple(rows),
        reliability=pooled([r["reliability"] for r in first if not r.get("failed")]),
    )


class UncertaintyWork(OnDevice):
    """Measures one chip at one time, here or in a worker.

    Args:
        model: the network, on the device.
        part: the data.
        device: the device.
        ood: data of another kind, or None.
        others: source, seed, noise model, calibration and batch size.
    """

    def __init__(
        self, model: nn.Module, part: Part, device: torch.device, ood: Part | None, *others: Any
    ) -> None:
        super().__init__(model, part, device)
        self._ood, self._others = ood, others

    def __call__(self, task: Task) -> list[dict[str, Any]]:
        """Return the records of a chip at a time."""
        chip, t_inference, counts = task
        source, seed, noise_model, calibration, batch_size = self._others
        start, chip_seed = time.perf_counter(), derive_seed(seed, chip)
        data = gathered(self.part())
        other = None if self._ood is None else inputs_on(self.device, gathered(self._ood).x)
        with measuring(self.model, self.device):
            found = sampled_logits(
                *(self.model, data.x, source, max(counts), chip_seed, noise_model, t_inference),
                calibration=calibration,
                batch_size=batch_size,
                others=other,
            )
        logits, ood = (found, None) if other is None else found
        seconds = time.perf_counter() - start
        records = []
        for n in counts:
            record: dict[str, Any] = {"chip": chip, "seed": chip_seed, "samples": n}
            if t_inference is not None:
                record["t_inference"] = t_inference
            record |= _scores(logits[:n], data.y, None if ood is None else ood[:n])
            records.append({**record, "seconds": seconds})
        return records


def _scores(logits: Tensor, targets: Tensor, ood: Tensor | None) -> dict[str, Any]:
    finite = torch.isfinite(logits).all() and (ood is None or torch.isfinite(ood).all())
    if not bool(finite):
        return {"failed": True}
    p = logits.double().softmax(-1)
    other = None if ood is None else ood.double().softmax(-1)
    return {**uncertainty_scores(p, targets, other), "reliability": reliability(p, targets)}


def _key(record: dict[str, Any]) -> tuple[int, float | None, int]:
    return record["chip"], record.get("t_inference"), record["samples"]
