"""Weights from a file into a network, without running anything the file says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from cnet_aihw.runtime.errors import CnetError


def load_pretrained[Network: nn.Module](model: Network, path: str | Path) -> Network:
    """Load all weights and buffers of a network from a file.

    Takes a ``.safetensors`` file, or a file of ``torch.save`` with a state dict, plain or as the
    entry ``state_dict`` of a checkpoint, which is read with ``weights_only=True``. The prefix
    ``module.`` of DataParallel is taken off. A training's ``best.safetensors`` is taken too, where
    each layer was on one crossbar without mapping scales. Names and shapes must match exactly; on a
    mismatch the network is left as it was.

    Args:
        model: the (digital) network, changed in place.
        path: the file.

    Returns:
        ``model``.

    Raises:
        CnetError: the file is absent or is something else, or does not match the network.
    """
    path = Path(path)
    if not path.is_file():
        raise CnetError(
            f"The file of pretrained weights {path} does not exist: check the path.", key=str(path)
        )
    wanted = model.state_dict()
    tensors = _of_training(_without_prefix(_read(path)), wanted)
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
            f"The weights in {path} do not match {type(model).__name__}: the file "
            f"{', '.join(filter(None, problems))}; use weights of the same network and number of "
            f"classes{_EXPORT if any(map(_is_part, tensors)) else ''}.",
            key=str(path),
        )
    model.load_state_dict(tensors)
    return model


_EXPORT = (
    ", and of a network that was trained on split or scaled crossbars what "
    "cnet_aihw.rram.digital_state_dict gives"
)


def _is_part(name: str) -> bool:
    return ".array." in name or name.endswith(".mapping_scales")


def _read(path: Path) -> Mapping[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a file without a pickle makes torch's reader fail in any way
        raise CnetError(
            f"{path} cannot be read as weights alone: save model.state_dict() with torch.save, or "
            "as .safetensors.",
            key=str(path),
        ) from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        raise CnetError(
            f"{path} holds no state dict (names of weights with their tensors): save "
            "model.state_dict() with torch.save.",
            key=str(path),
        )
    return content


def _without_prefix(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    prefix = "module."
    if tensors and all(name.startswith(prefix) for name in tensors):
        return {name.removeprefix(prefix): value for name, value in tensors.items()}
    return dict(tensors)


def _of_training(tensors: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The nominal weights of a training's checkpoint: a tile has a convolution's as a matrix."""
    prefix = "model/"
    found = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    for name, tensor in found.items():
        shape = wanted[name].shape if name in wanted else tensor.shape
        if tensor.shape == (*shape[:1], shape[1:].numel()):
            found[name] = tensor.reshape(shape)
    return found or tensors


def _listed(what: str, names: Sequence[str], most: int = 3) -> str:
    if not names:
        return ""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{what} {', '.join(names[:most])}{more}"
