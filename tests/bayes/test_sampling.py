"""Samples of predictions, their corrections and records; baselines."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import nn

from cnet_aihw import rram
from cnet_aihw.bayes import (
    LastLayerLaplace,
    LogitCorrection,
    deep_ensemble,
    deterministic,
    evaluate_uncertainty,
    mc_dropout,
    predict,
    uncertainty_scores,
)
from cnet_aihw.bayes.statistics import pooled
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.records import read_records

from .binary_networks import on_cells


def varied(noise_model: object) -> nn.Module:
    torch.manual_seed(2)
    network = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    return rram.convert_to_analog(network, rram.RRAMRPUConfig(noise_model=noise_model)).eval()


def test_a_sample_is_one_network_whatever_else_is_asked_for(cells: nn.Module, data: tuple) -> None:
    x, state = data[0], torch.get_rng_state()
    few = predict(cells, x, "cells", 3, seed=5)
    many = predict(cells, x, "cells", 6, seed=5, batch_size=7)
    torch.testing.assert_close(few, many[:3])
    assert len({float(sample.sum(0)[0]) for sample in many}) == 6
    assert not torch.equal(few, predict(cells, x, "cells", 3, seed=6))
    assert torch.equal(state, torch.get_rng_state())
    assert not rram.is_programmed(cells)


def test_the_sources_are_chips_and_readings(data: tuple) -> None:
    x, device = data[0], rram.LogNormalNoiseModel(0.5)
    model = varied(device)
    several = predict(model, x, "chips", 4)
    assert len(several.unique(dim=0)) == 4
    still = predict(varied(rram.LogNormalNoiseModel(0.0)), x, "chips", 4)
    assert len(still.unique(dim=0)) == 1
    read = rram.CompositeNoiseModel([device, rram.ReadNoiseModel(0.1)])
    readings = predict(model, x, "readings", 4, noise_model=read)
    assert len(readings.unique(dim=0)) == 4
    assert uncertainty_scores(readings, data[1])["mutual_information"] > 0


@pytest.mark.parametrize(
    ("source", "samples", "key"),
    [
        ("readings", 2, "source"),
        ("cells", 2, "source"),
        ("dice", 2, "source"),
        ("chips", 0, "samples"),
    ],
)
def test_sources_that_devices_lack_are_refused(
    source: str, samples: int, key: str, data: tuple
) -> None:
    model = varied(rram.LogNormalNoiseModel(0.5))
    with pytest.raises(CnetError) as error:
        predict(model, data[0], source, samples)
    assert error.value.key == key


def test_cells_are_not_readings(cells: nn.Module, data: tuple) -> None:
    with pytest.raises(CnetError) as error:
        predict(cells, data[0], "readings", 2)
    assert error.value.key == "source"


@pytest.mark.parametrize("kind", ["temperature", "logit_affine"])
def test_a_correction_improves_its_own_data_and_leaves_no_trace(
    kind: str, cells: nn.Module, data: tuple
) -> None:
    correction = LogitCorrection(*data, kind, samples=64)
    before = predict(cells, data[0], "cells", 64, seed=1)
    corrected = predict(cells, data[0], "cells", 64, seed=1, calibration=correction)
    raw, better = (uncertainty_scores(p, data[1])["nll"] for p in (before, corrected))
    assert better < raw
    torch.testing.assert_close(predict(cells, data[0], "cells", 64, seed=1), before)
    assert not cells._forward_hooks
    assert correction.cost(cells) == (1 if kind == "temperature" else 6)
    assert correction.fingerprint() != LogitCorrection(*data, kind, samples=8).fingerprint()


class Outputs(nn.Module):
    """A network with logits in a tensor, under a name, or in a tuple."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.layer, self.kind = nn.Linear(6, 3), kind

    def forward(self, x: torch.Tensor) -> object:
        logits = self.layer(x)
        return {"tensor": logits, "named": {"logits": logits}, "tuple": (logits, x)}[self.kind]


def test_a_correction_takes_networks_whose_outputs_have_names(data: tuple) -> None:
    plain, named = (rram.convert_to_analog(Outputs(kind)) for kind in ("tensor", "named"))
    for kind in ("temperature", "logit_affine"):
        asked = {"samples": 2, "calibration": LogitCorrection(*data, kind)}
        assert torch.equal(predict(named, data[0], **asked), predict(plain, data[0], **asked))
    assert set(named(data[0])) == {"logits"}


@pytest.mark.parametrize("call", [predict, deterministic])
def test_outputs_without_names_are_refused(call: object, data: tuple) -> None:
    with pytest.raises(CnetError) as error:
        call(rram.convert_to_analog(Outputs("tuple")), data[0])
    assert (error.value.key, error.value.value) == ("model", "outputs of tuple")


def test_laplace_wants_one_row_of_logits_for_an_input() -> None:
    part = torch.randn(20, 5, 6), torch.randint(0, 3, (20, 5))
    with pytest.raises(CnetError) as error:
        LastLayerLaplace(Outputs("tensor"), part, part)
    assert (error.value.key, error.value.value) == ("model", "outputs (20, 5, 3)")


def test_records_resume_and_more_extends_fewer(
    cells: nn.Module, data: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "uncertainty.jsonl"
    asked = {"source": "cells", "ood": (3 * data[0], data[1]), "device": "cpu"}
    few = evaluate_uncertainty(cells, data, samples=(1, 4), chips=2, records=path, **asked)
    assert len(read_records(path)) == 4
    more = evaluate_uncertainty(
        cells, data, samples=(1, 4, 8), chips=3, t_inference=None, records=path, **asked
    )
    whole = evaluate_uncertainty(cells, data, samples=(1, 4, 8), chips=3, **asked)
    assert len(read_records(path)) == 9
    assert more == whole
    rows = [r for r in read_records(path) if r["chip"] < 2 and r["samples"] == 4]
    assert few.of(4).mean["nll"] == pytest.approx(sum(r["nll"] for r in rows) / 2)
    assert sum(row[0] for row in whole.reliability) == 3 * len(data[0])
    most = [r["reliability"] for r in read_records(path) if r["samples"] == 8]
    assert whole.reliability == pooled(most)
    monkeypatch.setattr("cnet_aihw.bayes.evaluate.sampled_logits", None)
    assert evaluate_uncertainty(cells, data, samples=8, chips=3, records=path, **asked).rows
    with pytest.raises(CnetError):
        evaluate_uncertainty(cells, data, samples=8, chips=3, seed=1, records=path, **asked)
    for key, other in (("ood", (2 * data[0], data[1])), ("source", "chips")):
        with pytest.raises(CnetError) as error:
            evaluate_uncertainty(cells, data, chips=3, records=path, **{**asked, key: other})
        assert error.value.key == key
    with pytest.raises(CnetError) as error:
        whole.of(2)
    assert error.value.key == "samples"


def test_outputs_that_are_not_finite_fail_a_chip(cells: nn.Module, data: tuple) -> None:
    found = deepcopy(cells)
    layers = rram.analog_layers(found)
    layers["2"].bias.data.fill_(float("inf"))
    with pytest.raises(CnetError) as error:
        evaluate_uncertainty(found, data, source="cells", samples=2, chips=2)
    assert error.value.key == "chips"


def test_digital_baselines(data: tuple) -> None:
    x, y = data
    torch.manual_seed(0)
    layers = [nn.Linear(6, 5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 3)]
    network = nn.Sequential(*layers).train()
    torch.testing.assert_close(deterministic(network, x)[0], network.eval()(x))
    network.train()
    dropped = mc_dropout(network, x, 8, seed=3)
    assert len(dropped.unique(dim=0)) == 8
    assert network.training
    torch.testing.assert_close(dropped[:2], mc_dropout(network, x, 2, seed=3))
    with pytest.raises(CnetError) as error:
        mc_dropout(nn.Linear(6, 3), x)
    assert error.value.key == "model"
    other = nn.Linear(6, 3)
    both = deep_ensemble([network, other], x)
    torch.testing.assert_close(both[1], other(x))
    with pytest.raises(CnetError) as error:
        deep_ensemble([], x)
    assert error.value.key == "models"
    assert uncertainty_scores(both.softmax(-1), y)["mutual_information"] > 0


def test_laplace_has_the_curvature_of_logistic_regression(data: tuple) -> None:
    """Of two classes with one shared p the factors are exact: compare with the dense inverse."""
    torch.manual_seed(0)
    x = data[0]
    network = nn.Sequential(nn.Linear(6, 2))
    nn.init.zeros_(network[0].weight)
    nn.init.zeros_(network[0].bias)
    y = (x[:, 0] > 0).long()
    laplace = LastLayerLaplace(network, (x, y), (x, y))
    drawn = {10.0**n: laplace.sample(x, 16, precision=10.0**n) for n in range(-3, 5)}
    scores = {n: uncertainty_scores(of.softmax(-1), y)["nll"] for n, of in drawn.items()}
    assert laplace.precision == min(scores, key=lambda n: scores[n]) != 1e-3
    logits = laplace.sample(x, 4000, precision=1.0)
    ones = torch.cat([x, torch.ones(len(x), 1)], 1).double()
    gram = ones.T @ ones
    root = 1.0 / len(x) ** 0.5
    a = gram / len(x) + root * torch.eye(7, dtype=torch.float64)
    g = torch.tensor([[0.25, -0.25], [-0.25, 0.25]]).double() + root * torch.eye(2)
    covariance = torch.linalg.inv(torch.kron(g, a)) / len(x)
    left = torch.stack([torch.kron(torch.eye(2)[0].double(), row) for row in ones])
    expected = (left @ covariance * left).sum(1)
    assert logits[..., 0].var(0).numpy() == pytest.approx(expected.numpy(), rel=0.15)
    with pytest.raises(CnetError) as error:
        LastLayerLaplace(nn.Sequential(nn.Linear(6, 3), nn.ReLU()), data, data)
    assert error.value.key == "model"


def test_a_copy_on_cells_keeps_its_scales(cells: nn.Module, data: tuple) -> None:
    copy = deepcopy(cells)
    torch.testing.assert_close(
        predict(copy, data[0], "cells", 2), predict(cells, data[0], "cells", 2)
    )
    state = rram.snapshot(cells)
    torch.manual_seed(9)
    fresh = on_cells(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)))
    rram.load_snapshot(fresh, state)
    torch.testing.assert_close(
        predict(fresh, data[0], "cells", 2), predict(cells, data[0], "cells", 2)
    )


def charge_network(spike_noise: float) -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 5), nn.Hardtanh(0.0, 1.0), nn.Linear(5, 3))
    readout = rram.Charge(2.0, -2.0, test_steps=4, spike_noise=spike_noise)
    config = rram.RRAMRPUConfig(noise_model=rram.LogNormalNoiseModel(0.3), readout=readout)
    return rram.convert_to_analog(network, config).eval()


@pytest.mark.parametrize(("spike_noise", "same"), [(0.0, True), (0.3, False)])
def test_a_correction_is_fitted_to_all_readings_where_spikes_are_noisy(
    spike_noise: float, same: bool, data: tuple
) -> None:
    model, x = charge_network(spike_noise), data[0].sigmoid()
    found = [
        predict(
            *(model, x, "chips", 1), seed=2, batch_size=100,
            calibration=LogitCorrection(x, data[1], samples=samples),
        )
        for samples in (1, 16)
    ]  # fmt: skip
    assert torch.equal(*found) == same


def test_a_correction_wants_classes_of_the_network(cells: nn.Module, data: tuple) -> None:
    for y in (data[1].float(), data[1] - 1):
        with pytest.raises(CnetError) as error:
            LogitCorrection(data[0], y)
        assert error.value.key == "y"
    with pytest.raises(CnetError) as error:
        predict(cells, data[0], "cells", 2, calibration=LogitCorrection(data[0], data[1] + 1))
    assert error.value.key == "targets"


def test_a_corrected_chip_without_finite_outputs_fails(cells: nn.Module, data: tuple) -> None:
    rram.analog_layers(cells)["2"].bias.data[0] = float("inf")
    correction = LogitCorrection(*data, samples=2)
    assert predict(cells, data[0], "cells", 2, calibration=correction).isnan().all()


def test_inputs_that_the_network_does_not_take_are_refused(cells: nn.Module, data: tuple) -> None:
    for x in (data[0][:, :4], {"pixels": data[0]}):
        for predicted in (
            lambda x=x: predict(cells, x, "cells", 2),
            lambda x=x: deterministic(cells, x),
        ):
            with pytest.raises(CnetError) as error:
                predicted()
            assert error.value.key == "data"
    assert not cells.training and all(tile.chip is None for _, tile in rram.named_tiles(cells))
