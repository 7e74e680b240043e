"""The analog matrix product behind a periphery, on aihwkit's torch implementation of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from aihwkit.simulator.parameters import IOParameters
from aihwkit.simulator.parameters.enums import BoundManagementType, NoiseManagementType
from aihwkit.simulator.tiles.analog_mvm import AnalogMVM
from torch import Tensor

from cnet_aihw.runtime.errors import CnetError, bad_value


class RRAMAnalogMVM(AnalogMVM):
    """aihwkit's matrix product of DAC, crossbar, noise and ADC, with IR drop added."""

    @classmethod
    def check_support(cls, io_pars: IOParameters) -> None:
        """Refuse what torch tiles do not compute; see aihwkit's ``check_support``.

        Raises:
            CnetError: for a converter whose range cannot be divided into steps, which would give
                NaN.
        """
        super().check_support(replace(io_pars, ir_drop=0.0))
        inputs, outputs = io_pars.inp_bound, io_pars.out_bound  # of outputs 0 is not known yet
        for side, steps, bound, wrong in (
            ("inp", io_pars.inp_res, inputs, not 0.0 < inputs < math.inf),
            ("out", io_pars.out_res, outputs, not outputs < math.inf),
        ):
            if wrong and steps > 0.0 and not io_pars.is_perfect:
                expected = f"a finite range above 0, which {side}_res divides into steps"
                fix = f"or give {side}_res=-1 for a converter without steps"
                raise bad_value(f"forward.{side}_bound", bound, expected, fix)

    @classmethod
    def matmul(
        cls,
        weight: Tensor,
        input_: Tensor,
        io_pars: IOParameters,
        trans: bool = False,
        is_test: bool = False,
        **fwd_pars: Any,
    ) -> Tensor:
        """Compute the product as aihwkit does; on CUDA without waiting for the device.

        aihwkit looks whether all inputs are zero, to give zeros then; here they are multiplied in.
        """
        managed = io_pars.noise_management != NoiseManagementType.NONE
        if (
            input_.device.type != "cuda"
            or not managed
            or io_pars.is_perfect
            or io_pars.bound_management != BoundManagementType.NONE
        ):
            return super().matmul(weight, input_, io_pars, trans, is_test, **fwd_pars)
        largest = cls._compute_noise_management(
            input_=input_, nm_type=io_pars.noise_management, io_pars=io_pars
        )
        largest = torch.as_tensor(largest, device=input_.device, dtype=input_.dtype)
        scale = 1.0 / torch.where(largest > 0.0, largest, 1.0)
        _, output = cls._compute_analog_mv(
            weight=weight,
            input_=input_,
            trans=trans,
            scale=scale,
            scaling=True,
            is_test=is_test,
            io_pars=io_pars,
            **fwd_pars,
        )
        output = output * (io_pars.out_scale / scale)
        return output if io_pars.inp_noise > 0.0 else output * (largest != 0.0).any()

    @classmethod
    def _compute_analog_mv(
        cls,
        weight: Tensor,
        input_: Tensor,
        trans: bool,
        scale: Any,
        scaling: bool,
        is_test: bool,
        io_pars: IOParameters,
        observer: Callable[[Tensor], None] | None = None,
        **fwd_pars: Any,
    ) -> tuple[bool, Tensor]:
        """Compute one pass, [..., in] -> [..., out], before the input's scale is undone.

        An observer, if any, sees what the ADC would, and nothing is converted.
        """
        inputs = cls._prepare_input(
            input_=input_,
            scale=scale,
            scaling=scaling,
            with_asymmetry=io_pars.inp_asymmetry != 0.0,
            io_pars=io_pars,
        )
        outputs = cls._matmul(weight, inputs, trans=trans)
        if io_pars.ir_drop > 0.0:
            outputs = outputs - voltage_loss(weight, inputs, io_pars)
        if observer is not None:
            observer(outputs)
            return True, outputs
        if io_pars.out_res > 0.0 and not io_pars.out_bound > 0.0:
            raise CnetError(
                "the ADC has no range yet: adc_range is null, so call "
                "cnet_aihw.evaluation.calibrate_adc(model, inputs), or give a number.",
                key="adc_range",
                expected="a number, or calibrated ranges",
            )
        return cls._finalize_output(out_values=outputs, io_pars=io_pars, **fwd_pars)


def voltage_loss(weight: Tensor, inputs: Tensor, io_pars: IOParameters) -> Tensor:
    r"""Compute what the resistance of the wires takes from the outputs of a crossbar.

    .. math:: \Delta y_i = \gamma\, c(a_i) \sum_j w_{ij} x_j \left(1 - (1 - j/n)^2\right),\quad
        c(a) = 0.05 a^3 - 0.2 a^2 + 0.5 a,\quad a_i = \frac{n}{r} \sum_j |w_{ij}| |x_j|

    with the scale :math:`\gamma` (``ir_drop``), n inputs, the first of which loses nothing, and the
    ratio r of the wire's conductance between cells to the largest conductance
    (``ir_drop_g_ratio``). Source: the approximation that aihwkit's C++ tile computes (Rasch,
    Gokmen and Haensch, arXiv 1906.02698).

    Args:
        weight: weights in the tile's units, [out, in]; 1 is the largest conductance.
        inputs: inputs after the DAC, [..., in]; 1 is the largest voltage.
        io_pars: periphery.

    Returns:
        The loss, [..., out].
    """
    rows = weight.shape[-1]
    current = (inputs.abs() @ weight.abs().T) * (rows / io_pars.ir_drop_g_ratio)
    factor = current * (current * (0.05 * current - 0.2) + 0.5)
    distance = 1.0 - torch.arange(rows, device=weight.device, dtype=weight.dtype) / rows
    return io_pars.ir_drop * factor * ((inputs * (1.0 - distance.square())) @ weight.T)
