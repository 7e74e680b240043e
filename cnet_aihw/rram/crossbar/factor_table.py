"""Tables of factors of a noise model, from which training reads in place of fresh draws."""

from __future__ import annotations

from collections import OrderedDict

import torch
from aihwkit.inference.noise.base import BaseNoiseModel
from torch import Tensor

from cnet_aihw.rram.devices.any_model import label_of
from cnet_aihw.rram.devices.noise import MultiplicativeNoiseModel
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.inputs import at_least_float32
from cnet_aihw.runtime.random_state import derive_seed, seeded_rng

_KEPT = 4  # tables; one of 8 million factors takes 32 MB
_TABLES: OrderedDict[tuple[str, int, torch.dtype, torch.device], Tensor] = OrderedDict()


def read_factors(noise_model: BaseNoiseModel, weight: Tensor, size: int) -> Tensor:
    """Return factors for one tile: a stretch of a table from a place drawn at random.

    The table belongs to the noise model and the size alone; the place comes from torch's global
    generator of the CPU. Factors within a stretch are independent; two stretches give a weight the
    same factor only where both begin at the same place. A tile larger than the table is refused.

    Args:
        noise_model: a model whose factors are alike.
        weight: weights of the tile, [out, in].
        size: number of factors of the table.

    Returns:
        Factors, [out, in]: a view, not to be changed.

    Raises:
        CnetError: if the noise model's factors are not alike, or the table is too small.
    """
    if not (isinstance(noise_model, MultiplicativeNoiseModel) and noise_model.alike):
        raise CnetError(
            f"variation.table is {size}, but {label_of(noise_model)} is not a factor of one law "
            "for each weight by itself; give variation.table=0.",
            key="variation.table",
            value=size,
            expected="0 with this noise model",
            fix="give variation.table=0",
        )
    needed = weight.numel()
    if needed > size:
        raise CnetError(
            f"variation.table is {size}, but a tile has {needed} weights; give at least some times "
            "as many factors, or 0.",
            key="variation.table",
            value=size,
            expected=f"more than {needed}, or 0",
        )
    table = _table(noise_model, size, weight)
    start = int(torch.randint(size - needed + 1, ()))
    return table[start : start + needed].view_as(weight)


def _table(noise_model: MultiplicativeNoiseModel, size: int, weight: Tensor) -> Tensor:
    key = (str(noise_model), size, weight.dtype, weight.device)
    if key in _TABLES:
        _TABLES.move_to_end(key)
        return _TABLES[key]
    with seeded_rng(derive_seed(0, "table of factors"), torch.device("cpu")), torch.no_grad():
        made = noise_model.sample_factor(at_least_float32(torch.ones(size, dtype=weight.dtype)))
    made = made.to(weight)
    _TABLES[key] = made
    if len(_TABLES) > _KEPT:
        _TABLES.popitem(last=False)
    return made
