"""Save and load correctors: those of a shared fit, or of one chip, which are keyed to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from cnet_aihw.compensation.corrector import corrector_from
from cnet_aihw.compensation.digital import Digital
from cnet_aihw.compensation.placement import DIGITAL, Placement
from cnet_aihw.compensation.wrapping import (
    base_snapshot,
    compensate,
    compensated_layers,
    placement_of,
    remove_compensation,
)
from cnet_aihw.evaluation.calibration import running_batchnorms
from cnet_aihw.evaluation.chip_identity import chip_fingerprint
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.fingerprint import tensors_fingerprint
from cnet_aihw.runtime.records import replace_file
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import check_file

_SHARED = "cnet_aihw_compensation"
_OF_A_CHIP = "cnet_aihw_chip_correctors"
_BATCHNORM = "batchnorm/"
_STATISTICS = ("running_mean", "running_var")


@checked
def save_compensation(model: nn.Module, path: str | Path) -> None:
    """Save the correctors alone: their tensors, the placement and the kind (safetensors).

    Args:
        model: a compensated model.
        path: the file; a kill leaves the old one or the new one.

    Raises:
        CnetError: if the model is not compensated.
    """
    _write(model, path, _SHARED, {}, {})


@checked
def load_compensation(model: nn.Module, path: str | Path) -> nn.Module:
    """Compensate a model as a file of :func:`save_compensation` says, fitted weights included.

    Args:
        model: the converted model, without compensation; changed in place.
        path: the file.

    Returns:
        The model.

    Raises:
        CnetError: if the file is not a saved compensation, its corrector cannot be imported, or it
            does not fit the model.
    """
    meta, tensors = _read(path, _SHARED, "save_compensation")
    return _put(model, path, meta, tensors)


def restore_compensation(model: nn.Module, path: str | Path) -> None:
    """Put the weights of a file of :func:`save_compensation` into correctors that are there.

    Args:
        model: a model with the same compensation; changed in place.
        path: the file.

    Raises:
        CnetError: if the file is another one, or of other correctors.
    """
    _copy(model, path, _read(path, _SHARED, "save_compensation")[1])


@checked
def save_chip_correctors(model: nn.Module, path: str | Path) -> None:
    """Save the correctors fitted to the chip that is programmed, keyed to that chip (safetensors).

    BatchNorm's statistics are saved too, as they may be the chip's. To be called where the
    correctors are fitted: ``with fit(model): save_chip_correctors(model, path)``.

    Args:
        model: a compensated model, programmed.
        path: the file; a kill leaves the old one or the new one.

    Raises:
        CnetError: if the model is not compensated, or no chip is programmed.
    """
    keys = {"chip": chip_fingerprint(model), "network": _network(model)}
    statistics = {f"{_BATCHNORM}{name}": tensor for name, tensor in _statistics(model).items()}
    _write(model, path, _OF_A_CHIP, keys, statistics)


@checked
def load_chip_correctors(model: nn.Module, path: str | Path) -> nn.Module:
    """Give the chip that is programmed its own correctors back, and BatchNorm's statistics on it.

    A chip is the same at any time after programming.

    Args:
        model: the converted model, without compensation, programmed; changed in place.
        path: a file of :func:`save_chip_correctors`.

    Returns:
        The model.

    Raises:
        CnetError: if the file is another one, or belongs to another chip or network; the model is
            left as it was.
    """
    meta, tensors = _read(path, _OF_A_CHIP, "save_chip_correctors")
    statistics = {n: tensors.pop(n) for n in list(tensors) if n.startswith(_BATCHNORM)}
    if _network(model) != meta["network"]:
        raise _belongs_elsewhere(path, "network", meta["network"])
    _put(model, path, meta, tensors)
    try:  # digital layers have no part in a chip, so that correctors come first
        if chip_fingerprint(model) != meta["chip"]:
            raise _belongs_elsewhere(path, "chip", meta["chip"])
    except CnetError:
        remove_compensation(model)
        raise
    for name, tensor in _statistics(model).items():
        tensor.copy_(statistics[f"{_BATCHNORM}{name}"])
    return model


def _belongs_elsewhere(path: str | Path, what: str, value: str) -> CnetError:
    return CnetError(
        f"{path} has correctors of another {what}; fit this {what} with PerChipFit, or give the "
        "file that was saved of it.",
        key=what,
        value=value,
        expected=f"correctors of the {what} that is there",
        fix=f"fit this {what} with PerChipFit",
    )


def _write(
    model: nn.Module,
    path: str | Path,
    header: str,
    keys: Mapping[str, str],
    more: Mapping[str, Tensor],
) -> None:
    wrappers = compensated_layers(model)
    if not wrappers:
        raise CnetError(
            "the model has no compensation to save; call compensate(model, ...) first.",
            key="model",
            fix="call compensate(model, ...) first",
        )
    kinds = [w.corrector for w in wrappers.values() if w.ratio != DIGITAL]
    corrector = kinds[0] if kinds else Digital()
    meta = {"placement": dict(placement_of(model)), "corrector": corrector.describe(), **keys}
    named = {**_corrector_tensors(model), **more}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in named.items()}
    saved = {header: json.dumps(meta)}
    replace_file(Path(path), lambda temporary: save_file(tensors, temporary, saved))


def _read(path: str | Path, header: str, by: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    check_file(Path(path), f"a file of {by}")
    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads((file.metadata() or {})[header])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        Placement(meta["placement"])
        meta["corrector"]
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise CnetError(
            f"{path} is not a file that {by} of this version of cnet_aihw wrote ({error}); give "
            f"a file of {by}.",
            key=str(path),
            expected=f"a file of {by}",
        ) from error
    return meta, tensors


def _put(
    model: nn.Module, path: str | Path, meta: dict[str, Any], tensors: dict[str, Tensor]
) -> nn.Module:
    compensate(model, Placement(meta["placement"]), corrector_from(meta["corrector"]))
    try:
        _copy(model, path, tensors)
    except CnetError:
        remove_compensation(model)
        raise
    return model


def _copy(model: nn.Module, path: str | Path, tensors: dict[str, Tensor]) -> None:
    """Copy saved tensors into the correctors of a model."""
    own = _corrector_tensors(model)
    needed = {name: tuple(tensor.shape) for name, tensor in own.items()}
    saved = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if needed != saved:
        name = next(n for n in {**needed, **saved} if needed.get(n) != saved.get(n))
        raise CnetError(
            f"{path} has {name!r} as {saved.get(name)}, but this model needs {needed.get(name)}; "
            "it belongs to another network.",
            key=name,
            value=saved.get(name),
            expected=needed.get(name),
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])


def _corrector_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers of all correctors."""
    return {
        f"{name}.{inner}": tensor
        for name, wrapper in compensated_layers(model).items()
        for inner, tensor in wrapper.corrector_module.state_dict().items()
    }


def _statistics(model: nn.Module) -> dict[str, Tensor]:
    """Return the running statistics of every BatchNorm, which a chip may have its own of."""
    norms = {id(norm) for norm in running_batchnorms(model)}
    return {
        f"{name}.{statistic}": getattr(module, statistic)
        for name, module in model.named_modules()
        if id(module) in norms
        for statistic in _STATISTICS
    }


def _network(model: nn.Module) -> str:
    """Return a fingerprint of the network's nominal weights, without what belongs to one chip."""
    of_a_chip = (*_STATISTICS, "num_batches_tracked")
    return tensors_fingerprint(
        {n: tensor for n, tensor in base_snapshot(model).items() if not n.endswith(of_a_chip)}
    )
