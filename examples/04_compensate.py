"""Example 04: compensate a trained network where you say.

The network is trained plainly. Two layers get a generator and a compensator (CorrectNet, step 2),
which are fitted on sampled chips while the network's own weights stay as they are. Shown are what
this costs, and the accuracy before and after on the same chips.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from cnet_aihw import (
    LogNormalNoiseModel,
    RRAMRPUConfig,
    TrainingSettings,
    convert_to_analog,
    evaluate_chips,
    train,
)
from cnet_aihw.compensation import (
    PAPER,
    FitSettings,
    Placement,
    compensate,
    compensation_cost,
    fit_compensation,
    network_cost,
    remove_compensation,
)
from cnet_aihw.zoo import LeNet5, digits

QUICK = "--quick" in sys.argv
EPOCHS, CHIPS = (1, 2) if QUICK else (10, 50)
PLACEMENT = Placement({"conv1": 1.0, "conv2": 0.5})  # generator filters / layer filters


def main() -> None:
    """Train, compensate, fit, measure."""
    torch.manual_seed(0)
    data = digits()
    config = RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.5))
    model = convert_to_analog(LeNet5(data.input_shape, data.classes), config)
    cost = compensation_cost(network_cost(model, data.val.x[:1]), PLACEMENT, PAPER)
    print(f"overhead: {cost.overhead_weights:.2%} weights, {cost.overhead_macs:.2%} MACs")

    with TemporaryDirectory() as name:
        folder = Path(name)
        plain = TrainingSettings(epochs=EPOCHS, batch_size=32, lr=0.01, select="last")
        train(model, data, plain, folder / "plain")
        show("before", model, data)
        compensate(model, PLACEMENT, PAPER)
        fit_compensation(model, data, FitSettings(epochs=EPOCHS, batch_size=32), folder / "fit")
        show("compensated", model, data)
    show("removed", remove_compensation(model), data)


def show(what: str, model, data) -> None:
    """Measure and print."""
    found = evaluate_chips(model, data.test, chips=CHIPS)
    print(f"{what:<12} clean {found.clean:.3f}, on chips {found.mean:.3f} +- {found.std:.3f}")


if __name__ == "__main__":
    main()
