"""Example 11: a posterior over binary weights, sampled by stochastic cells of a chip.

A small network on scikit-learn's digits is trained for the probabilities of its binary weights.
Each reading of a chip samples all weights by its devices' read noise; predictions are means over
readings. Shown is how accuracy and likelihood grow with the readings, what a drift of conductances
does to them in a day, and what a read-out that is amplified against it gives back. A temperature,
fitted on each chip to validation data, comes last.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from cnet_aihw.bayes import LogitCorrection, evaluate_uncertainty
from cnet_aihw.rram import (
    CompositeNoiseModel,
    GaussianAdditiveNoiseModel,
    PowerLawDriftNoiseModel,
    RRAMRPUConfig,
    StochasticCellNoiseModel,
    convert_to_analog,
    make_binary,
)
from cnet_aihw.training import BayesSettings, TrainingSettings, VariationSettings, train
from cnet_aihw.zoo import MLP, digits

QUICK = "--quick" in sys.argv
EPOCHS, CHIPS = (1, 2) if QUICK else (40, 5)
SAMPLES = (1, 4) if QUICK else (1, 4, 16)
DAY = 86400.0
NU = 0.05


def device(exponent: float = 0.0) -> CompositeNoiseModel:
    """Return cells that are programmed with an error and drift; the exponent corrects that."""
    cell = StochasticCellNoiseModel(sigma_read=0.2, drift_exponent=exponent)
    drift = PowerLawDriftNoiseModel(NU, nu_std=0.01)
    return CompositeNoiseModel([GaussianAdditiveNoiseModel(0.1), drift, cell])


def main() -> None:
    """Train, and show the scores of predictions."""
    torch.manual_seed(0)
    data = digits(size=8)
    network = MLP(data.input_shape, data.classes, hidden=(64,))
    model = convert_to_analog(network, RRAMRPUConfig(noise_model=device()))
    make_binary(model)
    settings = TrainingSettings(
        epochs=EPOCHS,
        batch_size=64,
        optimizer="bayes_binary",
        lr=0.005,
        weight_decay=0.0,
        select="last",
        validation_chips=0,
        variation=VariationSettings(enabled=True, gradient="reparametrized"),
        bayes=BayesSettings(data_weight=20.0),
    )
    with TemporaryDirectory() as folder:
        train(model, data, settings, Path(folder))
    correction = LogitCorrection(data.val.x, data.val.y, samples=max(SAMPLES))
    rows = (
        *[("programmed", count, 1.0, device(), None) for count in SAMPLES],
        ("after a day", max(SAMPLES), DAY, device(), None),
        ("amplified", max(SAMPLES), DAY, device(NU), None),
        ("temperature", max(SAMPLES), DAY, device(), correction),
    )
    print(f"{'cells':<14}{'samples':>8}{'accuracy':>10}{'NLL':>8}{'ECE':>8}{'MI':>8}")
    for name, samples, seconds, noise_model, calibration in rows:
        found = evaluate_uncertainty(
            model,
            data.test,
            source="cells",
            samples=samples,
            chips=CHIPS,
            noise_model=noise_model,
            t_inference=seconds,
            calibration=calibration,
        )
        mean = found.of(samples, seconds).mean
        scores = [mean[name] for name in ("accuracy", "nll", "ece", "mutual_information")]
        print(f"{name:<14}{samples:8d}{scores[0]:10.3f}" + "".join(f"{s:8.3f}" for s in scores[1:]))


if __name__ == "__main__":
    main()
