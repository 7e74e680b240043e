"""Lipschitz penalty of CorrectNet's step 1, which keeps a layer from amplifying an error."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from cnet_aihw.evaluation.first_batch import checked_call
from cnet_aihw.evaluation.metrics import evaluation_mode
from cnet_aihw.rram import analog_layers, nominal_weight
from cnet_aihw.rram.conversion_plan import match_names
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.inputs import Inputs
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import bad_choice
from cnet_aihw.training.settings import GRAMS

_NARROW = (torch.half, torch.bfloat16)
_GRAM_BLOCK = 128  # below it a matrix product is too small to gain from being split


class LipschitzPenalty:
    r"""Sum over analog layers of :math:`\|G - \lambda^2 I\|_F^2`, G the Gram matrix of the weights.

    The weights are the nominal logical ones, [out, in * kernel]. G is taken on the smaller side
    (:math:`W W^T` or :math:`W^T W`): the larger one is rank-deficient and cannot become
    :math:`\lambda^2 I`. A grouped convolution is one map per group, so that each group's block has
    its own Gram matrix. Source: CorrectNet (DATE 2023), step 1, as we read the paper; the smaller
    side, the groups and the folding of BatchNorm are ours. With ``gram="slices"`` each position of
    a kernel has its own Gram matrix, of [out, in], as in a public re-implementation (the repository
    of NeFT); a linear layer is one slice.

    Args:
        model: converted model; its layers are looked up once, here.
        lambda_: singular value that all singular values are pulled to.
        exclude: layers without the penalty: names, or patterns such as ``features.*``.
        batchnorms: BatchNorm behind a layer by the layer's name, as :func:`following_batchnorms`
            finds them; those layers count with their gain ``diag(gamma / sqrt(var + eps)) W``,
            whose gradient goes to gamma as well. The others count with W alone.
        gram: "matrix", or "slices" of each position of a kernel.
        probes: random vectors of signs v by which each :math:`\|G - \lambda^2 I\|_F^2` is
            estimated, as the mean of :math:`\|(G - \lambda^2 I) v\|^2`, drawn again at each call:
            unbiased, and in time that grows with the weights of a layer alone (Hutchinson 1990).
            None: exact.

    Raises:
        CnetError: if ``lambda_`` is not a positive number, a name in ``exclude`` fits no layer, no
            layer is left, or a BatchNorm keeps no running statistics.
    """

    @checked
    def __init__(
        self,
        model: nn.Module,
        lambda_: float,
        exclude: Iterable[str] = (),
        batchnorms: Mapping[str, _BatchNorm] | None = None,
        gram: str = "matrix",
        probes: int | None = None,
    ) -> None:
        if probes is not None and probes < 1:
            raise bad_value("lipschitz.probes", probes, "a whole number of at least 1, or None")
        if gram not in GRAMS:
            raise bad_choice("lipschitz.gram", gram, GRAMS)
        if not (math.isfinite(lambda_) and lambda_ > 0):
            raise bad_value("lambda", lambda_, "a singular value, a number above 0")
        self.lambda_, self.slices, self.probes = lambda_, gram == "slices", probes
        self.layers = _included(model, list(exclude))
        self.batchnorms = dict(batchnorms or {})
        for name, batchnorm in self.batchnorms.items():
            if batchnorm.running_var is None:
                raise CnetError(
                    f"the BatchNorm behind {name} keeps no running statistics, so that its gain "
                    "is not known; exclude that layer or switch fold_batchnorm off.",
                    key="lipschitz.fold_batchnorm",
                    value=name,
                    expected="a BatchNorm with running statistics",
                    fix="exclude that layer or switch fold_batchnorm off",
                )

    def __call__(self) -> Tensor:
        """Return the penalty of the weights as they are now, a scalar in float32 or wider."""
        return self._value(*self._matrices())

    def backward(self, weight: float = 1.0) -> Tensor:
        """Add the gradient of so many times the penalty to the weights' gradients.

        The same as ``(weight * penalty()).backward()`` to rounding, and faster after the loss's
        own ``backward()``: gradients that are there are added to in place.

        Args:
            weight: how often the penalty counts.

        Returns:
            The penalty, a scalar without a graph.
        """
        matrices, signs = self._matrices()
        values, rest = [], []
        with torch.no_grad(), torch.autocast(matrices[0].device.type, enabled=False):
            for number, matrix in enumerate(matrices):
                trained = matrix.is_leaf and matrix.requires_grad
                grad = matrix.grad if trained else None
                if grad is None or grad.dim() != 2 or grad.dtype in _NARROW:
                    rest.append(number)
                    continue
                if signs is None:
                    value, *factors = _exact(matrix, self.lambda_)
                else:
                    value, left, right = _probed(matrix, signs[number], self.lambda_)
                    factors = [left, right.mT]
                grad.addmm_(*(factor.to(grad.dtype) for factor in factors), alpha=weight)
                values.append(value)
        if rest:
            some = None if signs is None else [signs[number] for number in rest]
            value = self._value([matrices[number] for number in rest], some)
            if value.requires_grad:
                (weight * value).backward()
            values.append(value.detach())
        return torch.stack(values).sum()

    def _matrices(self) -> tuple[list[Tensor], list[Tensor] | None]:
        """Return the layers' matrices and, with probes, the probes of each."""
        matrices = [self._matrix_of(layer, name) for name, layer in self.layers.items()]
        return matrices, None if self.probes is None else draw_signs(matrices, self.probes)

    def _value(self, matrices: list[Tensor], signs: list[Tensor] | None) -> Tensor:
        if signs is not None:
            return _ProbedDistances.apply(self.lambda_, signs, *matrices)
        return torch.stack([_GramDistance.apply(m, self.lambda_) for m in matrices]).sum()

    def _matrix_of(self, layer: nn.Module, name: str) -> Tensor:
        matrix = _matrix(layer, self.batchnorms.get(name))
        return _slices(layer, matrix) if self.slices else matrix


@checked
@torch.no_grad()
def spectral_norms(
    model: nn.Module, batchnorms: Mapping[str, _BatchNorm] | None = None
) -> dict[str, float]:
    """Return the largest singular value of each analog layer's nominal weights, by layer name.

    A grouped convolution counts with its largest group; a BatchNorm given for a layer counts into
    its gain, as in :class:`LipschitzPenalty`.
    """
    norms = {}
    for name, layer in analog_layers(model).items():
        matrix = _matrix(layer, (batchnorms or {}).get(name)).double()
        gram = _gram(matrix)
        norms[name] = math.sqrt(max(torch.linalg.eigvalsh(gram).max().item(), 0.0))
    return norms


@checked
def following_batchnorms(model: nn.Module, example_input: Inputs) -> dict[str, _BatchNorm]:
    """Find the BatchNorm that takes an analog layer's output as it is, by the layer's name.

    One forward pass in evaluation mode finds it: a layer's output object is the BatchNorm's input
    object, unchanged. A layer used more than once counts if the same BatchNorm follows every use
    of it; a layer whose uses differ has no single gain and is left out.

    Args:
        model: converted model.
        example_input: a few samples on the model's device.

    Returns:
        BatchNorm by layer name, for the layers that have one.
    """
    outputs: list[tuple[str, Tensor, int]] = []  # references keep ids from being used again
    inputs: list[tuple[_BatchNorm, Tensor, int]] = []
    handles = []
    for name, layer in analog_layers(model).items():
        handles.append(
            layer.register_forward_hook(
                lambda _module, _args, out, name=name: outputs.append((name, out, out._version))
            )
        )
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            handles.append(
                module.register_forward_pre_hook(
                    lambda module, args: inputs.append((module, args[0], args[0]._version))
                )
            )
    try:
        with evaluation_mode(model), torch.no_grad():
            checked_call(model, example_input)
    finally:
        for handle in handles:
            handle.remove()
    uses: dict[str, list[list[_BatchNorm]]] = {}  # layer -> for each use the BatchNorms behind it
    for name, out, changes in outputs:
        uses.setdefault(name, []).append([m for m, x, now in inputs if x is out and now == changes])
    return {
        name: found[0][0]
        for name, found in uses.items()
        if all(found) and len({id(module) for use in found for module in use}) == 1
    }


class _GramDistance(torch.autograd.Function):
    """||G - lambda^2 I||_F^2 of [..., rows, columns], with one product more for the gradient."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, lambda_: float) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            value, left, right = _exact(weight, lambda_)
        ctx.save_for_backward(left, right)
        ctx.dtype = weight.dtype
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        left, right = ctx.saved_tensors
        with torch.autocast(grad.device.type, enabled=False):
            return (left @ right * grad).to(ctx.dtype), None


class _ProbedDistances(torch.autograd.Function):
    """Sum over matrices [..., rows, columns] of the mean over probes v of ||(G - lambda^2 I) v||^2.

    One function for all layers, as a call takes as long as the products of a small one.
    """

    @staticmethod
    def forward(ctx: Any, lambda_: float, signs: list[Tensor], *weights: Tensor) -> Tensor:
        with torch.autocast(weights[0].device.type, enabled=False):
            found = [_probed(w, v, lambda_) for w, v in zip(weights, signs, strict=True)]
        ctx.save_for_backward(*(factor for _, *factors in found for factor in factors))
        ctx.dtypes = [weight.dtype for weight in weights]
        return torch.stack([value for value, *_ in found]).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        factors = ctx.saved_tensors
        with torch.autocast(grad.device.type, enabled=False):
            pairs = zip(factors[::2], factors[1::2], strict=True)
            products = [(left * grad) @ right.mT for left, right in pairs]
        return None, None, *(p.to(dtype) for p, dtype in zip(products, ctx.dtypes, strict=True))


def _exact(weight: Tensor, lambda_: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return ||G - lambda^2 I||_F^2 of a matrix, and two matrices whose product is its gradient."""
    matrix = weight.float() if weight.dtype in _NARROW else weight
    gram = _gram(matrix)
    gram.diagonal(dim1=-2, dim2=-1).sub_(lambda_**2)
    value = torch.dot(gram.flatten(), gram.flatten())
    gram.mul_(4)
    return (value, gram, matrix) if _is_wide(matrix) else (value, matrix, gram)


def _probed(weight: Tensor, v: Tensor, lambda_: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean over probes v, [..., n, probes], of ||(G - lambda^2 I) v||^2, and l and r.

    The gradient is l r'. With a = W'v, u = Wa - lambda^2 v and c = W'u, that of a probe is
    2 (u a' + v c').
    """
    wide = _is_wide(weight)
    rows = (weight if wide else weight.mT).to(v.dtype)
    inner = rows.mT @ v
    excess = torch.sub(rows @ inner, v, alpha=lambda_**2)
    value = excess.square().sum() / v.shape[-1]
    left = torch.cat([excess, v], -1).mul_(2 / v.shape[-1])
    right = torch.cat([inner, rows.mT @ excess], -1)
    return (value, left, right) if wide else (value, right, left)


def draw_signs(matrices: list[Tensor], probes: int) -> list[Tensor]:
    """Draw vectors of -1 and 1 on the smaller sides of matrices, each [..., n, probes].

    They come from torch's global generator of the device, in one draw.
    """
    shapes = [(*m.shape[:-2], min(m.shape[-2:]), probes) for m in matrices]
    counts = [math.prod(shape) for shape in shapes]
    wide = any(m.dtype == torch.float64 for m in matrices)
    dtype = torch.float64 if wide else torch.float32
    drawn = torch.randint(2, (sum(counts),), device=matrices[0].device, dtype=dtype)
    parts = drawn.mul_(2).sub_(1).split(counts)
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


def _gram(matrix: Tensor) -> Tensor:
    """Return the Gram matrix of the smaller side, [..., n, n]."""
    rows = matrix if _is_wide(matrix) else matrix.mT
    if rows.dim() > 2 or rows.is_cuda:  # small blocks of groups; on CUDA one kernel is faster
        return rows @ rows.mT
    gram = rows.new_empty(len(rows), len(rows))
    _fill_gram(rows, gram)
    return gram


def _fill_gram(rows: Tensor, gram: Tensor) -> None:
    """Write rows @ rows.T, [n, n]; being symmetric, it needs little more than half the products."""
    if len(rows) <= _GRAM_BLOCK:
        torch.mm(rows, rows.mT, out=gram)
        return
    half = len(rows) // 2
    _fill_gram(rows[:half], gram[:half, :half])
    _fill_gram(rows[half:], gram[half:, half:])
    torch.mm(rows[:half], rows[half:].mT, out=gram[:half, half:])
    gram[half:, :half] = gram[:half, half:].mT


def _is_wide(matrix: Tensor) -> bool:
    return matrix.shape[-2] <= matrix.shape[-1]


def _matrix(layer: nn.Module, batchnorm: _BatchNorm | None) -> Tensor:
    """Return the matrix of a layer: [out, in * kernel], or [groups, out / groups, ...]."""
    weight = nominal_weight(layer)
    if batchnorm is not None:
        assert batchnorm.running_var is not None  # checked at construction
        gain = torch.rsqrt(batchnorm.running_var + batchnorm.eps)
        if batchnorm.weight is not None:
            gain = gain * batchnorm.weight
        weight = weight * gain.unsqueeze(1)
    if isinstance(layer, _ConvNd) and layer.groups > 1:
        return weight.unflatten(0, (layer.groups, -1))
    return weight


def _slices(layer: nn.Module, matrix: Tensor) -> Tensor:
    """Return a convolution's matrix [..., out, in * kernel] as [..., kernel, out, in]."""
    if not isinstance(layer, _ConvNd):
        return matrix
    taps = math.prod(layer.kernel_size)
    return matrix.unflatten(-1, (-1, taps)).movedim(-1, -3)


def _included(model: nn.Module, exclude: list[str]) -> dict[str, nn.Module]:
    layers = analog_layers(model)
    excluded = match_names(list(layers), exclude, "lipschitz.exclude")
    included = {name: layer for name, layer in layers.items() if name not in excluded}
    if not included:
        raise CnetError(
            f"lipschitz.exclude is {exclude} and leaves no layer for the penalty; "
            "exclude fewer layers, or switch lipschitz.enabled off.",
            key="lipschitz.exclude",
            value=exclude,
            expected="at least one layer left",
            fix="exclude fewer layers, or switch lipschitz.enabled off",
        )
    return included
