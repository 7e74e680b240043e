"""Random projections of kernel features: Gaussian, orthogonal, and of Hadamard matrices."""

from __future__ import annotations

import math

import torch
from scipy.linalg import hadamard
from torch import Tensor

from cnet_aihw.runtime.random_state import derive_seed
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import bad_choice, check_count, check_seed

FEATURES = ("rff", "orf", "sorf")
"""Random features: Gaussian rows, orthogonal rows, rows of products of Hadamard matrices."""


@checked
def random_projection(
    features: str, inputs: int, outputs: int, seed: int, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Draw a projection whose rows are, exactly or nearly, standard normal vectors.

    Sources: "rff", independent rows: Rahimi and Recht 2007; "orf", rows orthogonal in blocks, with
    lengths of Gaussian vectors: Yu et al. 2016; "sorf", sqrt(p) H D1 H D2 H D3 with an orthonormal
    Hadamard matrix H, random signs D and p the power of two at or above the inputs: as there.

    Args:
        features: "rff", "orf" or "sorf".
        inputs: number of inputs d.
        outputs: number of rows s; blocks are stacked, and the last one cut off.
        seed: seed of the draws.
        dtype: number type; it is drawn in float64.

    Returns:
        The projection [s, d].

    Raises:
        CnetError: for another kind, or sizes below 1.
    """
    if features not in FEATURES:
        raise bad_choice("features", features, FEATURES)
    check_count("inputs", inputs)
    check_count("outputs", outputs)
    check_seed("seed", seed)
    generator = torch.Generator().manual_seed(derive_seed(seed, "features", features))
    if features == "rff":
        return _normal(outputs, inputs, generator).to(dtype)
    block = _orthogonal if features == "orf" else _hadamard
    blocks, rows = [], 0
    while rows < outputs:
        blocks.append(block(inputs, generator))
        rows += len(blocks[-1])
    return torch.cat(blocks)[:outputs].to(dtype)


def _normal(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64)


def _orthogonal(inputs: int, generator: torch.Generator) -> Tensor:
    """Return a block [d, d] of orthogonal rows, each as long as a Gaussian vector."""
    q, r = torch.linalg.qr(_normal(inputs, inputs, generator))
    q = q * torch.sign(torch.diagonal(r))  # uniform over all rotations
    return _normal(inputs, inputs, generator).norm(dim=1, keepdim=True) * q


def _hadamard(inputs: int, generator: torch.Generator) -> Tensor:
    """Return a block [p, d] of the product of three Hadamard matrices with random signs."""
    size = 2 ** math.ceil(math.log2(inputs))
    h = torch.from_numpy(hadamard(size)).double() / math.sqrt(size)
    block = torch.eye(size, dtype=torch.float64)
    for _ in range(3):
        signs = 2.0 * torch.randint(0, 2, (size, 1), generator=generator) - 1.0
        block = h @ (signs * block)
    return math.sqrt(size) * block[:, :inputs]
