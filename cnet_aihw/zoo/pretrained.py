"""Weights from a file into a network, without running anything the file says."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import check_readable

_Tensors = Mapping[str, Tensor]
_WRAPPERS = ("_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module")
"""Modules that torch puts around others; they are left out of the names of weights."""


@checked
def load_pretrained[Network: nn.Module](model: Network, path: str | Path) -> Network:
    """Load all weights and buffers of a network from a file.

    Takes a ``.safetensors`` file, or a file of ``torch.save`` with a state dict, plain or as the
    one entry of a checkpoint that fits (``state_dict``, ``model``, ...); it is read with
    ``weights_only=True``. Prefixes that wrappers put before all names (``module.``, ``_orig_mod.``,
    Lightning's attribute) are taken off, and what lies beside them is left out. A training's
    ``best.safetensors`` is taken too, where each layer was on one crossbar without mapping scales.
    Names and shapes must match exactly; on a mismatch the network is left as it was.

    Args:
        model: the (digital) network, changed in place.
        path: the file.

    Returns:
        ``model``.

    Raises:
        CnetError: the file is absent or is something else, does not match the network, holds NaN,
            or infinity in a weight, or two sets of values for weights that are tied.
    """
    path = Path(path)
    if not path.is_file():
        raise CnetError(
            f"The file of pretrained weights {path} does not exist: check the path.", key=str(path)
        )
    network = _unwrapped(model)
    wanted = network.state_dict()
    tensors = _chosen(path, _read(path), network)
    problems = [
        _listed("lacks", [name for name in wanted if name not in tensors]),
        _listed("has the unknown", [name for name in tensors if name not in wanted]),
        _listed(
            "has another shape for",
            [
                f"{name} ({tuple(tensors[name].shape)}, not {tuple(value.shape)})"
                for name, value in wanted.items()
                if name in tensors and tensors[name].shape != value.shape
            ],
        ),
    ]
    if any(problems):
        raise CnetError(
            f"The weights in {path} do not match {type(network).__name__}: the file "
            f"{', '.join(filter(None, problems))}; use weights of the same network and number of "
            f"classes{_EXPORT if any(map(_is_part, tensors)) else ''}.",
            key=str(path),
        )
    _check_values(path, tensors, wanted, {name for name, _ in network.named_parameters()})
    _check_shared(path, tensors, network)
    network.load_state_dict(tensors)
    return model


_EXPORT = (
    ", and of a network that was trained on split or scaled crossbars what "
    "cnet_aihw.rram.digital_state_dict gives"
)


def _is_part(name: str) -> bool:
    return ".array." in name or name.endswith(".mapping_scales")


def _unwrapped(model: nn.Module) -> nn.Module:
    """Return the network inside torch.compile and DataParallel."""
    inner = getattr(model, "_orig_mod", None)
    if inner is None and isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        inner = model.module
    return _unwrapped(inner) if isinstance(inner, nn.Module) else model


def _read(path: Path) -> list[_Tensors]:
    """Return the state dicts in a file."""
    check_readable(path)
    try:
        if path.suffix == ".safetensors":
            return [load_file(path)]
        with torch.serialization.safe_globals([argparse.Namespace]):  # plain values beside them
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a file without a pickle makes torch's reader fail in any way
        raise CnetError(
            f"{path} cannot be read as weights alone{_objects_in(path)}: save model.state_dict() "
            "with torch.save, or as .safetensors.",
            key=str(path),
            fix="save model.state_dict() with torch.save, or as .safetensors",
        ) from error
    entries = [content, *(content.values() if isinstance(content, Mapping) else ())]
    found: list[_Tensors] = [entry for entry in entries if _is_state_dict(entry)]
    if not found:
        raise CnetError(
            f"{path} holds no state dict (names of weights with their tensors): save "
            "model.state_dict() with torch.save.",
            key=str(path),
        )
    return found


def _objects_in(path: Path) -> str:
    """Name the classes in a file that are not weights, without running any of it."""
    try:
        found = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:
        return ""
    return f", as it holds objects of {', '.join(found[:3])}" if found else ""


def _is_state_dict(content: object) -> bool:
    return (
        isinstance(content, Mapping)
        and len(content) > 0
        and all(isinstance(n, str) and isinstance(t, Tensor) for n, t in content.items())
    )


def _chosen(path: Path, dicts: Sequence[_Tensors], network: nn.Module) -> _Tensors:
    """Return the tensors of a file that are the network's, under its names.

    Raises:
        CnetError: where there are two such sets.
    """
    wanted = network.state_dict()
    named = [_of_training(_without_wrappers(tensors, wanted), network) for tensors in dicts]
    fitting = [(prefix, tensors) for tensors in named for prefix in _prefixes(tensors, wanted)]
    if len(fitting) > 1:
        raise CnetError(
            f"{path} holds {len(fitting)} sets of weights that fit the network: save the one that "
            "you mean by itself.",
            key=str(path),
            value=len(fitting),
            expected=1,
            fix="save the one that you mean by itself",
        )
    if not fitting:
        return _without_common_prefix(named[0])
    prefix, tensors = fitting[0]
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _prefixes(tensors: _Tensors, wanted: _Tensors) -> list[str]:
    """Return all beginnings with which every name of the network is in the file."""
    first = next(iter(wanted), None)
    if first is None:
        return [""]
    found = (n.removesuffix(first) for n in tensors if n == first or n.endswith(f".{first}"))
    return [prefix for prefix in found if all(prefix + name in tensors for name in wanted)]


def _without_wrappers(tensors: _Tensors, wanted: _Tensors) -> _Tensors:
    if any(part in name.split(".") for name in wanted for part in _WRAPPERS):
        return tensors
    return {
        ".".join(part for part in name.split(".") if part not in _WRAPPERS): tensor
        for name, tensor in tensors.items()
    }


def _without_common_prefix(tensors: _Tensors) -> _Tensors:
    """Return the tensors under names without the wrapper before all of them, for messages."""
    for prefix in ("module.", "model."):
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): t for name, t in tensors.items()}
    return tensors


def _of_training(tensors: _Tensors, network: nn.Module) -> _Tensors:
    """The nominal weights of a training's checkpoint: a tile has a layer's as a matrix."""
    prefix, wanted = "model/", network.state_dict()
    found = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    for name, tensor in found.items():
        if name in wanted and tensor.dim() == 2 and tensor.numel() == wanted[name].numel():
            module = network.get_submodule(name.rpartition(".")[0])
            found[name] = _from_matrix(module, tensor, wanted[name].shape)
    return _put_together(found, wanted) or tensors


def _from_matrix(module: nn.Module, matrix: Tensor, shape: torch.Size) -> Tensor:
    """Return a layer's weight of the matrix [out, in / groups * kernel] on its crossbar."""
    if isinstance(module, _ConvTransposeNd):  # [in, out / groups, *kernel]
        if matrix.shape[0] != module.out_channels:
            return matrix
        grouped = matrix.unflatten(0, (module.groups, -1))
        grouped = grouped.unflatten(2, (module.in_channels // module.groups, -1))
        return grouped.transpose(1, 2).reshape(shape)
    if hasattr(module, "nf") and type(module).__name__ == "Conv1D":  # of Hugging Face: [in, out]
        return matrix.T.contiguous()
    return matrix.reshape(shape) if matrix.shape[0] == shape[0] else matrix


_PROJECTIONS = ("q_proj", "k_proj", "v_proj")


def _put_together(found: dict[str, Tensor], wanted: _Tensors) -> dict[str, Tensor]:
    """Return tensors under the names of torch's attention and recurrent networks.

    Conversion takes these apart into a layer for each matrix.
    """
    for name in wanted:
        prefix, _, own = name.rpartition(".")
        dot = f"{prefix}." if prefix else ""
        part, _, rest = own.partition("_")
        if own in ("in_proj_weight", "in_proj_bias"):
            kind = own.removeprefix("in_proj_")
            names = [f"{dot}{projection}.{kind}" for projection in _PROJECTIONS]
        elif own.endswith("_proj_weight"):
            names = [f"{dot}{own.removesuffix('_weight')}.weight"]
        else:
            names = [f"{dot}{rest}.{part}"]
        if name not in found and all(one in found for one in names):
            found[name] = torch.cat([found.pop(one) for one in names])
    return found


def _check_shared(path: Path, tensors: _Tensors, network: nn.Module) -> None:
    """Refuse different values for one parameter that the network uses under several names."""
    first: dict[int, str] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        other = first.setdefault(id(parameter), name)
        if not torch.equal(tensors[name], tensors[other]):
            raise CnetError(
                f"{path} has other values in {name} than in {other}, which are one parameter of "
                f"{type(network).__name__}: untie them in the network, or take another checkpoint.",
                key=name,
                expected=f"the values of {other}",
            )


def _check_values(path: Path, tensors: _Tensors, wanted: _Tensors, weights: set[str]) -> None:
    """Refuse NaN, infinite weights, and numbers of another kind."""
    for name, tensor in tensors.items():
        kind = wanted[name].dtype
        if tensor.is_complex() or (kind.is_floating_point and not tensor.is_floating_point()):
            expected = "floating numbers" if kind.is_floating_point else "real numbers"
            raise _wrong_values(path, name, str(tensor.dtype), expected)
        if not kind.is_floating_point:
            continue
        value = tensor.to(kind)  # as it will be: a large float64 is infinite in float32
        if value.isnan().any():
            raise _wrong_values(path, name, "NaN", "finite numbers")
        if name in weights and value.isinf().any():
            raise _wrong_values(path, name, "infinity", "finite numbers")


def _wrong_values(path: Path, name: str, value: str, expected: str) -> CnetError:
    return CnetError(
        f"{path} holds {value} in {name}; expected {expected}: take another checkpoint.",
        key=name,
        value=value,
        expected=expected,
        fix="take another checkpoint",
    )


def _listed(what: str, names: Sequence[str], most: int = 3) -> str:
    if not names:
        return ""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{what} {', '.join(names[:most])}{more}"
