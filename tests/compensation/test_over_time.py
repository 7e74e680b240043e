"""Chips over time: when they are fitted, what is fitted, and what it brings against drift."""

import pytest
import torch
from torch import nn

from cnet_aihw.compensation import (
    LowRank,
    PerChipFit,
    Placement,
    VectorFit,
    Vera,
    WithCompensation,
    accuracy_over_time,
    compensate,
    compensated_layers,
    compensation_parameters,
    save_one_chip,
)
from cnet_aihw.evaluation import evaluate_chips
from cnet_aihw.evaluation.settings import EvaluationSettings
from cnet_aihw.rram import (
    CompositeNoiseModel,
    LogNormalNoiseModel,
    PowerLawDriftNoiseModel,
    RRAMRPUConfig,
    convert_to_analog,
    is_programmed,
    periphery,
    programmed,
    snapshot,
)
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.tasks import Classification

X = torch.randn(200, 8, generator=torch.Generator().manual_seed(1))
DRIFT = CompositeNoiseModel([LogNormalNoiseModel(0.3), PowerLawDriftNoiseModel(0.05, 0.03)])
TIMES = (1.0, 1e3, 1e7)


def network(**config):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 12), nn.Tanh(), nn.Linear(12, 5))
    return convert_to_analog(net, RRAMRPUConfig(noise_model=DRIFT, **config)).eval()


def labelled(model):
    """Inputs with the clean network's own classes, so that it scores 1."""
    return X, model(X).argmax(1)


def calibration(corrector=LowRank(), **settings):  # noqa: B008
    return WithCompensation(
        Placement({"0": 0.5, "2": 1.0}), corrector, PerChipFit(X[:100], **settings)
    )


def scores(records, t):
    return [record["score"] for record in records if record["t_inference"] == t]


def test_fitted_when_it_is_measured_it_is_what_evaluate_chips_gives():
    model = network()
    data = labelled(model)
    records = accuracy_over_time(model, data, TIMES, calibration(), fits=TIMES, chips=3)
    expected = evaluate_chips(
        model, data, chips=3, t_inference=list(TIMES), calibration=calibration()
    )
    for t in TIMES:
        assert tuple(scores(records, t)) == expected[t].scores
    assert [(r["chip"], r["t_inference"]) for r in records] == [
        (chip, t) for chip in range(3) for t in TIMES
    ]
    assert all(record["fitted_at"] == record["t_inference"] for record in records)
    assert [record["calibration"]["passes"] for record in records[:3]] == [1, 2, 3]
    assert [record["calibration"]["images"] for record in records[:3]] == [100, 200, 300]


def test_draws_on_each_chip_are_those_of_an_evaluation():
    model = network(forward=periphery(out_noise=0.3))
    data = X, network()(X).argmax(1)
    records = accuracy_over_time(model, data, [1.0], calibration(), fits=[1.0], chips=3)
    expected = evaluate_chips(model, data, chips=3, t_inference=1.0, calibration=calibration())
    assert tuple(scores(records, 1.0)) == expected.scores


def test_one_chip_is_that_of_the_evaluation_at_its_first_time(tmp_path):
    model = network()
    data, late = labelled(model), 1e7
    settings = EvaluationSettings(chips=2, seed=4, t_inference=[late, 1.0])
    found = save_one_chip(
        model, data, 1, tmp_path / "chip.safetensors", settings,
        task=Classification(), calibration=calibration(),
    )  # fmt: skip
    wanted = evaluate_chips(
        model, data, chips=2, seed=4, t_inference=late, calibration=calibration()
    )
    assert (found.t_inference, found.values["score"]) == (late, wanted.scores[1])


def test_a_fit_at_a_time_serves_whatever_time_is_measured():
    model = network()
    data, chosen = labelled(model), {"chips": 3, "seed": 4}
    once = evaluate_chips(
        model, data, t_inference=list(TIMES), calibration=calibration(at=1.0), **chosen
    )
    records = accuracy_over_time(model, data, TIMES, calibration(), fits=TIMES[:1], **chosen)
    later = evaluate_chips(model, data, t_inference=1e7, calibration=calibration(), **chosen)
    for t in TIMES:
        assert once[t].scores == tuple(scores(records, t))
    assert once[1e7].mean < later.mean - 0.05


def test_a_fit_at_a_time_leaves_the_chip_as_it_was():
    model, fit = network(), calibration(at=1.0)
    with programmed(model, 5, t_inference=1e7):
        before = model(X)
        with fit(model):
            corrected = model(X)
        assert torch.equal(model(X), before)
        with calibration()(model):
            assert not torch.equal(model(X), corrected)
    with fit(model):  # without a chip, the nominal network
        assert torch.allclose(model(X), network()(X), atol=1e-5)
    assert "at 1 s" in fit.label()
    prints = {calibration(at=at).fingerprint() for at in (None, 0.0, 1.0)}
    assert len(prints) == 3


def test_a_schedule_serves_what_comes_after_each_fit():
    model = network()
    before = snapshot(model)
    times = (0.0, 10.0, 1e3, 1e4, 1e8)
    records = accuracy_over_time(
        model, labelled(model), times, calibration(),
        fits=(1e3, 0.0), vectors=(1e4, 5.0), chips=1,
    )  # fmt: skip
    assert [r["fitted_at"] for r in records] == [0.0, 0.0, 1e3, 1e3, 1e3]
    assert [r["vectors_at"] for r in records] == [None, 5.0, None, 1e4, 1e4]
    assert [r["calibration"]["passes"] for r in records] == [1, 2, 3, 4, 4]
    assert not is_programmed(model) and not compensated_layers(model)
    assert all(torch.equal(before[name], tensor) for name, tensor in snapshot(model).items())


def test_later_fits_bring_back_what_drift_takes_and_vectors_a_part_of_it():
    model = network()
    data, late = labelled(model), 1e7
    how = {"chips": 6}
    once = accuracy_over_time(model, data, [1.0, late], calibration(), fits=[1.0], **how)
    again = accuracy_over_time(model, data, [1.0, late], calibration(), fits=[1.0, late], **how)
    vectors = accuracy_over_time(
        model, data, [1.0, late], calibration(), fits=[1.0], vectors=[late], **how
    )
    mean = {n: sum(scores(r, late)) for n, r in zip("oav", (once, again, vectors), strict=True)}
    assert mean["o"] < mean["v"] < mean["a"]
    assert scores(once, 1.0) == scores(again, 1.0) == scores(vectors, 1.0)


def test_a_compensated_model_and_its_fit_do_as_well():
    plain, data = network(), labelled(network())
    model = compensate(network(), Placement({"0": 0.5, "2": 1.0}), LowRank())
    how = {"fits": [0.0], "vectors": [1e3], "chips": 2}
    ours = accuracy_over_time(model, data, TIMES, PerChipFit(X[:100]), **how)
    theirs = accuracy_over_time(plain, data, TIMES, calibration(), **how)
    assert [r["score"] for r in ours] == [r["score"] for r in theirs]


@pytest.mark.parametrize("batch_size", [200, 60])
def test_vectors_are_least_squares_for_what_the_filters_leave(batch_size):
    net, model = network(), compensate(network(), Placement({"0": 0.5}), LowRank())
    module = model[0].corrector_module
    with programmed(model, 3), PerChipFit(X, batch_size=batch_size)(model):
        filters = [p.clone() for p in (module.generator.weight, module.compensator.weight)]
        with programmed(model, 3, t_inference=1e7), VectorFit(X, batch_size=batch_size)(model):
            assert torch.equal(module.generator.weight, filters[0])
            y = model[0].base_layer(X)
            added = module.compensator(module.generator(torch.cat([X, y], 1)))
            wanted = (net[0](X) - added).detach()
            for c in range(12):
                design = torch.stack([y[:, c].detach(), torch.ones(len(X))], 1)
                line = torch.linalg.lstsq(design, wanted[:, c]).solution
                assert module.scale[c].item() == pytest.approx(line[0].item(), rel=1e-3, abs=1e-4)
                assert module.offset[c].item() == pytest.approx(line[1].item(), rel=1e-3, abs=1e-4)


def test_vectors_of_vera_are_refined():
    model = compensate(network(), Placement({"0": 1.0, "2": 1.0}), Vera())
    fit = VectorFit(X, refine_steps=30, refine_lr=1e-2)
    with programmed(model, 3), torch.no_grad():
        before = (model(X) - network()(X)).square().mean()
        with fit(model):
            after = (model(X) - network()(X)).square().mean()
            assert {p.dim() for p in compensation_parameters(model).values()} == {1}
    assert after < before
    assert fit.fingerprint() != PerChipFit(X, refine_steps=30, refine_lr=1e-2).fingerprint()


def test_a_schedule_of_a_fit_with_a_time_of_its_own_is_refused():
    data = (X, torch.zeros(200).long())
    with pytest.raises(CnetError, check=lambda e: e.key == "calibration"):
        accuracy_over_time(network(), data, [1.0], calibration(at=1.0))


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"fits": [10.0]}, "times"), ({"fits": [1.0], "vectors": [0.5]}, "vectors"),
        ({"fits": []}, "t_inference"), ({"times": [-1.0]}, "t_inference"),
    ],
)  # fmt: skip
def test_impossible_schedules_are_refused(changes, key):
    arguments = {"times": [1.0], "fits": [0.0]} | changes
    with pytest.raises(CnetError) as error:
        accuracy_over_time(network(), (X, torch.zeros(200).long()), calibration=calibration(),
                           **arguments)  # fmt: skip
    assert error.value.key == key
