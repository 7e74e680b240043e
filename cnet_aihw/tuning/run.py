"""One run of tuning: phases of writing and steps; it survives kills."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cnet_aihw.evaluation.metrics import pass_over
from cnet_aihw.rram import load_snapshot, nominal_weight, snapshot
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.parts import Part
from cnet_aihw.runtime.random_state import derive_seed, seed_random_state
from cnet_aihw.runtime.records import write_records
from cnet_aihw.runtime.torch_device import device_of
from cnet_aihw.tasks import Task
from cnet_aihw.training.checkpoint import (
    Checkpoint,
    all_finite,
    load_checkpoint,
    load_optimizer_tensors,
    optimizer_tensors,
    save_checkpoint,
)
from cnet_aihw.tuning.cells import CellWrites
from cnet_aihw.tuning.chip import Chip
from cnet_aihw.tuning.on_chip import NetworkOnChip, finite_score
from cnet_aihw.tuning.parameters import TunedParts
from cnet_aihw.tuning.result import TuningResult
from cnet_aihw.tuning.rule import GradientRule
from cnet_aihw.tuning.settings import TuningSettings, planned_writes

CHECKPOINT, EPOCHS = "checkpoint.safetensors", "epochs.jsonl"
_MEASURED_BATCH = 500


@dataclass(frozen=True)
class Phase:
    """Steps between two changes of what is on the chip."""

    written: str | None
    """Layer that is written before them; None: all that are not yet."""

    weights: tuple[str, ...]
    """Layers whose weights are tuned."""


class TuningRun:
    """Tune a network on a chip; see ``tune_on_chip``, which checks all first."""

    def __init__(
        self,
        model: nn.Module,
        chip: Chip,
        train: Part,
        val: Part,
        settings: TuningSettings,
        task: Task,
        folder: Path,
    ) -> None:
        self.model, self.chip, self.settings, self.task = model, chip, settings, task
        self.train, self.val, self.folder = train, val, folder
        self.device = device_of(model)
        self.network = NetworkOnChip(model, chip)
        self.parts = TunedParts(model, settings.tune)
        self.example = next(iter(train.first(2).batches(2)))[0]
        with self.network.computing():
            self.order = self.network.order(self.example)
            if settings.backward in ("feedback", "random_target"):
                self.network.check_chain(self.example, f"backward={settings.backward}")
        self.cells = CellWrites(settings.max_writes)
        lived = getattr(chip, "cells", None)
        if isinstance(lived, CellWrites):
            self.cells.load(lived.state(), self.device)
        self.rule = GradientRule(self.network, settings, task, train)
        self.records: list[dict[str, Any]] = []
        self.steps = self.forwards = 0
        self.seconds = 0.0
        self.before: float | None = None
        self.at = (0, 0)  # phase and epoch that come next

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one epoch."""
        return -(-len(self.train) // self.settings.batch_size)

    def check_endurance(self) -> None:
        """Refuse more writes than a cell endures, before any work.

        Raises:
            CnetError: where they would be more.
        """
        more, cells = planned_writes(self.settings, self.steps_per_epoch), self.cells
        if self.settings.tune != "progressive":  # which tunes most layers before their write
            cells, more = deepcopy(cells), more - 1
            for name in self.order:  # cells that hold their weights already are not written
                cells.note(name, nominal_weight(self.network.layers[name]))
        cells.check(more)

    def phases(self) -> list[Phase]:
        """Return the phases in their order."""
        if self.settings.tune != "progressive":
            return [Phase(None, tuple(self.order))]
        return [Phase(name, tuple(self.order[n + 1 :])) for n, name in enumerate(self.order)]

    def run(self) -> TuningResult:
        """Tune, from the beginning or the last checkpoint."""
        optimizer = self._resume()
        with self.network.computing():
            for number, phase in enumerate(self.phases()):
                if number < self.at[0]:
                    continue
                self._phase(number, phase, optimizer)
                optimizer = None
        found = self.records[-1]
        angles = [record["angle"] for record in self.records if record["angle"] is not None]
        return TuningResult(
            tune=self.settings.tune,
            backward=self.settings.backward,
            before=self.before,
            score=found["score"],
            writes_mean=self.cells.mean,
            writes_most=self.cells.most,
            writes_total=self.cells.total,
            forwards=self.forwards,
            steps=self.steps,
            angle=math.fsum(angles) / len(angles) if angles else None,
            seconds=self.seconds,
        )

    # -- phases and epochs

    def _phase(self, number: int, phase: Phase, state: dict[str, Tensor] | None) -> None:
        tuned = [p for name in phase.weights for p in self.parts.weights[name]]
        tuned += self.parts.digital
        if self.at[1] == 0:
            begun = time.perf_counter()
            for name in self.order if phase.written is None else [phase.written]:
                self._write(name)
            if phase.written is None:
                self.before = self._score()
            self.seconds += time.perf_counter() - begun
        if not tuned:  # all is written, and nothing digital
            self._finish_epoch(number, 0, phase, None, None, time.perf_counter(), None)
            return
        with self.parts.alone(tuned):
            optimizer = self._optimizer(tuned)
            if state:
                load_optimizer_tensors(optimizer, state)
            for epoch in range(self.at[1], self.settings.epochs):
                begun = time.perf_counter()
                loss, angle = self._epoch(number, epoch, phase, tuned, optimizer)
                self._finish_epoch(number, epoch, phase, loss, angle, begun, optimizer)

    def _epoch(
        self,
        number: int,
        epoch: int,
        phase: Phase,
        tuned: list[nn.Parameter],
        optimizer: torch.optim.Optimizer,
    ) -> tuple[float, float | None]:
        settings = self.settings
        seed_random_state(derive_seed(settings.seed, "tuning", number, epoch), self.device)
        total, angle, last = torch.zeros((), device=self.device), None, self.steps_per_epoch - 1
        order = derive_seed(settings.seed, "order", number, epoch)
        with self._software_varied(phase):
            for step, (inputs, targets) in enumerate(
                self.train.shuffled(settings.batch_size, order)
            ):
                if step == 0 and settings.angles:
                    angle = self.rule.angle(inputs, targets, tuned, self.steps)
                at = epoch * self.steps_per_epoch + step
                whole = settings.epochs * self.steps_per_epoch
                for group in optimizer.param_groups:
                    group["lr"] = settings.lr * (1.0 + math.cos(math.pi * at / whole)) / 2.0
                optimizer.zero_grad()
                loss = self.rule.add_gradients(inputs, targets, tuned, self.steps)
                total += len(targets) * loss
                optimizer.step()
                self.steps += 1
                self.forwards += len(targets) * (1 + (settings.backward == "perturbation"))
                due = (at + 1) % settings.write_every == 0 or (
                    step == last and epoch == settings.epochs - 1
                )
                if settings.tune == "all" and due:
                    for name in self.order:
                        self._write(name)
        found = {str(n): p.detach() for n, p in enumerate(tuned)}
        if not all_finite({"loss": total, **found}):
            raise self._diverged(f"in epoch {epoch}")
        return float(total) / len(self.train), angle

    @contextmanager
    def _software_varied(self, phase: Phase) -> Iterator[None]:
        """Let layers that are still in software see variation inside the block, if asked for."""
        tiles = []
        if self.settings.tune == "progressive" and self.settings.variation:
            tiles = [t for name in phase.weights for t in self.network.layers[name].tiles()]
        with ExitStack() as undo:
            for tile in tiles:
                config = tile.rpu_config
                ranges = config.pre_post.input_range
                tile.train()
                undo.callback(tile.eval)
                for owner, name, value in (
                    (config.variation, "enabled", True),
                    (ranges, "init_from_data", 0),  # the chip's are those from before the tuning
                ):
                    undo.callback(setattr, owner, name, getattr(owner, name))
                    setattr(owner, name, value)
            yield

    # -- the chip

    def _write(self, name: str) -> None:
        weight = nominal_weight(self.network.layers[name]).detach().clone()
        if not all_finite({name: weight}):  # before a cell is asked for it
            raise self._diverged(f"before layer {name!r} was written again")
        self.cells.note(name, weight)
        self.chip.write(name, weight)
        self.network.written.add(name)

    def _diverged(self, when: str) -> CnetError:
        fix = "give a smaller tuning.lr"
        return CnetError(
            f"tuning diverged {when}: loss or parameters are not finite; {fix}.",
            key="tuning.lr",
            value=self.settings.lr,
            fix=fix,
        )

    def _score(self) -> float:
        seed_random_state(derive_seed(self.settings.seed, "validation"), self.device)
        return finite_score(*pass_over(self.model, self.val, _MEASURED_BATCH, self.task))

    def _optimizer(self, tuned: list[nn.Parameter]) -> torch.optim.Optimizer:
        if self.settings.optimizer == "sgd":
            return torch.optim.SGD(tuned, lr=self.settings.lr, momentum=0.9)
        return torch.optim.Adam(tuned, lr=self.settings.lr)

    # -- checkpoints

    def _finish_epoch(
        self,
        number: int,
        epoch: int,
        phase: Phase,
        loss: float | None,
        angle: float | None,
        begun: float,
        optimizer: torch.optim.Optimizer | None,
    ) -> None:
        score = self._score()
        seconds = time.perf_counter() - begun
        self.seconds += seconds
        self.records.append(
            {
                "phase": number,
                "written": len(self.network.written),
                "layer": phase.written,
                "epoch": epoch,
                "loss": loss,
                "score": score,
                "angle": angle,
                "writes_mean": self.cells.mean,
                "writes_most": self.cells.most,
                "forwards": self.forwards,
                "seconds": seconds,
            }
        )
        ended = optimizer is None or epoch + 1 == self.settings.epochs
        self.at = (number + 1, 0) if ended else (number, epoch + 1)
        self._save(None if ended else optimizer)
        write_records(self.folder / EPOCHS, self.records)

    def _save(self, optimizer: torch.optim.Optimizer | None) -> None:
        state = self.chip.state() if hasattr(self.chip, "state") else {}
        meta = {
            "at": list(self.at),
            "written": sorted(self.network.written),
            "records": self.records,
            "before": self.before,
            "steps": self.steps,
            "forwards": self.forwards,
            "seconds": self.seconds,
        }
        held = {
            **{f"cells:{name}": tensor for name, tensor in self.cells.state().items()},
            **{f"chip:{name}": tensor for name, tensor in state.items()},
        }
        tensors = {} if optimizer is None else optimizer_tensors(optimizer)
        save_checkpoint(
            self.folder / CHECKPOINT,
            Checkpoint(snapshot(self.model), meta, optimizer=tensors, held=held),
        )

    def _resume(self) -> dict[str, Tensor] | None:
        path = self.folder / CHECKPOINT
        if not path.exists():
            return None
        kept = load_checkpoint(path)
        load_snapshot(self.model, kept.model)
        meta = kept.meta
        self.at = (meta["at"][0], meta["at"][1])
        self.network.written = set(meta["written"])
        self.records, self.before = meta["records"], meta["before"]
        self.steps, self.forwards = meta["steps"], meta["forwards"]
        self.seconds = meta["seconds"]

        def of(kind: str) -> dict[str, Tensor]:
            return {n.partition(":")[2]: t for n, t in kept.held.items() if n.startswith(kind)}

        self.cells.load(of("cells:"), self.device)
        if hasattr(self.chip, "load"):
            self.chip.load(of("chip:"))
        elif self.at[0] < len(self.phases()):
            self._write_again()
        write_records(self.folder / EPOCHS, self.records)
        return kept.optimizer

    def _write_again(self) -> None:
        """Bring a chip that cannot go back to the checkpoint, and count what the kill left open."""
        writes = planned_writes(self.settings, self.steps_per_epoch) - 1
        lost = -(-writes // self.settings.epochs)  # with other parts than all none is
        for name in sorted(self.network.written):
            weight = self.cells.weights[name]
            self.cells.counts[name] += lost
            self.cells.weights[name] = torch.full_like(weight, math.nan)
            self.cells.note(name, weight)
            self.chip.write(name, weight)
