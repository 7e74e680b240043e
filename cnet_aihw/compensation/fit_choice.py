"""Start of a shared fit, and the choice of its result: the fit, its start, or no correction."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cnet_aihw.compensation.corrector import layer_shape
from cnet_aihw.compensation.saving import restore_compensation, save_compensation
from cnet_aihw.compensation.settings import FitSettings
from cnet_aihw.compensation.shared_start import fit_shared_closed_form
from cnet_aihw.compensation.wrapping import base_snapshot, compensated_layers
from cnet_aihw.evaluation.calibration import ChipCalibration
from cnet_aihw.runtime.determinism import deterministic
from cnet_aihw.runtime.fingerprint import tensors_fingerprint
from cnet_aihw.runtime.parts import as_part, gathered
from cnet_aihw.runtime.provenance import check_provenance
from cnet_aihw.runtime.random_state import derive_seed, seeded_rng
from cnet_aihw.runtime.records import read_json, read_records, write_json_atomic
from cnet_aihw.runtime.torch_device import moved_to
from cnet_aihw.tasks import Task, is_better, smoothed
from cnet_aihw.training import TrainingResult
from cnet_aihw.training.journal import EPOCHS
from cnet_aihw.training.run_identity import (
    Objective,
    TrainingData,
    absent_settings,
    run_provenance,
)
from cnet_aihw.training.validation import Validation, validate
from cnet_aihw.training.variation import injected_time

log = logging.getLogger(__name__)

_START, _START_OF = "start.safetensors", "start.json"
_CHOICE = "fit.json"
_ANOTHER = "give another folder"


@dataclass(frozen=True)
class FitResult(TrainingResult):
    """Outcome of a shared fit; scores are of what was kept, on the validation part."""

    kept: str
    """Origin of the result: "fitted", the "start" in closed form, or "none", no correction."""

    fitted_score: float | None
    """Mean score on the validation chips after the steps; None without steps or chips."""

    start_score: float | None
    """The same of the start in closed form; None without it or without chips."""

    without_score: float | None
    """The same without correction, on the same chips; None without chips."""

    training_loss: float | None
    """Mean loss of the last epoch; None where another objective was trained."""

    constant_loss: float | None
    """Loss of a constant prediction, above which a training has failed; None where the task has
    none."""


class FitChoice:
    """Start and result of one shared fit in its folder.

    Args:
        model: a compensated model.
        data: the parts of the fit.
        settings: its settings, checked.
        folder: where it is kept.
        task: loss and score; None: classification.
        calibration: calibration of each validation chip.
        device: where the fit runs.
    """

    def __init__(
        self,
        model: nn.Module,
        data: TrainingData,
        settings: FitSettings,
        folder: Path,
        task: Task | None,
        calibration: ChipCalibration | None,
        device: torch.device,
    ) -> None:
        self.model, self.data, self.settings, self.folder = model, data, settings, folder
        self.task = smoothed(task, settings.label_smoothing)
        self.calibration, self.device = calibration, device
        self.seconds = 0.0
        self._absent = absent_settings(settings)

    def check_earlier(self, objective: Objective | None) -> None:
        """Check that a result in the folder is this fit's.

        A training checks its folder itself, but does not know of a fit without steps.

        Raises:
            CnetError: where it was made from something else.
        """
        path = self.folder / _CHOICE
        made_from = read_json(path)["provenance"] if path.exists() else None
        if made_from is not None or (path.exists() and self.settings.epochs == 0):
            asked = self._provenance(objective)
            check_provenance(made_from or {}, asked, self.folder, _ANOTHER, self._absent)

    def put_start(self) -> None:
        """Give the correctors their first weights; those of an earlier call, where it made any.

        Raises:
            CnetError: where an earlier call made them from something else.
        """
        settings, path = self.settings, self.folder / _START
        if settings.start == "identity":
            return
        made_from, described = self._provenance(None), self.folder / _START_OF
        if described.exists():
            check_provenance(read_json(described), made_from, path, _ANOTHER, self._absent)
            restore_compensation(self.model, path)
            return
        begin = time.perf_counter()
        x = gathered(as_part(self.data.train), settings.start_samples).x
        chips = [derive_seed(settings.seed, "start chip", n) for n in range(settings.start_chips)]
        device = self.device
        with (
            moved_to(self.model, device), deterministic(device),
        ):  # fmt: skip
            layers = fit_shared_closed_form(
                self.model,
                x,
                chips,
                noise_model=settings.variation.noise_model,
                t_inference=injected_time(self.model),
                batch_statistics=settings.batchnorm == "per_chip",
            )
        self.seconds = time.perf_counter() - begin
        if layers:
            save_compensation(self.model, path)
            write_json_atomic(described, made_from)

    def choose(self, trained: TrainingResult | None, objective: Objective | None) -> FitResult:
        """Put the best of fit, start and no correction into the model; return what was kept.

        They are compared by the mean score on the same validation chips; without any, the fit (or
        without steps its start) is kept.

        Args:
            trained: result of the steps, whose weights are in the model; None without steps.
            objective: what was trained in place of the task's loss, if anything.
        """
        path = self.folder / _CHOICE
        if path.exists():
            record = read_json(path)
            self._put(record["result"]["kept"])
            return FitResult(folder=self.folder, **record["result"])
        provenance = self._provenance(objective) if trained is None else None
        result = self._compared(trained, objective)
        write_json_atomic(path, {"result": result.as_record(), "provenance": provenance})
        return result

    def _compared(self, trained: TrainingResult | None, objective: Objective | None) -> FitResult:
        has_start, chips = (self.folder / _START).exists(), self.settings.validation_chips > 0
        own, fitted = "start" if trained is None else "fitted", self._weights()
        scores: dict[str, Validation] = {}
        if trained is not None:
            scores[own] = Validation(
                trained.best_epoch, trained.clean_score, trained.chip_score, trained.chip_std
            )
            if chips and trained.chip_score is None:  # not due after the epoch that was selected
                scores[own] = self._validated()
        others = ["start"] if trained is None or (has_start and chips) else []
        for name in (*others, *(["none"] if chips else [])):
            self._put(name)
            scores[name] = self._validated()
        kept = own
        for name, validation in scores.items():
            best, new = scores[kept].chip_score, validation.chip_score
            if new is not None and (best is None or is_better(self.task, new, best)):
                kept = name
        self._put_weights(fitted)
        self._put(kept)
        if kept == "none":
            log.warning(
                "the correctors that were fitted are worse than none on the validation chips, and "
                "none are kept; more chips or other settings may help."
            )
        chosen, loss = scores[kept], self._last_loss(objective) if trained else None
        constant = self._constant_loss()
        if loss is not None and constant is not None and loss > constant:
            log.warning(
                "the fit ended with a loss of %.3g, above the %.3g of a constant prediction: a "
                "failure of optimisation; a lower learning rate may help.",
                *(loss, constant),
            )
        base = trained or TrainingResult(
            self.folder, self.settings.name, 0, False, 0, self.task.metric, chosen.clean_score,
            None, None, None, self.seconds,
        )  # fmt: skip
        values = {name: getattr(base, name) for name in base.__dataclass_fields__}
        values |= {
            "clean_score": chosen.clean_score,
            "chip_score": chosen.chip_score,
            "chip_std": chosen.chip_std,
        }
        reached = {name: one.chip_score for name, one in scores.items()}
        return FitResult(
            **values,
            kept=kept,
            fitted_score=reached.get("fitted"),
            start_score=reached.get("start") if has_start else None,
            without_score=reached.get("none"),
            training_loss=loss,
            constant_loss=constant,
        )

    def _validated(self) -> Validation:
        once = replace(self.settings, epochs=1, validate_every=1, warmup_epochs=0.0)
        with moved_to(self.model, self.device):
            return validate(
                self.model.eval(),
                as_part(self.data.val),
                once,
                0,
                task=self.task,
                calibration=self.calibration,
                device=self.device,
                analog=True,
            )

    def _put(self, kept: str) -> None:
        """Put weights into the correctors by name; those fitted are in them already."""
        if kept == "none":
            self._put_weights(_identity(self.model, self.settings.seed))
        elif kept == "start" and (self.folder / _START).exists():
            restore_compensation(self.model, self.folder / _START)

    def _weights(self) -> dict[str, dict[str, Tensor]]:
        return {
            name: {n: tensor.clone() for n, tensor in w.corrector_module.state_dict().items()}
            for name, w in compensated_layers(self.model).items()
        }

    def _put_weights(self, weights: dict[str, dict[str, Tensor]]) -> None:
        for name, wrapper in compensated_layers(self.model).items():
            wrapper.corrector_module.load_state_dict(weights[name])

    def _last_loss(self, objective: Objective | None) -> float | None:
        records = read_records(self.folder / EPOCHS)
        return records[-1]["fit"] if records and objective is None else None

    def _constant_loss(self) -> float | None:
        constant = getattr(self.task, "constant_loss", None)
        if constant is None:
            return None
        value: float = constant(gathered(as_part(self.data.train).first(1000)).y)
        return value

    def _provenance(self, objective: Objective | None) -> dict[str, Any]:
        parts = {"train": as_part(self.data.train), "val": as_part(self.data.val)}
        made_from = run_provenance(
            self.model,
            self.data,
            parts,
            self.settings,
            task=self.task,
            calibration=self.calibration,
            objective=objective,
            device=self.device,
            analog=True,
        )
        return {**made_from, "weights": tensors_fingerprint(base_snapshot(self.model))}


def _identity(model: nn.Module, seed: int) -> dict[str, dict[str, Tensor]]:
    """Return weights with which each corrector changes nothing."""
    weights = {}
    for name, wrapper in compensated_layers(model).items():
        with seeded_rng(derive_seed(seed, "compensation", name)):
            built = wrapper.corrector.build(layer_shape(wrapper.base_layer), wrapper.size)
        weights[name] = dict(built.state_dict())
    return weights
