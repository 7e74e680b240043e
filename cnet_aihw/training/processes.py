"""Several processes that train one network: their start, and what all but the first one do."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from cnet_aihw.cluster.sending import cannot_be_sent
from cnet_aihw.rram import load_snapshot
from cnet_aihw.runtime.determinism import deterministic
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.torch_device import moved_to
from cnet_aihw.runtime.values import check_count
from cnet_aihw.training.checkpoint import load_optimizer_tensors
from cnet_aihw.training.group import Group
from cnet_aihw.training.trainer import Trainer
from cnet_aihw.training.variation import hold_again

_WAIT = timedelta(days=7)  # the others wait while the first one validates
_MOST = 256
_HELP = "from cnet_aihw.training.processes import help_training; help_training()"


def check_processes(processes: int, device: torch.device) -> None:
    """Check that a training can have so many processes.

    Raises:
        CnetError: for less than one, too many, or on CUDA more than there are GPUs.
    """
    check_count("processes", processes, most=_MOST)
    if processes > 1 and device.type == "cuda" and torch.cuda.device_count() < processes:
        there = torch.cuda.device_count()
        raise bad_value("processes", processes, f"at most {there}, one for each GPU")
    if processes > 1 and dist.is_initialized():
        fix = "train with processes=1 there"
        raise bad_value("processes", processes, "1 in a process of torch.distributed", fix)


@contextmanager
def training_group(
    processes: int, device: torch.device, model: nn.Module, trainer: Mapping[str, Any]
) -> Iterator[Group | None]:
    """Start the other processes of a training, which end with the block.

    Args:
        processes: how many there are with this one; 1: no others.
        device: device of this process; on CUDA the others have the GPUs after it.
        model: the network.
        trainer: the other arguments of the trainer.

    Yields:
        The group; None with one process.

    Raises:
        CnetError: if another process ends in between, or cannot be given the network.
    """
    if processes == 1:
        yield None
        return
    from ray import cloudpickle  # as torch shares tensors that multiprocessing sends

    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        with moved_to(model, torch.device("cpu")):
            try:
                sent = cloudpickle.dumps((list(sys.path), model, dict(trainer)))
            except Exception as error:  # of any kind: parametrized modules raise a RuntimeError
                raise cannot_be_sent("model", model, error, "processes=1") from error
        (Path(folder) / "training").write_bytes(sent)
        share = max(1, threads // processes)
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": str(share)}
        others = [
            subprocess.Popen(
                [sys.executable, "-c", _HELP, folder, str(rank), str(processes), device.type],
                env=env,
            )
            for rank in range(1, processes)
        ]
        try:
            _join(folder, 0, processes, device)
            torch.set_num_threads(share)
            yield Group(0, processes, device)
        except RuntimeError as error:
            if all(other.poll() is None for other in others) or isinstance(error, CnetError):
                raise
            raise CnetError(
                f"a process of the training ended ({str(error).splitlines()[0][:200]}); the same "
                "command resumes at the last checkpoint.",
                key="processes",
                value=processes,
                fix="run the same command again, with fewer processes if memory is short",
            ) from error
        finally:
            for other in others:
                other.kill()
                other.wait()
            torch.set_num_threads(threads)
            if dist.is_initialized():
                dist.destroy_process_group()


def help_training() -> None:
    """Compute gradients for the training of another process, until that ends; a command."""
    from ray import cloudpickle

    folder, rank, processes, kind = sys.argv[1:]
    path, model, arguments = cloudpickle.loads((Path(folder) / "training").read_bytes())
    sys.path[:] = path
    device = torch.device(kind, int(rank)) if kind == "cuda" else torch.device(kind)
    _join(folder, int(rank), int(processes), device)
    group = Group(int(rank), int(processes), device)
    with deterministic(device):
        trainer = Trainer(model.to(device), **{**arguments, "device": device}, group=group)
        try:
            while True:
                _follow(trainer, group)
        except (CnetError, RuntimeError):  # the first process says so, or has ended
            sys.exit(1)


def _follow(trainer: Trainer, group: Group) -> None:
    """Take the steps of one epoch."""
    trainer.state.epoch, trainer.state.step, state = group.next_epoch()
    if state is not None:
        model, optimizer, held = state
        load_snapshot(trainer.model, model)
        load_optimizer_tensors(trainer.optimizer, optimizer)
        hold_again(trainer.model, trainer.settings, trainer.global_step(), held)
    trainer.take_steps(lambda: None)


def _join(folder: str, rank: int, processes: int, device: torch.device) -> None:
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=processes,
        timeout=_WAIT,
    )
