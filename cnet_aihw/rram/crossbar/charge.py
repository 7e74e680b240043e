"""Charge read-out of a crossbar's columns: spikes switch cells on, a capacitor integrates.

Source: Sakemi et al., arXiv 2412.09010 (RC-Spike layers, DSTD); weight scales per sign too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import torch
from aihwkit.simulator.parameters.helpers import _PrintableMixin
from torch import Tensor

from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.typed import check_fields, checked
from cnet_aihw.runtime.values import bad_choice, check_count

ReadOut = Literal["current", "charge"]
_MOST_STEPS = 10_000
_TOLERANCE = 1e-5  # rounding of values clipped to [0, 1]
_ELEMENTS = 2**17  # inputs of intervals that are computed at once
_NO_DECAY = 1e-12  # stands for none, since the share that is gained then is exactly 1


@dataclass(frozen=True)
class Charge(_PrintableMixin):
    r"""Columns read as the voltage of a capacitor at the end of a window of length 1.

    An input x in [0, 1] is a spike at t = 1 - x, which switches its cell on. With
    :math:`g = \sum_j w_j H(t - t_j)` and :math:`f = \sum_{w_j \ge 0} w_j H(t - t_j) / E^+ +
    \sum_{w_j < 0} w_j H(t - t_j) / E^-`,

    .. math:: \frac{dv}{dt} = g(t) - f(t)\, v,\qquad v(0) = 0

    and the layer's output is v(1), plus its digital bias if it has one. For infinite reversal
    potentials it is :math:`\sum_j w_j x_j`. The variation of a weight acts on g and on f.

    The equation is solved exactly on a grid of intervals, in each of which a cell is on for the
    share of the interval that follows its spike (DSTD); the error falls with the square of the
    interval.

    Raises:
        CnetError: for potentials of the wrong sign, less than one step, noise below 0, and scales
            that are not above 0.
    """

    e_plus: float = 4.0
    """Reversal potential of the line that weights >= 0 charge towards, above 0; unit: the voltage
    that ends the ramp, which an input of 1 at a weight of 1 reaches. inf: no limit."""

    e_minus: float = -4.0
    """The same of weights below 0, below 0."""

    steps: int = 10
    """Intervals of the time grid in training."""

    test_steps: int = 30
    """Intervals in evaluation."""

    random_offset: bool = True
    """Whether each training forward of each layer shifts the grid at random by up to an interval,
    so that gradients see spikes everywhere."""

    spike_noise: float = 0.01
    """Standard deviation of the time of a spike, in training and evaluation; inputs of exactly 0
    are no spikes, and have none."""

    scale_plus: float = 1.0
    """Factor on weights >= 0 when they are put on the crossbar, for networks that were trained
    without the circuit."""

    scale_minus: float = 1.0
    """The same of weights below 0."""

    def __post_init__(self) -> None:
        """Check the values."""
        check_fields(self)
        if not self.e_plus > 0.0:
            raise bad_value("e_plus", self.e_plus, "a number above 0, or inf")
        if not self.e_minus < 0.0:
            raise bad_value("e_minus", self.e_minus, "a number below 0, or -inf")
        for key in ("steps", "test_steps"):
            check_count(key, getattr(self, key), most=_MOST_STEPS)
        if not 0.0 <= self.spike_noise < math.inf:
            raise bad_value("spike_noise", self.spike_noise, "a standard deviation of at least 0")
        for key in ("scale_plus", "scale_minus"):
            if not 0.0 < getattr(self, key) < math.inf:
                raise bad_value(key, getattr(self, key), "a number above 0")

    @property
    def is_linear(self) -> bool:
        """Whether both potentials are infinite, so that v(1) is a matrix product."""
        return math.isinf(self.e_plus) and math.isinf(self.e_minus)

    def __str__(self) -> str:
        settings = (f"{f.name}={getattr(self, f.name)}" for f in fields(self))
        return f"Charge({', '.join(settings)})"


@checked
def readout(
    kind: ReadOut = "current",
    e_rev: float = 4.0,
    *,
    e_plus: float | None = None,
    e_minus: float | None = None,
    steps: int = 10,
    test_steps: int = 30,
    random_offset: bool = True,
    spike_noise: float = 0.01,
    scale_plus: float = 1.0,
    scale_minus: float = 1.0,
) -> Charge | None:
    """Describe how columns are read, for ``RRAMRPUConfig.readout``.

    Args:
        kind: ``"current"``, or ``"charge"``: see :class:`Charge`, also for what follows.
        e_rev: reversal potentials are this and minus this, where they are not given.
        e_plus: upper reversal potential.
        e_minus: lower one.
        steps: intervals of the time grid in training.
        test_steps: intervals in evaluation.
        random_offset: whether training shifts the grid at random.
        spike_noise: standard deviation of the time of a spike.
        scale_plus: factor on weights >= 0.
        scale_minus: factor on weights below 0.

    Returns:
        The description, or None for currents.

    Raises:
        CnetError: as :class:`Charge`, also where currents are read.
    """
    if kind not in get_args(ReadOut):
        raise bad_choice("readout", kind, get_args(ReadOut))
    if not e_rev > 0.0:
        raise bad_value("e_rev", e_rev, "a number above 0, or inf")
    made = Charge(
        *(e_rev if e_plus is None else e_plus, -e_rev if e_minus is None else e_minus),
        *(steps, test_steps, random_offset, spike_noise, scale_plus, scale_minus),
    )
    return made if kind == "charge" else None


def charge_voltage(
    x: Tensor,
    weight: Tensor,
    product: Callable[[Tensor, Tensor], Tensor],
    charge: Charge,
    *,
    training: bool,
    layer: str = "a layer",
) -> Tensor:
    """Return the voltages v(1) of a layer's columns; differentiable in inputs and weights.

    Draws the noise of spikes from torch's global generator of the inputs' device, and the shift of
    the grid from that of the CPU.

    Args:
        x: inputs in [0, 1].
        weight: weights of this forward, [out, in / groups * kernel].
        product: the layer's product of several inputs and such weights, [n, *x.shape] -> [n, ...],
            without a bias.
        charge: the circuit.
        training: whether it is a training forward.
        layer: name for messages.

    Raises:
        CnetError: for inputs outside [0, 1].
    """
    check_unit_interval(x, layer)
    if charge.spike_noise > 0.0:
        noise = torch.randn_like(x).mul_(charge.spike_noise * (x > 0.0))
        x = _Clipped.apply(x + noise, True)
    into_g = _by_sign(weight, charge.scale_plus, charge.scale_minus)
    if charge.is_linear:
        return product(x.unsqueeze(0), into_g)[0]
    x = _Ends.apply(_Clipped.apply(x, True))
    into_f = _by_sign(into_g, 1.0 / charge.e_plus, 1.0 / charge.e_minus)
    edges = x.new_tensor(time_grid(charge, training=training), dtype=torch.float64)
    stops = (edges[1:] - 1.0).to(x.dtype)
    widths = edges.diff().to(x.dtype)
    voltage: Tensor | None = None
    at_once = max(1, _ELEMENTS // max(1, x.numel()))  # intervals
    for stop, width in zip(stops.split(at_once), widths.split(at_once), strict=True):
        stop, width = (one.view(-1, *(1,) * x.dim()) for one in (stop, width))
        on = _Clipped.apply(
            (x + stop) / width, False
        )  # [intervals, *x.shape]: shares after the spike
        currents, leaks = product(on, into_g), product(on, into_f)
        width = width.view(-1, *(1,) * (currents.dim() - 1))
        lost, gained = _relaxed(leaks * width)
        for fresh, share in zip(currents * width * gained, lost, strict=True):
            voltage = fresh if voltage is None else voltage - voltage * share + fresh
    assert voltage is not None
    return voltage


def time_grid(charge: Charge, *, training: bool) -> Sequence[float]:
    """Return the edges of the intervals, from 0 (or less, where the grid is shifted) to 1."""
    steps = charge.steps if training else charge.test_steps
    offset = float(torch.rand(())) if training and charge.random_offset else 0.0
    edges = [(number - offset) / steps for number in range(steps + 1)]
    return edges if offset == 0.0 else [*edges, 1.0]  # the last interval is shorter


def check_unit_interval(x: Tensor, layer: str) -> None:
    """Refuse inputs that are not times of spikes.

    Raises:
        CnetError: for values outside [0, 1].
    """
    if not x.numel():
        return
    low, high = (float(value) for value in torch.aminmax(x.detach()))
    if low < -_TOLERANCE or high > 1.0 + _TOLERANCE:
        fix = "clip them first, as torch.nn.Hardtanh(0.0, 1.0) does, and give pixels from 0 to 1"
        raise CnetError(
            f"{layer} reads its inputs as times of spikes, which are 1 - x for x in [0, 1], but "
            f"they are from {low:.3g} to {high:.3g}; {fix}.",
            key=layer,
            value=(low, high),
            expected="inputs in [0, 1]",
            fix=fix,
        )


class _Clipped(torch.autograd.Function):
    """Values clipped to [0, 1]; at both bounds the gradient passes wholly, or by half.

    That of torch.clamp is 0 there: pixels that are 0, or spikes on an edge of the grid, would seem
    to change nothing. By half, two intervals that meet in a spike share it.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, wholly: bool) -> Tensor:
        ctx.save_for_backward(values)
        ctx.wholly = wholly
        return values.clamp(0.0, 1.0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (values,) = ctx.saved_tensors
        if ctx.wholly:
            inside = (values >= -_TOLERANCE) & (values <= 1.0 + _TOLERANCE)
            return grad * inside, None
        return (values.sign() - (values - 1.0).sign()).mul_(0.5).mul_(grad), None


class _Ends(torch.autograd.Function):
    """Inputs as they are; at 0 and 1 only one interval has its half of the gradient: twice it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * (1.0 + ((x == 0.0) | (x == 1.0)).to(grad.dtype))


def _by_sign(weight: Tensor, plus: float, minus: float) -> Tensor:
    """Return weights >= 0 times one factor, and the others times another one."""
    if plus == minus:
        return weight if plus == 1.0 else weight * plus
    return weight.abs() * plus if plus == -minus else weight * torch.where(weight >= 0, plus, minus)


def _relaxed(decay: Tensor) -> tuple[Tensor, Tensor]:
    """Return 1 - exp(-z) and that over z, also where z is 0 (no cell is on)."""
    decay = decay.clamp_min(_NO_DECAY)
    lost = -torch.expm1(-decay)
    return lost, lost / decay
