"""Checkpoints: a safetensors file of plain tensors with JSON in its header; nothing is pickled."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.records import replace_file
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import check_file

FORMAT = 1
_HEADER = "cnet_aihw"


@dataclass
class Checkpoint:
    """Content of a checkpoint file."""

    model: dict[str, Tensor]
    """Parameters and buffers by name, as ``rram.snapshot`` gives them."""

    meta: dict[str, Any]
    """Plain values: settings, position, sums, the best epoch so far."""

    optimizer: dict[str, Tensor] = field(default_factory=dict)
    """Optimizer state, "<number of the parameter>/<name of the state>"."""

    rng: dict[str, Tensor] = field(default_factory=dict)
    """States of torch's random generators: "cpu", and "cuda" when used."""

    held: dict[str, Tensor] = field(default_factory=dict)
    """Effect of a chip held in training, which its seed alone does not give back."""


_GROUPS = ("model", "optimizer", "rng", "held")


@checked
def save_checkpoint(path: str | Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; a kill at any moment leaves either the old file or the new one.

    Args:
        path: the file, in an existing folder or a new one.
        checkpoint: its content.
    """
    tensors = {
        f"{group}/{name}": tensor.detach().cpu().contiguous()
        for group in _GROUPS
        for name, tensor in getattr(checkpoint, group).items()
    }
    meta = {"format": FORMAT, **checkpoint.meta}
    header = {_HEADER: json.dumps(meta, allow_nan=False, sort_keys=True)}
    replace_file(Path(path), lambda temporary: save_file(tensors, temporary, header))


@checked
def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint, tensors on the CPU.

    Raises:
        CnetError: when the file is absent, damaged, of another kind or of a later format.
    """
    path = Path(path)
    check_file(path, "the checkpoint of a training")
    groups: dict[str, dict[str, Tensor]] = {group: {} for group in _GROUPS}
    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads((file.metadata() or {})[_HEADER])
            for key in file.keys():  # noqa: SIM118 (the file is not a mapping)
                group, name = key.split("/", 1)
                groups[group][name] = file.get_tensor(key)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise CnetError(
            f"{path} is damaged or not a checkpoint of cnet_aihw ({error}); "
            "train again in another folder.",
            key=str(path),
            value=str(error),
            expected="a checkpoint of cnet_aihw",
            fix="train again in another folder",
        ) from error
    if meta["format"] != FORMAT:
        raise CnetError(
            f"{path} has checkpoint format {meta['format']} and this version reads {FORMAT}; "
            "use the version of cnet_aihw that wrote it.",
            key="format",
            value=meta["format"],
            expected=FORMAT,
        )
    return Checkpoint(meta=meta, **groups)


def check_kept(path: Path, what: str) -> None:
    """Check that a checkpoint that a run has left is still there.

    Args:
        path: the file, in the run's folder.
        what: what it holds.

    Raises:
        CnetError: if it is not.
    """
    if path.is_file():
        return
    fix = f"put it back, or delete {path.parent}, so that the run is made again"
    raise CnetError(
        f"{path} is missing: {path.parent} holds a run that had written {what} there; {fix}.",
        key=str(path),
        expected=what,
        fix=fix,
    )


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimizer's state as named tensors."""
    return {
        f"{number}/{name}": value
        for number, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
        if value is not None
    }


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put a state from :func:`optimizer_tensors` back."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        number, name = key.split("/", 1)
        state.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )


def all_finite(tensors: Mapping[str, Tensor]) -> bool:
    """Say whether no tensor holds NaN or infinity; the device is waited for once."""
    numbers = [t for t in tensors.values() if t.is_floating_point() and t.numel()]
    largest = torch.nn.utils.get_total_norm(numbers, norm_type=math.inf)
    return bool(torch.isfinite(largest))
