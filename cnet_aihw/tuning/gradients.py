"""Rules that give gradients on a chip: through a model, by feedback, and from perturbations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.runtime.inputs import Inputs, main_output, map_tensors
from cnet_aihw.runtime.random_state import derive_seed
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import check_number
from cnet_aihw.tuning.on_chip import NetworkOnChip, leaf_of

LossOf = Callable[[Any, Tensor, Inputs], Tensor]
"""Mean loss of (outputs, targets, inputs)."""


def through_network(
    network: NetworkOnChip,
    inputs: Inputs,
    targets: Tensor,
    loss_of: LossOf,
    exact: bool = False,
) -> Tensor:
    """Add the gradient that passes the layers backwards; return the loss.

    With ``exact=False`` it is physics-aware training: outputs come from the chip, Jacobians from
    the nominal weights at the activations that were measured. Source: Wright et al., *Deep physical
    neural networks trained with backpropagation*, Nature 601 (2022).

    Args:
        network: the network, computing on the chip.
        inputs: inputs of the batch.
        targets: its targets, [N, ...].
        loss_of: mean loss.
        exact: pass the chip's own weights instead.
    """
    network.exact = exact
    try:
        loss = loss_of(network.outputs(inputs), targets, inputs)
        loss.backward()
    finally:
        network.exact = False
    return loss.detach()


def by_feedback(
    network: NetworkOnChip,
    inputs: Inputs,
    targets: Tensor,
    loss_of: LossOf,
    matrices: Mapping[str, Tensor],
    random_target: bool = False,
) -> Tensor:
    """Add the gradient of direct feedback; return the loss.

    What follows each layer, up to the next one, is differentiated as usual; what arrives at the
    next one gets the error of the outputs through a fixed matrix, in place of the gradient. The
    chip's weights are not needed. Sources: Nokland, *Direct feedback alignment provides learning in
    deep neural networks* (2016); with ``random_target`` Frenkel et al., *Learning without feedback:
    fixed random learning signals allow for feedforward training* (2021), where the labels take the
    place of the error but in the last layer.

    Args:
        network: the network, computing on the chip; its layers form a chain.
        inputs: inputs of the batch.
        targets: its targets, [N, ...]; classes with ``random_target``.
        loss_of: mean loss.
        matrices: layer -> [outputs, inputs of the layer], both counted for a sample.
        random_target: project minus the labels.
    """
    network.cut = True
    try:
        outputs = main_output(network.outputs(inputs))
        loss = loss_of(outputs, targets, inputs)
        (error,) = torch.autograd.grad(loss, outputs)
        signal = error.flatten(1)
        if random_target:
            signal = -nn.functional.one_hot(targets, signal.shape[1]).to(error) / len(targets)
        ends, gradients = [outputs], [error]
        for name, matrix in matrices.items():
            arrived = network.arrived[name]
            if arrived.requires_grad:
                ends.append(arrived)
                gradients.append((signal @ matrix).view(arrived.shape))
        torch.autograd.backward(ends, gradients)
    finally:
        network.cut = False
    return loss.detach()


def feedback_matrices(
    network: NetworkOnChip, inputs: Inputs, kind: str, seed: int
) -> dict[str, Tensor]:
    """Return the fixed matrices of the feedback to all layers but the first.

    Args:
        network: the network, computing in software.
        inputs: inputs over which Jacobians are averaged.
        kind: "jacobian": the mean derivative of the outputs by what arrives at a layer, which in a
            linear network is the product of the weights from there on; "random": normal numbers of
            a standard deviation of 1 / sqrt(inputs of the layer).
        seed: seed of these numbers.

    Returns:
        Layer -> [outputs, inputs of the layer], both counted for a sample.
    """
    outputs = main_output(network.outputs(map_tensors(inputs, leaf_of))).flatten(1)
    arrived = {name: network.arrived[name] for name in network.calls[1:]}
    found: dict[str, Tensor] = {}
    if kind == "random":
        for name, x in arrived.items():
            size = math.prod(x.shape[1:])
            generator = torch.Generator().manual_seed(derive_seed(seed, name, "feedback"))
            drawn = torch.randn(outputs.shape[1], size, generator=generator)
            found[name] = (drawn / math.sqrt(size)).to(outputs)
        return found
    rows = [
        torch.autograd.grad(output, list(arrived.values()), retain_graph=True)
        for output in outputs.sum(0)
    ]
    return {
        name: torch.stack([row[number].flatten(1).mean(0) for row in rows])
        for number, name in enumerate(arrived)
    }


@checked
def perturbation_gradient(
    loss_of: Callable[[], Tensor],
    parameters: Iterable[nn.Parameter],
    directions: Iterable[Tensor],
    size: float,
) -> Tensor:
    r"""Add a gradient estimated from the loss at both sides of the parameters; return the loss.

    .. math:: \hat g = \frac{L(\theta + c \Delta) - L(\theta - c \Delta)}{2 c} \Delta

    With random signs as directions it is simultaneous perturbation; on a quadratic loss its mean
    over directions is the gradient. Source: Spall, *Multivariate stochastic approximation using a
    simultaneous perturbation gradient approximation* (1992).

    Args:
        loss_of: loss as the parameters are.
        parameters: the parameters; afterwards they are as before, bit for bit.
        directions: the direction of each, of its shape.
        size: c.

    Returns:
        The mean of both losses.

    Raises:
        CnetError: for a size that is not above 0, or other shapes.
    """
    check_number("size", size, 1e-30)
    parameters, directions, size = list(parameters), list(directions), float(size)
    if [p.shape for p in parameters] != [d.shape for d in directions]:
        shapes = [tuple(p.shape) for p in parameters]
        raise bad_value("directions", [tuple(d.shape) for d in directions], f"shapes {shapes}")
    before = [parameter.detach().clone() for parameter in parameters]
    losses = []
    with torch.no_grad():
        try:
            for sign in (size, -size):
                for parameter, start, delta in zip(parameters, before, directions, strict=True):
                    parameter.copy_(start + sign * delta)
                losses.append(loss_of())
        finally:
            for parameter, start in zip(parameters, before, strict=True):
                parameter.copy_(start)
        slope = (losses[0] - losses[1]) / (2.0 * size)
        for parameter, delta in zip(parameters, directions, strict=True):
            gradient = slope * delta
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
    return (losses[0] + losses[1]) / 2.0


def random_signs(parameters: Iterable[nn.Parameter], seed: int) -> list[Tensor]:
    """Return a direction of random signs for each parameter; they belong to a seed."""
    generator = torch.Generator().manual_seed(seed)
    return [(2 * torch.randint(2, p.shape, generator=generator) - 1).to(p) for p in parameters]


def angle_between(first: Iterable[Tensor | None], second: Iterable[Tensor | None]) -> float | None:
    """Return the angle in degrees between two gradients; None where one is zero."""
    pairs = [
        (a.flatten().double(), b.flatten().double())
        for a, b in zip(first, second, strict=True)
        if a is not None and b is not None
    ]
    if not pairs:
        return None
    one, other = (torch.cat(tensors) for tensors in zip(*pairs, strict=True))
    lengths = float(one.norm() * other.norm())
    if not lengths > 0.0 or not math.isfinite(lengths):
        return None
    return math.degrees(math.acos(max(-1.0, min(1.0, float(one @ other) / lengths))))
