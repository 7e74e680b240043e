"""Tune a network on a number of simulated chips, beside correctors fitted to each of them."""

from __future__ import annotations

import time
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cnet_aihw.compensation import (
    WithCompensation,
    compensate,
    compensation_parameters,
)
from cnet_aihw.compensation.placement import DIGITAL
from cnet_aihw.evaluation import ChipCalibration, Score
from cnet_aihw.evaluation.chip_identity import chip_provenance
from cnet_aihw.evaluation.chip_run import check_times_known, measuring, writing
from cnet_aihw.rram import clear_chip, count_weights
from cnet_aihw.runtime.device_parts import placed
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.parts import Part, as_part
from cnet_aihw.runtime.progress import progress_bar
from cnet_aihw.runtime.random_state import derive_seed, seed_random_state
from cnet_aihw.runtime.records import RecordsFile, read_records
from cnet_aihw.runtime.torch_device import device_of, resolve_device
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import check_count
from cnet_aihw.tasks import Classification, Task
from cnet_aihw.training.run_identity import TrainingData
from cnet_aihw.tuning.chip import SimulatedChip, rram_layers
from cnet_aihw.tuning.on_chip import finite_score
from cnet_aihw.tuning.parameters import trained_names
from cnet_aihw.tuning.run import EPOCHS
from cnet_aihw.tuning.settings import TuningSettings, validate_tuning_settings
from cnet_aihw.tuning.statistics import TuningStatistics, statistics_over_chips
from cnet_aihw.tuning.tune import score_on_chip, tune_on_chip, write_all


@checked
def tune_chips(
    model: nn.Module,
    data: TrainingData,
    settings: TuningSettings,
    folder: str | Path,
    *,
    test: Any = None,
    chips: int = 5,
    seed: int = 0,
    rewrite_sigma: float = 0.0,
    others: int = 0,
    t_inference: float | None = None,
    calibration: ChipCalibration | None = None,
    task: Task | None = None,
    batch_size: int = 250,
    device: str | torch.device = "auto",
    progress: bool = False,
) -> TuningStatistics:
    """Tune a network on a number of simulated chips, each by itself.

    Chip i has the lasting variation of chip i of ``evaluate_chips`` with the same seed. Beside the
    tuned network, the network as it was is measured on the same chip, written once in the same way,
    without and with the calibration. Where correctors are tuned that the calibration brings
    (:class:`~cnet_aihw.compensation.WithCompensation`), they are first fitted to the chip. The
    model is as before afterwards; tuned weights are in ``folder/chip-I``.

    Args:
        model: a network of RRAM layers.
        data: its parts ``train`` and ``val``.
        settings: how to tune.
        folder: where the runs and ``chips.jsonl`` are kept; what is there is not repeated.
        test: what is measured; None: the validation part.
        chips: how many chips.
        seed: seed of the chips' seeds.
        rewrite_sigma: standard deviation of the logarithm of what is fresh at each write.
        others: how many other chips each tuned network is measured on.
        t_inference: seconds between a write and its use.
        calibration: what may be done on each chip instead, or on top.
        task: loss and score; None: classification.
        batch_size: samples a measuring forward takes at once.
        device: "auto" (CUDA where available), "cpu" or a CUDA device.
        progress: whether to show a progress bar, where stderr is a terminal.

    Returns:
        The statistics over chips.

    Raises:
        CnetError: for impossible arguments, for a chip whose outputs are not finite, and as
            :func:`tune_on_chip`.
    """
    validate_tuning_settings(settings, "")
    for key, value, least in (("chips", chips, 1), ("others", others, 0)):
        check_count(key, value, least)
    check_count("batch_size", batch_size)
    fits = isinstance(calibration, WithCompensation)
    own = compensation_parameters(model)
    if settings.tune == "correctors" and not own and not fits:
        fix = "choose a compensation, such as compensation=default"
        raise CnetError(
            f"tune is correctors, but the network has none and none are fitted; {fix}.",
            key="tune",
            value="correctors",
            expected="correctors",
            fix=fix,
        )
    if isinstance(calibration, WithCompensation) and settings.tune == "correctors" and not own:
        _check_correctors(calibration)
    rram_layers(model)
    check_times_known(model, None, [t_inference])
    task, where, folder = task or Classification(), resolve_device(device), Path(folder)
    part = as_part(data.val if test is None else test)
    provenance = {
        **chip_provenance(
            *(model, part, Score(task)),
            noise_model=None,
            calibration=calibration,
            seed=seed,
            batch_size=batch_size,
            device=where,
        ),
        "settings": {n: v for n, v in asdict(settings).items() if n in _FIELDS},
        "train": as_part(data.train).first(settings.samples).fingerprint,
        "val": as_part(data.val).first(settings.validation_samples).fingerprint,
        "trained": trained_names(model),
        "rewrite_sigma": rewrite_sigma,
        "others": others,
        "t_inference": t_inference,
    }
    path = folder / "chips.jsonl"
    file = RecordsFile(path, provenance)
    known = {record["chip"]: record for record in file.records()}
    todo = [chip for chip in range(chips) if chip not in known]
    with (
        writing(path, len(todo)),
        measuring(model, where),
        progress_bar("tuning", chips, chips - len(todo), progress) as advance,
    ):
        one = _OneChip(
            model, data, placed(part, where), settings, seed, rewrite_sigma, t_inference,
            calibration, task, batch_size, others,
        )  # fmt: skip
        for chip in todo:
            known[chip] = one.record(chip, folder / f"chip-{chip}")
            file.append(known[chip])
            advance(1, f"{known[chip]['before']:.3f} to {known[chip]['score']:.3f}")
        weights = count_weights(model)
        added = sum(p.numel() for p in own.values())
        added += 0 if calibration is None else calibration.cost(model)
    base = weights - sum(p.numel() for p in own.values())
    return statistics_over_chips(
        [known[chip] for chip in range(chips)], rewrite_sigma, added, added / base
    )


def _check_correctors(fit: WithCompensation) -> None:
    """Check that a compensation has correctors to tune beside layers that are digital."""
    if all(ratio in (0.0, DIGITAL) for ratio in fit.placement.values()):
        expected = "another tune, as the placement has digital layers alone and no corrector"
        raise bad_value("tune", "correctors", expected)


_FIELDS = tuple(TuningSettings.__dataclass_fields__)


class _OneChip:
    """All that is done on one chip."""

    def __init__(
        self,
        model: nn.Module,
        data: TrainingData,
        test: Part,
        settings: TuningSettings,
        seed: int,
        rewrite_sigma: float,
        t_inference: float | None,
        calibration: ChipCalibration | None,
        task: Task,
        batch_size: int,
        others: int,
    ) -> None:
        self.model, self.data, self.test, self.settings = model, data, test, settings
        self.seed, self.rewrite_sigma, self.t_inference = seed, rewrite_sigma, t_inference
        self.calibration, self.task, self.batch_size = calibration, task, batch_size
        self.others = others

    def record(self, number: int, folder: Path) -> dict[str, Any]:
        """Tune on a chip and measure there; return its record."""
        begun = time.perf_counter()
        seed = derive_seed(self.seed, number)
        written = self._chip(seed)
        write_all(self.model, written)
        before = self._score(self.model, written)
        per_chip = self._calibrated(written)
        tuned = self._tuned(written)
        chip = self._chip(seed)
        found = tune_on_chip(tuned, chip, self.data, self.settings, folder, task=self.task)
        on_top = None
        if self.settings.tune != "correctors":
            on_top = self._calibrated(chip)
        others = []
        for other in range(self.others):
            another = self._chip(derive_seed(self.seed, number, "other", other))
            write_all(tuned, another)
            others.append(self._score(tuned, another))
        return {
            "chip": number,
            "seed": seed,
            **found.as_record(),
            "before": before,
            "per_chip": per_chip,
            "validation": found.score,
            "score": self._score(tuned, chip),
            "tuned_per_chip": on_top,
            "others": sum(others) / len(others) if others else None,
            "epochs": read_records(folder / EPOCHS),
            "seconds": time.perf_counter() - begun,
        }

    def _chip(self, seed: int) -> SimulatedChip:
        return SimulatedChip(self.model, seed, self.rewrite_sigma, t_inference=self.t_inference)

    def _score(self, model: nn.Module, chip: SimulatedChip) -> float:
        seed = derive_seed(chip.seed, "read noise")
        return score_on_chip(model, chip, self.test, self.batch_size, self.task, seed)

    def _calibrated(self, chip: SimulatedChip) -> float | None:
        """Return the score of the network as it was, calibrated on a chip."""
        if self.calibration is None:
            return None
        measurement, device = Score(self.task), device_of(self.model)
        with chip.put_on(self.model):
            seed_random_state(derive_seed(chip.seed, "calibration"), device)
            with self.calibration(self.model):
                seed_random_state(derive_seed(chip.seed, "read noise"), device)
                found = measurement(self.model, self.test, self.batch_size)
                return finite_score(found["loss"], found["score"])

    def _tuned(self, chip: SimulatedChip) -> nn.Module:
        """Return a copy to tune; with correctors that are fitted to the chip, if they are tuned."""
        model = deepcopy(self.model)
        fit = self.calibration
        if self.settings.tune != "correctors" or not isinstance(fit, WithCompensation):
            return model
        compensate(model, fit.placement, fit.corrector)
        parameters = compensation_parameters(model)
        fitted: dict[str, Tensor] = {}
        if parameters:
            seed_random_state(derive_seed(chip.seed, "calibration"), device_of(model))
            with chip.put_on(model), fit.fit(model):
                fitted = {name: p.detach().clone() for name, p in parameters.items()}
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(fitted[name])
        clear_chip(model)
        return model.eval()
