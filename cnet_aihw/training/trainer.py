"""One run: its steps, epochs and checkpoints."""

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cnet_aihw.evaluation.metrics import channels_last
from cnet_aihw.rram import load_snapshot, snapshot, trainable_parameters
from cnet_aihw.runtime.progress import progress_bar
from cnet_aihw.runtime.random_state import derive_seed, seed_random_state
from cnet_aihw.training.checkpoint import (
    Checkpoint,
    all_finite,
    load_checkpoint,
    load_optimizer_tensors,
    optimizer_tensors,
    save_checkpoint,
)
from cnet_aihw.training.following_batchnorm import following_batchnorms
from cnet_aihw.training.journal import Journal
from cnet_aihw.training.lipschitz import LipschitzPenalty, spectral_norms
from cnet_aihw.training.optim import learning_rate, make_optimizer
from cnet_aihw.training.result import TrainingDiverged, TrainingResult
from cnet_aihw.training.run_identity import TrainingData
from cnet_aihw.training.settings import TrainingSettings
from cnet_aihw.training.state import EpochSums, RunState
from cnet_aihw.training.validation import counts, is_better, validate
from cnet_aihw.training.variation import (
    held_offsets,
    hold_chip,
    let_chip_go,
    put_held_offsets,
    ramp_variation,
    training_variation,
)

CHECKPOINT = "checkpoint.safetensors"
BEST = "best.safetensors"
_CUDA_LOOK = 25  # steps between looks at the loss on CUDA, where each look waits for the device


class Run:
    """One training run on its way.

    Args:
        model: the network, on ``device``.
        data: training and validation part.
        settings: how to train, checked.
        folder: where the run is kept.
        device: where the model and the data are.
        analog: whether the model has analog layers.
        lambda_: singular value of the Lipschitz penalty, or None without it.
        objective: a loss in place of the cross entropy.
    """

    def __init__(
        self,
        model: nn.Module,
        data: TrainingData,
        settings: TrainingSettings,
        folder: Path,
        device: torch.device,
        analog: bool,
        lambda_: float | None,
        objective: Callable[[Tensor, Tensor, Tensor], Tensor] | None,
    ) -> None:
        self.model, self.settings, self.folder, self.device = model, settings, folder, device
        self.analog, self.lambda_, self.objective = analog, lambda_, objective
        self.augment = data.augment
        self.x, self.y = data.train.x.to(device), data.train.y.to(device)
        self.validation_data = (data.val.x.to(device), data.val.y.to(device))
        full, rest = divmod(len(self.x), settings.batch_size)
        self.steps = full + (rest > 1 or full == 0)  # BatchNorm has no use for a single sample
        self.parameters = trainable_parameters(model)
        self.optimizer = make_optimizer(settings, self.parameters)
        self.penalty = self._make_penalty()
        self.state = RunState.start()
        self.saved_at = time.monotonic()
        self.part = "cross_entropy" if objective is None else "objective"
        self._unread: list[tuple[int, int, Tensor]] = []  # step, samples, its three sums

    def start(self) -> None:
        """Begin anew: seeds, and the first checkpoint."""
        seed_random_state(derive_seed(self.settings.seed, "training"), self.device)
        self._save()

    def resume(self) -> None:
        """Go on where the last checkpoint stands."""
        checkpoint = load_checkpoint(self.folder / CHECKPOINT)
        load_snapshot(self.model, checkpoint.model)
        load_optimizer_tensors(self.optimizer, checkpoint.optimizer)
        torch.set_rng_state(checkpoint.rng["cpu"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(checkpoint.rng["cuda"], self.device)
        self.state = RunState.from_record(checkpoint.meta["state"])
        per_chip = self.settings.variation.steps_per_chip
        if self.settings.variation.enabled and per_chip and self._global_step() % per_chip:
            with training_variation(self.model, self.settings):
                hold_chip(self.model, self.settings, self._global_step())
            put_held_offsets(self.model, checkpoint.held)

    def finish(self, progress: bool) -> TrainingResult:
        """Run all epochs that are left; the selected weights are in the model afterwards."""
        settings, state = self.settings, self.state
        journal = Journal(self.folder, state.epoch)
        total, done = settings.epochs * self.steps, self._global_step()
        try:
            with (
                _deterministic(self.device),
                progress_bar(settings.name, total, done, progress) as advance,
            ):
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
        generator = torch.Generator().manual_seed(derive_seed(settings.seed, "order", state.epoch))
        order = torch.randperm(len(self.x), generator=generator).to(self.device)
        self.model.train()
        if settings.freeze_batchnorm:
            for module in self.model.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        with training_variation(self.model, settings):
            for step in range(state.step, self.steps):
                chosen = order[step * settings.batch_size : (step + 1) * settings.batch_size]
                self._step(self.x[chosen], self.y[chosen])
                state.step = step + 1
                state.sums.seconds = time.perf_counter() - begin
                if time.monotonic() - self.saved_at >= settings.checkpoint_seconds:
                    self._save()
                advance(1, self._standing())
        self._read_sums()
        self._end_epoch(journal, begin)

    def _step(self, x: Tensor, y: Tensor) -> None:
        """One optimizer step on a batch, x [N, ...] and y [N]."""
        settings, state, number = self.settings, self.state, self._global_step()
        if self.augment is not None:
            seed = derive_seed(settings.seed, "augment", state.epoch, state.step)
            x = self.augment(x, torch.Generator().manual_seed(seed))
        if settings.channels_last:
            x = channels_last(x)
        per_chip = settings.variation.steps_per_chip
        if settings.variation.enabled and per_chip and number % per_chip == 0:
            hold_chip(self.model, settings, number)
        ramp_variation(self.model, settings, number, self.steps)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=settings.bf16):
            logits = self.model(x)
        logits = logits.float()
        if self.objective is not None:
            fit = self.objective(logits, y, x)
        else:
            fit = F.cross_entropy(logits, y, label_smoothing=settings.label_smoothing)
        loss, penalty = fit, None
        if self.penalty is not None:
            penalty = self.penalty()
            loss = fit + settings.lipschitz.beta * penalty
        with torch.no_grad():
            correct = (logits.argmax(1) == y).sum()
            sums = [fit, correct] if penalty is None else [fit, correct, penalty]
            self._unread.append((state.step, len(x), torch.stack([s.float() for s in sums])))
        if self.device.type != "cuda" or len(self._unread) >= _CUDA_LOOK:
            self._read_sums()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(settings, number, self.steps)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if settings.grad_clip is not None:
            nn.utils.clip_grad_norm_(self.parameters, settings.grad_clip)
        self.optimizer.step()

    def _read_sums(self) -> None:
        """Add the steps not yet looked at to the epoch's sums, and stop if one is not finite."""
        if not self._unread:
            return
        sums, rows = self.state.sums, torch.stack([row for _, _, row in self._unread]).tolist()
        for (step, samples, _), (fit, correct, *penalty) in zip(self._unread, rows, strict=True):
            for part, value in ((self.part.replace("_", " "), fit), ("penalty", sum(penalty))):
                if not math.isfinite(value):
                    raise self._diverged(step, f"{part} is {value}")
            sums.samples += samples
            sums.cross_entropy += fit * samples
            sums.correct += correct
            sums.penalty += sum(penalty) * samples
        self._unread.clear()

    def _end_epoch(self, journal: Journal, begin: float) -> None:
        """Validate, keep the best weights, write the epoch's record, checkpoint."""
        settings, state = self.settings, self.state
        if not all_finite(snapshot(self.model)):
            raise self._diverged(self.steps - 1, "network's weights are not finite")
        validation = validate(
            self.model, self.validation_data, settings, state.epoch, self.device, self.analog
        )
        counted = counts(validation, settings, self.analog)
        if counted and is_better(validation, state.best, settings):
            state.best = validation
            if settings.select != "last":
                self._save_best()
        state.last = validation
        state.sums.seconds = time.perf_counter() - begin
        norms = {}
        if self.analog:
            norms = spectral_norms(
                self.model, {} if self.penalty is None else self.penalty.batchnorms
            )
        journal.write(self._epoch_record(), norms, self.lambda_)
        if settings.patience is not None and counted and state.best is not None:
            waited = state.epoch - state.best.epoch
            state.stopped_early = waited >= settings.patience and state.epoch + 1 < settings.epochs
        state.seconds += state.sums.seconds
        state.epoch, state.step, state.sums = state.epoch + 1, 0, EpochSums()
        self._save()

    def _standing(self) -> str:
        """A few words for the progress bar."""
        text = f"epoch {self.state.epoch + 1}/{self.settings.epochs}"
        if self.state.last is not None:
            text += f", clean {self.state.last.clean_accuracy:.4f}"
        if self.state.last is not None and self.state.last.chip_accuracy is not None:
            text += f", chips {self.state.last.chip_accuracy:.4f}"
        return text

    def _epoch_record(self) -> dict[str, Any]:
        settings, state = self.settings, self.state
        sums, validation = state.sums, state.last
        assert validation is not None
        fit = sums.cross_entropy / sums.samples
        penalty = None if self.penalty is None else sums.penalty / sums.samples
        return {
            "epoch": state.epoch,
            "loss": fit + settings.lipschitz.beta * (penalty or 0.0),
            self.part: fit,
            "penalty": penalty,
            "train_accuracy": sums.correct / sums.samples,
            "clean_accuracy": validation.clean_accuracy,
            "chip_accuracy": validation.chip_accuracy,
            "chip_std": validation.chip_std,
            "lr": learning_rate(settings, self._global_step() - 1, self.steps),
            "seconds": sums.seconds,
        }

    def _select(self) -> TrainingResult:
        """Put the selected epoch's weights into the model."""
        settings, state = self.settings, self.state
        chosen = state.last if settings.select == "last" else state.best
        assert chosen is not None
        if settings.select == "last":
            self._save_best()
        load_snapshot(self.model, load_checkpoint(self.folder / BEST).model)
        return TrainingResult(
            folder=self.folder,
            name=settings.name,
            epochs=state.epoch,
            stopped_early=state.stopped_early,
            best_epoch=chosen.epoch,
            clean_accuracy=chosen.clean_accuracy,
            chip_accuracy=chosen.chip_accuracy,
            chip_std=chosen.chip_std,
            lambda_=self.lambda_,
            seconds=state.seconds,
        )

    def _save(self) -> None:
        """Write the checkpoint; never with weights that are not finite."""
        self._read_sums()
        tensors = snapshot(self.model)
        if not all_finite(tensors):
            raise self._diverged(self.state.step - 1, "network's weights are not finite")
        rng = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            rng["cuda"] = torch.cuda.get_rng_state(self.device)
        checkpoint = Checkpoint(
            model=tensors,
            meta={"state": self.state.as_record()},
            optimizer=optimizer_tensors(self.optimizer),
            rng=rng,
            held=held_offsets(self.model),
        )
        save_checkpoint(self.folder / CHECKPOINT, checkpoint)
        self.saved_at = time.monotonic()

    def _save_best(self) -> None:
        best = self.state.last if self.settings.select == "last" else self.state.best
        assert best is not None
        meta = {"name": self.settings.name, "validation": asdict(best)}
        save_checkpoint(self.folder / BEST, Checkpoint(snapshot(self.model), meta))

    def _make_penalty(self) -> LipschitzPenalty | None:
        if self.lambda_ is None:
            return None
        lipschitz = self.settings.lipschitz
        batchnorms = (
            following_batchnorms(self.model, self.x[:2]) if lipschitz.fold_batchnorm else None
        )
        return LipschitzPenalty(self.model, self.lambda_, lipschitz.exclude, batchnorms)

    def _global_step(self) -> int:
        return self.state.epoch * self.steps + self.state.step

    def _diverged(self, step: int, what: str) -> TrainingDiverged:
        return TrainingDiverged(
            f"Training {self.settings.name!r} diverged at step {step} of epoch {self.state.epoch}: "
            f"the {what}; the last good checkpoint is kept in {self.folder / CHECKPOINT}, and a "
            "lower lr or beta, or grad_clip, in another folder may help."
        )


def _deterministic(device: torch.device) -> Any:
    """CUDA's convolutions with the same result each time, so that a resumed run ends the same."""
    if device.type != "cuda":
        return nullcontext()
    cudnn = torch.backends.cudnn
    return cudnn.flags(
        enabled=cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=cudnn.allow_tf32
    )
