"""A calibration that compensates a plain network, and what it leaves of itself: nothing."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from cnet_aihw.compensation import (
    Affine,
    LowRank,
    PerChipFit,
    Placement,
    Vera,
    WithCompensation,
    compensate,
    compensated_layers,
    compensation_cost,
    network_cost,
)
from cnet_aihw.evaluation import evaluate_chips
from cnet_aihw.rram import (
    LogNormalNoiseModel,
    RRAMRPUConfig,
    convert_to_analog,
    programmed,
    snapshot,
)
from cnet_aihw.rram.tile_chips import chips_of
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.training import TrainingSettings, train

X = torch.randn(40, 1, 8, 8, generator=torch.Generator().manual_seed(1))
Y = torch.arange(40) % 4


def network():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Conv2d(6, 6, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(54, 4),
    )  # fmt: skip
    return convert_to_analog(net, RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.5)))


def everything(model):
    """All that could have been changed, bit for bit."""
    modules = [(name, id(module), module.training) for name, module in model.named_modules()]
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    tensors = [(n, id(p), p.requires_grad, p._version) for n, p in model.named_parameters()]
    state = {name: tensor.clone() for name, tensor in snapshot(model).items()}
    return modules, hooks, tensors, state, torch.get_rng_state()


def assert_same(before, after):
    assert before[:3] == after[:3]
    assert all(torch.equal(before[3][name], after[3][name]) for name in before[3] | after[3])
    assert torch.equal(before[4], after[4])


PLACEMENT = Placement({"0": 0.5, "3": "digital", "6": 0.5})
FITS = {
    "closed form": (LowRank(), {}),
    "batches": (Affine(), {"batch_size": 16}),
    "all of it": (LowRank(), {"batchnorm": True, "refine_steps": 2, "weighting": "loss"}),
    "refined alone": (Vera(), {"refine_steps": 2}),
    "mean over chips": (LowRank("y"), {"target": "mean_over_chips", "target_chips": 2}),
}


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize("fails", [False, True])
def test_the_network_is_as_it_was_bit_for_bit(name, fails):
    corrector, settings = FITS[name]
    placement = Placement({"0": 1.0, "6": 1.0}) if isinstance(corrector, Affine) else PLACEMENT
    calibration = WithCompensation(placement, corrector, PerChipFit(X, **settings))
    model = network()
    with programmed(model, 3):
        chip = chips_of(model)
        before, outputs = everything(model), model.eval()(X)
        model.train()
        try:
            with calibration(model):
                assert set(compensated_layers(model)) == set(placement)
                assert not torch.equal(model.eval()(X), outputs)
                model.train()
                if fails:
                    raise RuntimeError("inside")
        except RuntimeError:
            assert fails
        assert_same(before, everything(model))
        assert all(a[1] is b[1] for a, b in zip(chip, chips_of(model), strict=True))
        assert torch.equal(model.eval()(X), outputs)


def test_a_failure_while_fitting_leaves_the_network_as_it_was(monkeypatch):
    model = network()
    before = everything(model)

    def fail(*_, **__):
        raise RuntimeError("while fitting")

    monkeypatch.setattr("cnet_aihw.compensation.per_chip.fit_linear", fail)
    calibration = WithCompensation(PLACEMENT, LowRank(), PerChipFit(X))
    with pytest.raises(RuntimeError, match="while fitting"), calibration(model):
        pass
    assert_same(before, everything(model))


@pytest.mark.parametrize("corrector", [Affine(), LowRank(), LowRank("patch")])
def test_the_nominal_network_is_left_as_it_is(corrector):
    model = network().eval()
    clean = model(X)
    placement = Placement({"0": 1.0, "6": 1.0})
    with WithCompensation(placement, corrector, PerChipFit(X))(model):
        assert torch.equal(model(X), clean)


@pytest.mark.parametrize("placement", [{}, {"0": 0.0}, {"0": "digital"}])
def test_what_has_nothing_to_fit_needs_no_fit(placement):
    model = network().eval()
    with (
        programmed(model, 3),
        WithCompensation(Placement(placement), LowRank(), PerChipFit(X))(model),
    ):
        assert torch.isfinite(model(X)).all()


def test_chips_are_measured_as_a_compensated_network_is():
    fit = PerChipFit(X, batchnorm=True)
    calibration = WithCompensation(PLACEMENT, LowRank(), fit)
    inside = evaluate_chips(network(), (X, Y), chips=3, calibration=calibration)
    model = compensate(network(), PLACEMENT, LowRank())
    assert evaluate_chips(model, (X, Y), chips=3, calibration=fit).scores == inside.scores


def test_its_cost_is_that_of_the_placement():
    model = network()
    calibration = WithCompensation(PLACEMENT, LowRank(), PerChipFit(X))
    cost = compensation_cost(network_cost(model, X[:1]), PLACEMENT, LowRank())
    assert calibration.cost(model) == sum(cost.weights.values())
    assert calibration.fit.cost(model) == 0


def test_label_and_fingerprint_hold_all_that_counts():
    def one(placement=PLACEMENT, corrector=LowRank(), x=X, **settings):  # noqa: B008
        return WithCompensation(placement, corrector, PerChipFit(x, **settings))

    others = [
        one(Placement({"0": 0.5})), one(corrector=LowRank("x")), one(x=X[:20]), one(ridge=1e-2),
        one(batchnorm=True), one(refine_steps=3), one(refine_steps=3, refine_lr=1e-2),
        one(target="mean_over_chips"), one(target="mean_over_chips", target_chips=3),
        one(weighting="loss"), one(weighting="loss", seed=1),
    ]  # fmt: skip
    assert len({c.fingerprint() for c in [one(), *others]}) == 1 + len(others)
    assert one().fingerprint() == one(refine_lr=5.0, target_chips=2).fingerprint()
    label = one(batchnorm=True, refine_steps=3).label()
    assert all(
        part in label
        for part in ("low rank of xy at 2 layers", "digital at 1 layers", "40 inputs", "3 steps")
    )


def test_training_does_not_notice_what_its_validation_does(tmp_path):
    data = SimpleNamespace(train=(X, Y), val=(X, Y), augment=None, fingerprint="patterns")
    settings = TrainingSettings(epochs=2, batch_size=20, select="last", validation_chips=2)
    calibration = WithCompensation(PLACEMENT, LowRank(), PerChipFit(X))
    weights, scores = [], []
    for number, chosen in enumerate((None, calibration)):
        model = network()
        result = train(
            model, data, settings, tmp_path / str(number),
            calibration=chosen, device="cpu", progress=False,
        )  # fmt: skip
        weights.append(snapshot(model))
        scores.append(result.chip_score)
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert scores[0] != scores[1]


def test_a_network_that_is_compensated_already_is_refused():
    model = compensate(network(), PLACEMENT, LowRank())
    with (
        pytest.raises(CnetError) as error,
        WithCompensation(PLACEMENT, LowRank(), PerChipFit(X))(model),
    ):
        pass
    assert error.value.key == "model"
    assert set(compensated_layers(copy.deepcopy(model))) == set(PLACEMENT)
