"""Example 10: a kernel by random features, whose projection lies on a crossbar.

Digits are classified with an RBF kernel: exactly, and by a ridge regression on random features in
software and on chips. Then the projection is matched to the device, and the read-out is fitted to
each chip; at the end the same features are a step of a pipeline of scikit-learn.
"""

import sys

import torch
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline

from cnet_aihw import LogNormalNoiseModel, RRAMRPUConfig, convert_to_analog
from cnet_aihw.evaluation import measured_chips
from cnet_aihw.kernels import (
    AnalogFeatures,
    KernelScore,
    ReadoutFit,
    kernel_classifier,
    kernel_ridge_accuracy,
    predicted_error,
)
from cnet_aihw.zoo import table

QUICK = "--quick" in sys.argv
CHIPS, RATIO = (2, 1.0) if QUICK else (10, 4.0)
DEVICE = LogNormalNoiseModel(0.5)


def main() -> None:
    """Show accuracy and error of the kernel in software and on chips."""
    data = table("digits")
    train, test = (data.train.x, data.train.y), (data.test.x, data.test.y)
    config, probe = RRAMRPUConfig(noise_model=DEVICE), data.test.x[:100]
    print(f"{'':<22}{'accuracy':>10}{'error':>8}{'predicted':>11}")
    for name, match, readout in (
        ("not matched", None, None),
        ("matched", DEVICE, None),
        ("matched, own read-out", DEVICE, ReadoutFit(*train)),
    ):
        network = kernel_classifier(train[0], data.classes, log2_ratio=RATIO, match=match)
        random = network.fit(*train).features
        score = KernelScore(probe, "rbf", random.gamma, random.columns)
        if match is None:
            exact = kernel_ridge_accuracy("rbf", random.gamma, train, test, data.classes)
            clean = float((network(test[0]).argmax(1) == test[1]).double().mean())
            print(f"{'exact kernel':<22}{exact:10.3f}")
            print(f"{'in software':<22}{clean:10.3f}")
        model = convert_to_analog(network, config, exclude=["readout"])
        found = list(measured_chips(model, test, score, CHIPS, calibration=readout))
        mean = {n: sum(chip.values[n] for chip in found) / CHIPS for n in found[0].values}
        rows = probe if random.columns is None else probe[:, random.columns]
        wanted = predicted_error("rbf", rows, random.s, DEVICE, random.gamma, random.scale)
        print(f"{name:<22}{mean['score']:10.3f}{mean['kernel_error']:8.3f}{wanted:11.3f}")
    features = AnalogFeatures(log2_ratio=RATIO, rpu_config=config, chip=1, match=True)
    pipeline = make_pipeline(features, RidgeClassifier(alpha=0.5))
    pipeline.fit(*(part.numpy() for part in train))
    print(f"{'scikit-learn':<22}{pipeline.score(*(part.numpy() for part in test)):10.3f}")


if __name__ == "__main__":
    with torch.no_grad():
        main()
