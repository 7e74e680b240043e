"""Example 04: compensate a trained network, with one fit for all chips and with one for each.

The network is trained plainly. As in CorrectNet (step 2), two layers get a generator and a
compensator, which are trained on sampled chips while the network's own weights stay as they are.
Then, the default of a job, low-rank correctors at all layers are fitted to each chip in closed
form, from inputs without labels. Shown are what both cost, and the accuracy on the same chips.
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
    LowRank,
    PerChipFit,
    Placement,
    WithCompensation,
    compensate,
    compensation_cost,
    fit_compensation,
    network_cost,
    remove_compensation,
    uniform_placement,
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
    network = network_cost(model, data.val.x[:1])
    everywhere = uniform_placement(network, list(network.layers), 0.05, LowRank())
    for what, placement, kind in (
        ("one for all chips", PLACEMENT, PAPER),
        ("one for each", everywhere, LowRank()),
    ):
        cost = compensation_cost(network, placement, kind)
        print(f"{what}: {cost.overhead_weights:.2%} weights, {cost.overhead_macs:.2%} MACs added")

    with TemporaryDirectory() as name:
        folder = Path(name)
        plain = TrainingSettings(epochs=EPOCHS, batch_size=32, lr=0.01, select="last")
        train(model, data, plain, folder / "plain")
        show("before", model, data)
        compensate(model, PLACEMENT, PAPER)
        fit_compensation(model, data, FitSettings(epochs=EPOCHS, batch_size=32), folder / "fit")
        show("one for all chips", model, data)
    show("removed", remove_compensation(model), data)
    own = WithCompensation(everywhere, LowRank(), PerChipFit(data.train.x[:500]))
    show("one for each", model, data, own)


def show(what: str, model, data, calibration=None) -> None:
    """Measure and print."""
    found = evaluate_chips(model, data.test, chips=CHIPS, calibration=calibration)
    print(f"{what:<18} clean {found.clean:.3f}, on chips {found.mean:.3f} +- {found.std:.3f}")


if __name__ == "__main__":
    main()
