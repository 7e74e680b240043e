"""Example 03: make a pretrained network robust.

A plain PyTorch network is trained with a plain PyTorch loop and saved, as yours may have been. Its
weights are loaded, put on crossbars, and fine-tuned with the Lipschitz penalty and with variation.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn
from torch.nn import functional as F

from cnet_aihw import (
    LogNormalNoiseModel,
    RRAMRPUConfig,
    TrainingSettings,
    convert_to_analog,
    convert_to_digital,
    evaluate_chips,
    train,
)
from cnet_aihw.training import LipschitzSettings, VariationSettings
from cnet_aihw.zoo import LeNet5, batches, digits, load_pretrained

QUICK = "--quick" in sys.argv
EPOCHS, CHIPS = (2, 2) if QUICK else (10, 50)


def main() -> None:
    """Pretrain, load, measure, fine-tune, measure."""
    data = digits()
    with TemporaryDirectory() as name:
        folder = Path(name)
        pretrain(folder / "pretrained.pt", data)
        network = load_pretrained(LeNet5(data.input_shape, data.classes), folder / "pretrained.pt")
        model = convert_to_analog(network, RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.5)))
        before = evaluate_chips(model, data.test, chips=CHIPS)
        settings = TrainingSettings(name="fine-tuning", epochs=EPOCHS, batch_size=32, lr=2e-3)
        settings.lipschitz = LipschitzSettings(enabled=True, beta=1e-3)
        settings.variation = VariationSettings(enabled=True)
        train(model, data, settings, folder / "run")
    after = evaluate_chips(model, data.test, chips=CHIPS)
    for what, found in (("pretrained", before), ("fine-tuned", after)):
        print(f"{what}: clean {found.clean:.3f}, on chips {found.mean:.3f} +- {found.std:.3f}")
    digital = convert_to_digital(model)  # plain torch again, to save with torch.save
    print("layers:", ", ".join(type(layer).__name__ for layer in digital.children()))


def pretrain(path: Path, data) -> None:
    """Train and save in plain torch."""
    torch.manual_seed(0)
    network: nn.Module = LeNet5(data.input_shape, data.classes)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    for epoch in range(EPOCHS):
        for x, y in batches(data.train, 32, torch.Generator().manual_seed(epoch)):
            optimizer.zero_grad()
            F.cross_entropy(network(x), y).backward()
            optimizer.step()
    torch.save(network.state_dict(), path)


if __name__ == "__main__":
    main()
