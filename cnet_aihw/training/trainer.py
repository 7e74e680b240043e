"""One run: its steps, epochs and checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cnet_aihw.evaluation.calibration import ChipCalibration
from cnet_aihw.evaluation.metrics import new_metric
from cnet_aihw.rram import binary_weights, load_snapshot, snapshot, trainable_parameters
from cnet_aihw.runtime.device_parts import placed
from cnet_aihw.runtime.inputs import Inputs, channels_last, map_tensors
from cnet_aihw.runtime.parts import Part, gathered
from cnet_aihw.runtime.progress import progress_bar
from cnet_aihw.runtime.random_state import derive_seed, seed_random_state
from cnet_aihw.tasks import Task
from cnet_aihw.tasks.base import counted
from cnet_aihw.training.checkpoint import (
    Checkpoint,
    all_finite,
    load_checkpoint,
    load_optimizer_tensors,
    optimizer_tensors,
    save_checkpoint,
)
from cnet_aihw.training.group import Group
from cnet_aihw.training.journal import Journal, epoch_record
from cnet_aihw.training.lipschitz import LipschitzPenalty, following_batchnorms, spectral_norms
from cnet_aihw.training.optim import learning_rate, make_optimizer
from cnet_aihw.training.run_identity import Augment, Objective
from cnet_aihw.training.settings import TrainingSettings
from cnet_aihw.training.state import EpochSums, RunState, TrainingDiverged, TrainingResult, diverged
from cnet_aihw.training.step import backward, enter_training_mode
from cnet_aihw.training.validation import Validation, counts, is_better, validate
from cnet_aihw.training.variation import (
    clip_after_steps,
    held_chip,
    hold_again,
    let_chip_go,
    set_share,
    training_variation,
)

CHECKPOINT = "checkpoint.safetensors"
BEST = "best.safetensors"
_CUDA_LOOK = 25  # steps between looks at the loss on CUDA, where each look waits for the device


class Trainer:
    """One training run under way.

    Args:
        model: the network, on ``device``.
        parts: training and validation part, as "train" and "val".
        settings: how to train, checked.
        folder: where the run is kept.
        task: loss and score.
        augment: random change of training batches, or None.
        calibration: what is calibrated on each validation chip, or None.
        objective: a loss in place of the task's, or None.
        device: where the model is.
        analog: whether the model has analog layers.
        lambda_: singular value of the Lipschitz penalty, or None without it.
        group: the processes that train together, or None for this one alone.
    """

    def __init__(
        self,
        model: nn.Module,
        parts: dict[str, Part],
        settings: TrainingSettings,
        folder: Path,
        *,
        task: Task,
        augment: Augment | None,
        calibration: ChipCalibration | None,
        objective: Objective | None,
        device: torch.device,
        analog: bool,
        lambda_: float | None,
        group: Group | None = None,
    ) -> None:
        self.group = group
        self.model, self.settings, self.folder, self.device = model, settings, folder, device
        self.analog, self.lambda_ = analog, lambda_
        self.task, self.objective, self.augment = task, objective, augment
        self.calibration = calibration
        self.part = placed(parts["train"], device, images_last=False)
        self.validation_part = placed(parts["val"], device)
        full, rest = divmod(len(self.part), settings.batch_size)
        self.steps = full + (rest > 1 or full == 0)  # BatchNorm has no use for a single sample
        self.parameters = trainable_parameters(model)
        binary = binary_weights(model) if settings.optimizer == "bayes_binary" else []
        self.optimizer = make_optimizer(settings, self.parameters, binary, len(self.part))
        clip_after_steps(model, self.optimizer)
        self.penalty, self.state = self._make_penalty(), RunState.start()
        # such as causal masks and observers; parameters are finite here
        self.infinite = {n for n, t in snapshot(model).items() if not all_finite({n: t})}
        self.saved_at = time.monotonic()
        self.loss_name = task.loss_name if objective is None else "objective"
        self._unread: list[tuple[int, int, Tensor]] = []  # step, samples, its three sums

    def start(self) -> None:
        """Begin from scratch: seeds, and the first checkpoint."""
        seed_random_state(derive_seed(self.settings.seed, "training"), self.device)
        self._save()

    def resume(self) -> None:
        """Resume from the last checkpoint."""
        checkpoint = load_checkpoint(self.folder / CHECKPOINT)
        load_snapshot(self.model, checkpoint.model)
        load_optimizer_tensors(self.optimizer, checkpoint.optimizer)
        torch.set_rng_state(checkpoint.rng["cpu"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(checkpoint.rng["cuda"], self.device)
        self.state = RunState.from_record(checkpoint.meta["state"])
        hold_again(self.model, self.settings, self.global_step(), checkpoint.held)

    def finish(self, progress: bool) -> TrainingResult:
        """Run all epochs that are left; the selected weights are in the model afterwards."""
        settings, state = self.settings, self.state
        if settings.epochs == 0:
            state.best = state.last = self._validated(-1)
        journal = Journal(self.folder, state.epoch)
        total, done = settings.epochs * self.steps, self.global_step()
        try:
            with progress_bar(settings.name, total, done, progress) as advance:
                while state.epoch < settings.epochs and not state.stopped_early:
                    self._run_epoch(journal, advance)
            return self._select()
        except BaseException:
            load_snapshot(self.model, load_checkpoint(self.folder / CHECKPOINT).model)
            raise
        finally:
            journal.close()
            if self.analog:
                let_chip_go(self.model)
            self.model.eval()
            self.optimizer.zero_grad()

    def _run_epoch(self, journal: Journal, advance: Callable[[int, str], None]) -> None:
        settings, state = self.settings, self.state
        begin = time.perf_counter() - state.sums.seconds
        if self.group is not None:
            self.group.begin_epoch(state.epoch, state.step, self.model, self.optimizer)

        def after() -> None:
            state.sums.seconds = time.perf_counter() - begin
            if time.monotonic() - self.saved_at >= settings.checkpoint_seconds:
                self._save()
            advance(1, self._standing())

        self.take_steps(after)
        self._read_sums()
        self._end_epoch(journal, begin)

    def take_steps(self, after: Callable[[], None]) -> None:
        """Take the steps that are left in the epoch; ``after`` is called after each."""
        settings, state = self.settings, self.state
        seed = derive_seed(settings.seed, "order", state.epoch)
        batches = self.part.shuffled(settings.batch_size, seed, state.step)
        enter_training_mode(self.model, settings)
        with training_variation(self.model, settings):
            for inputs, targets in islice(batches, self.steps - state.step):
                self._step(inputs, targets)
                state.step += 1
                after()

    def _step(self, inputs: Inputs, targets: Tensor) -> None:
        """Take one optimizer step on a batch."""
        settings, state, number = self.settings, self.state, self.global_step()
        if self.augment is not None:
            seed = derive_seed(settings.seed, "augment", state.epoch, state.step)
            inputs = self.augment(inputs, torch.Generator().manual_seed(seed))
        if settings.channels_last:
            inputs = map_tensors(inputs, channels_last)
        set_share(self.model, settings, number, self.steps)
        samples = len(targets)
        weight: Tensor | float = 1.0
        if self.group is not None:
            inputs, targets, weight = self.group.share(inputs, targets, self._counted)
        metric = new_metric(self.task, self.device)
        self.optimizer.zero_grad(set_to_none=True)
        fit, penalty = backward(
            self.model, inputs, targets, settings, number, self._loss, metric.update,
            self.penalty, self._counted,
        )  # fmt: skip
        score = torch.as_tensor(metric.compute(), device=self.device)
        sums = [fit, score] if penalty is None else [fit, score, penalty]
        row = torch.stack([s.double() for s in sums])
        if self.group is not None:
            row = self.group.add_up(self.parameters, row, weight)
        self._unread.append((state.step, samples, row))
        if self.device.type != "cuda" or len(self._unread) >= _CUDA_LOOK:
            self._read_sums()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(settings, number, self.steps)
        if settings.grad_clip is not None:
            nn.utils.clip_grad_norm_(self.parameters, settings.grad_clip)
        self.optimizer.step()

    def _loss(self, outputs: Any, targets: Tensor, inputs: Inputs) -> Tensor:
        if self.objective is not None:
            return self.objective(outputs, targets, inputs)
        return self.task.loss(outputs, targets)

    def _counted(self, targets: Tensor) -> Tensor | int:
        return counted(self.task, targets) if self.objective is None else len(targets)

    def _read_sums(self) -> None:
        """Add the steps not yet looked at to the epoch's sums, and stop if one is not finite."""
        if not self._unread:
            return
        sums, rows = self.state.sums, torch.stack([row for _, _, row in self._unread]).tolist()
        for (step, samples, _), (fit, score, *penalty) in zip(self._unread, rows, strict=True):
            for part, value in ((self.loss_name, fit), ("penalty", sum(penalty))):
                if not math.isfinite(value):
                    raise self._diverged(step, part, value)
            sums.samples += samples
            sums.fit += fit * samples
            scored = math.isfinite(score)  # not so of a batch in which no target counts
            sums.score += score * samples if scored else 0.0
            sums.unscored += 0 if scored else samples
            sums.penalty += sum(penalty) * samples
        self._unread.clear()

    def _end_epoch(self, journal: Journal, begin: float) -> None:
        """Validate, keep the best weights, write the epoch's record, checkpoint."""
        settings, state = self.settings, self.state
        tensors = self._checked_snapshot()
        validation = self._validated(state.epoch)
        counted = counts(validation, settings, self.analog)
        if counted and is_better(validation, state.best, settings, self.task):
            state.best = validation
            if settings.select != "last":
                self._save_best(tensors)
        state.last = validation
        state.sums.seconds = time.perf_counter() - begin
        folded = {} if self.penalty is None else self.penalty.batchnorms
        norms = spectral_norms(self.model, folded) if self.analog else {}
        lr = learning_rate(settings, self.global_step() - 1, self.steps)
        record = epoch_record(settings, state, self.task.metric, self.loss_name, lr)
        journal.write(record, norms, self.lambda_)
        if settings.patience is not None and counted and state.best is not None:
            waited = state.epoch - state.best.epoch
            state.stopped_early = waited >= settings.patience and state.epoch + 1 < settings.epochs
        state.seconds += state.sums.seconds
        state.epoch, state.step, state.sums = state.epoch + 1, 0, EpochSums()
        self._save(tensors)

    def _validated(self, epoch: int) -> Validation:
        return validate(
            self.model,
            self.validation_part,
            self.settings,
            epoch,
            task=self.task,
            calibration=self.calibration,
            device=self.device,
            analog=self.analog,
        )

    def _standing(self) -> str:
        """Return a few words for the progress bar."""
        text = f"epoch {self.state.epoch + 1}/{self.settings.epochs}"
        if self.state.last is not None:
            text += f", clean {self.task.format(self.state.last.clean_score)}"
            if self.state.last.chip_score is not None:
                text += f", chips {self.task.format(self.state.last.chip_score)}"
        return text

    def _select(self) -> TrainingResult:
        """Put the selected epoch's weights into the model."""
        settings, state = self.settings, self.state
        chosen = None if settings.select == "last" or settings.epochs == 0 else state.best
        if chosen is None:  # also where no epoch could be compared, since all chips failed
            chosen = state.last
            self._save_best(self._checked_snapshot())
        assert chosen is not None
        load_snapshot(self.model, load_checkpoint(self.folder / BEST).model)
        return TrainingResult(
            folder=self.folder,
            name=settings.name,
            epochs=state.epoch,
            stopped_early=state.stopped_early,
            best_epoch=chosen.epoch,
            metric=self.task.metric,
            clean_score=chosen.clean_score,
            chip_score=chosen.chip_score,
            chip_std=chosen.chip_std,
            lambda_=self.lambda_,
            seconds=state.seconds,
        )

    def _save(self, tensors: dict[str, Tensor] | None = None) -> None:
        """Write the checkpoint, of a snapshot that is checked already or of one taken now."""
        self._read_sums()
        rng = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            rng["cuda"] = torch.cuda.get_rng_state(self.device)
        checkpoint = Checkpoint(
            model=self._checked_snapshot() if tensors is None else tensors,
            meta={"state": self.state.as_record()},
            optimizer=optimizer_tensors(self.optimizer),
            rng=rng,
            held=held_chip(self.model),
        )
        save_checkpoint(self.folder / CHECKPOINT, checkpoint)
        self.saved_at = time.monotonic()

    def _save_best(self, tensors: dict[str, Tensor]) -> None:
        best = None if self.settings.select == "last" else self.state.best
        chosen = best or self.state.last
        assert chosen is not None
        meta = {"name": self.settings.name, "validation": asdict(chosen)}
        save_checkpoint(self.folder / BEST, Checkpoint(tensors, meta))

    def _checked_snapshot(self) -> dict[str, Tensor]:
        """Return a snapshot; weights that are not finite are never kept."""
        tensors = snapshot(self.model)
        if not all_finite({n: t for n, t in tensors.items() if n not in self.infinite}):
            raise self._diverged(self.state.step - 1, "weights", math.nan)
        return tensors

    def _make_penalty(self) -> LipschitzPenalty | None:
        if self.lambda_ is None:
            return None
        lipschitz, batchnorms = self.settings.lipschitz, None
        if lipschitz.fold_batchnorm:
            batchnorms = following_batchnorms(self.model, gathered(self.part.first(2)).x)
        return LipschitzPenalty(
            self.model, self.lambda_, lipschitz.exclude, batchnorms, lipschitz.gram,
            lipschitz.probes,
        )  # fmt: skip

    def global_step(self) -> int:
        """Return the number of the next step in the run."""
        return self.state.epoch * self.steps + self.state.step

    def _diverged(self, step: int, what: str, value: float) -> TrainingDiverged:
        where = f"step {step} of epoch {self.state.epoch}"
        return diverged(self.settings.name, where, what, value, self.folder / CHECKPOINT)
