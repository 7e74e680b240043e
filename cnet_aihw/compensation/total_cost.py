"""Overheads of a measured network: layers off the crossbars, calibration, compensation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from cnet_aihw.compensation.cost import calibration_overhead, off_crossbar_cost, total_overhead
from cnet_aihw.compensation.network import network_cost
from cnet_aihw.compensation.with_compensation import WithCompensation
from cnet_aihw.evaluation.calibration import ChipCalibration
from cnet_aihw.runtime.inputs import Inputs
from cnet_aihw.runtime.typed import checked


@checked
def overheads(
    model: nn.Module,
    example: Inputs,
    calibration: ChipCalibration | None,
    compensation: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return the cost of layers off the crossbars, of a calibration and of compensation.

    Args:
        model: the network, compensated or not.
        example: inputs of one or more samples.
        calibration: what is calibrated on each chip; of one that compensates, its fit.
        compensation: ``overhead_weights`` and ``overhead_macs`` of the compensation, if any.

    Returns:
        ``digital`` and ``calibration`` by themselves, and the overhead of all three in weights and
        MACs, as shares of the network's; in MACs None where ``digital.unknown_macs`` names modules
        whose MACs cannot be counted.
    """
    if isinstance(calibration, WithCompensation):
        calibration = calibration.fit
    network, given = network_cost(model, example), compensation or {}
    off, added = off_crossbar_cost(network), 0.0
    if calibration is not None:
        added = calibration_overhead(network, calibration.cost(model))
    return {
        "digital": {
            "layers": list(off.weights),
            "overhead_weights": off.overhead_weights,
            "overhead_macs": off.overhead_macs,
            "unknown_macs": off.unknown,
        },
        "calibration": {
            "label": None if calibration is None else calibration.label(),
            "overhead_weights": added,
        },
        "overhead_weights": total_overhead(
            [off.overhead_weights, added, given.get("overhead_weights")]
        ),
        "overhead_macs": None
        if off.unknown
        else total_overhead([off.overhead_macs, given.get("overhead_macs")]),
    }
