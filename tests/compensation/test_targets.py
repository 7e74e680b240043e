"""Wanted outputs of a per-chip fit: their values, and that they are computed once."""

import pickle

import pytest
import torch
from torch import nn

from cnet_aihw.compensation import (
    Affine,
    LowRank,
    PerChipFit,
    PerChipSettings,
    Placement,
    compensate,
    compensated_layers,
    targets,
    validate_per_chip_settings,
)
from cnet_aihw.rram import LogNormalNoiseModel, RRAMRPUConfig, convert_to_analog, programmed
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.random_state import derive_seed
from cnet_aihw.tasks import LanguageModelling, Regression

X = torch.randn(60, 6, generator=torch.Generator().manual_seed(1))


def network(corrector=LowRank("x"), layers=("0", "2")):  # noqa: B008
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4))
    model = convert_to_analog(net, RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.5))).eval()
    return compensate(model, Placement(dict.fromkeys(layers, 1.0)), corrector)


def outputs_on(model, fit, seed=3):
    with programmed(model, seed), fit(model), torch.no_grad():
        return model(X)


def test_the_mean_over_chips_is_what_full_size_gives():
    model = network(layers=("0",))
    seeds = [derive_seed(5, "target chip", chip) for chip in range(4)]
    mean = torch.zeros(60, 5)
    for seed in seeds:
        with programmed(model, seed), torch.no_grad():
            mean += model[0].base_layer(X) / 4
    fit = PerChipFit(X, 1e-10, target="mean_over_chips", target_chips=4, seed=5)
    with programmed(model, 3), fit(model), torch.no_grad():
        torch.testing.assert_close(model[0](X), mean, rtol=1e-4, atol=1e-5)
    assert fit.spent.clean_passes == 4


@pytest.mark.parametrize("batch_size", [60, 17])
@pytest.mark.parametrize(
    ("settings", "passes"),
    [
        ({}, 1), ({"target": "mean_over_chips", "target_chips": 3}, 3), ({"weighting": "loss"}, 2),
    ],
)  # fmt: skip
def test_they_are_computed_for_the_first_chip_alone(settings, passes, batch_size):
    model, fit = network(), PerChipFit(X, batch_size=batch_size, **settings)
    first = outputs_on(model, fit)
    assert fit.spent.clean_passes == pytest.approx(passes)
    assert fit.spent.images == 60
    assert fit.spent.passes == (1 if batch_size == 60 else 2)
    assert fit.spent.seconds > 0.0
    outputs_on(model, fit, seed=4)
    assert fit.spent.clean_passes == 0.0
    assert torch.equal(outputs_on(model, fit), first)
    again = PerChipFit(X, batch_size=batch_size, **settings)
    outputs_on(model, again, seed=7)  # another chip first
    assert torch.equal(outputs_on(model, again), first)


def test_another_network_and_other_weights_get_their_own():
    model, fit = network(), PerChipFit(X)
    before = outputs_on(model, fit)
    with torch.no_grad():
        next(model[0].base_layer.analog_tiles()).tile.weight.add_(0.3)
    changed = outputs_on(model, fit)
    assert fit.spent.clean_passes == 1.0
    assert (changed - before).abs().max() > 0.1
    assert torch.equal(outputs_on(network(), fit), before)


def test_other_layers_of_the_same_network_are_added():
    model, fit = network(layers=("0",)), PerChipFit(X)
    outputs_on(model, fit)
    whole = network()
    fit_of_whole = outputs_on(whole, PerChipFit(X))
    model[2] = whole[2]  # the same layer of the same weights, with a corrector
    assert set(compensated_layers(model)) == {"0", "2"}
    assert torch.equal(outputs_on(model, fit), fit_of_whole)


@pytest.mark.parametrize("settings", [{}, {"target": "mean_over_chips", "target_chips": 2}])
def test_what_takes_too_much_memory_is_computed_batch_by_batch(settings, monkeypatch):
    expected = outputs_on(network(), PerChipFit(X, batch_size=20, **settings))
    monkeypatch.setattr("cnet_aihw.compensation.targets.kept_bytes", lambda _: 100)
    fit = PerChipFit(X, batch_size=20, **settings)
    torch.testing.assert_close(outputs_on(network(), fit), expected)
    assert fit.spent.clean_passes > 1.0
    assert sum(map(len, fit._targets._kept)) == 0


def test_outputs_kept_leave_room_for_workers_side_by_side(monkeypatch):
    """Half of the free memory for all cores together, a quarter of a GPU's, 1 GiB at least."""
    free = {"bytes": 8 * 2**30}
    monkeypatch.setattr(targets, "free_bytes", lambda _: free["bytes"])
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    for threads, gib in ((4, 4), (2, 2), (1, 1), (8, 4)):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert targets.kept_bytes(cpu) == gib * 2**30
    assert targets.kept_bytes(gpu) == 2 * 2**30
    free["bytes"] = 0
    assert targets.kept_bytes(cpu) == targets.kept_bytes(gpu) == 2**30


def test_layers_for_which_there_is_room_are_kept_and_the_others_not_tried_again(monkeypatch):
    expected = outputs_on(network(), PerChipFit(X))
    of_first = 4 * 60 * 5  # bytes of the wanted outputs of layer 0
    monkeypatch.setattr("cnet_aihw.compensation.targets.kept_bytes", lambda _: of_first)
    model, fit = network(), PerChipFit(X)
    assert torch.equal(outputs_on(model, fit), expected)
    assert (list(fit._targets._kept[0]), fit.spent.clean_passes) == (["0"], 2.0)
    outputs_on(model, fit, seed=4)
    assert fit.spent.clean_passes == 1.0


def test_a_fit_is_copied_without_what_it_keeps():
    model, fit = network(), PerChipFit(X)
    expected = outputs_on(model, fit)
    copied = pickle.loads(pickle.dumps(fit))
    assert copied.fingerprint() == fit.fingerprint()
    assert torch.equal(outputs_on(model, copied), expected)
    assert copied.spent.clean_passes == 1.0


def test_loss_weights_are_mean_squares_of_gradients():
    """For outputs that are numbers they are the squared norms of the columns of what follows."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4))
    model = compensate(convert_to_analog(net).eval(), Placement({"0": 1.0}), Affine())
    x = torch.randn(4000, 6, generator=torch.Generator().manual_seed(2))
    fit = PerChipFit(x, weighting="loss", batch_size=4000, task=Regression())
    with fit(model):
        weights = fit._targets.weights("0") / 4000
    torch.testing.assert_close(
        weights.float(), net[1].weight.detach().square().sum(0), rtol=0.1, atol=1e-3
    )


def test_loss_weights_of_a_language_model_see_each_token():
    """A channel that no token's logits depend on has no weight; an important one has more."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 3), nn.Linear(3, 5))
    with torch.no_grad():
        net[1].weight[:, 0] = 0.0
        net[1].weight[:, 2] *= 10.0
    model = compensate(convert_to_analog(net).eval(), Placement({"0": 1.0}), Affine())
    x = torch.randn(40, 7, 6, generator=torch.Generator().manual_seed(2))
    fit = PerChipFit(x, weighting="loss", task=LanguageModelling())
    with fit(model):
        weights = fit._targets.weights("0")
    assert weights[0] == 0.0
    assert weights[2] > 10 * weights[1] > 0.0


def test_loss_weights_count_every_call_of_a_layer():
    """A layer whose first call reaches the outputs through one channel alone, its last through
    all."""

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.out = nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, x):
            x = self.layer(x)
            return self.out(self.layer(x * torch.tensor([1.0, 0, 0, 0, 0, 0])))

    torch.manual_seed(0)
    net = Twice()
    model = compensate(convert_to_analog(net).eval(), Placement({"layer": 1.0}), Affine())
    fit = PerChipFit(X, weighting="loss", task=Regression())
    with fit(model):
        weights = fit._targets.weights("layer")
    assert weights.min() > 0.0
    assert weights[0] > net.out.weight.detach()[:, 0].square().sum()


class Two(nn.Module):
    """A network with two outputs, or one of them."""

    def __init__(self, both=True):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.both = nn.Linear(6, 3), both

    def forward(self, x):
        return (self.layer(x), x) if self.both else self.layer(x)


def test_other_outputs_do_not_stand_in_the_way_of_a_target():
    found = []
    for both in (True, False):
        model = compensate(convert_to_analog(Two(both)).eval(), Placement({"layer": 1.0}), Affine())
        fit = PerChipFit(X, target="mean_over_chips", target_chips=2)
        with programmed(model, 1), fit(model), torch.no_grad():
            found.append(model.layer(X))
    assert torch.equal(*found)


@pytest.mark.parametrize("settings", [{"refine_steps": 1}, {"weighting": "loss"}])
def test_outputs_that_count_must_be_a_tensor(settings):
    model = compensate(convert_to_analog(Two()).eval(), Placement({"layer": 1.0}), Affine())
    with pytest.raises(CnetError) as error, programmed(model, 1), PerChipFit(X, **settings)(model):
        pass
    assert (error.value.key, error.value.value) == ("model", "tuple")


def test_refinement_goes_to_the_mean_over_chips():
    model, given = network(Affine()), []
    for steps in (0, 80):
        fit = PerChipFit(
            X, target="mean_over_chips", refine_steps=steps, refine_lr=1e-2, task=Regression()
        )
        given.append(outputs_on(model, fit))
    closed, refined = ((y - fit._targets.all_outputs()).square().mean() for y in given)
    assert refined < 0.95 * closed


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("samples", 1), ("ridge", -1.0), ("batch_size", 1), ("refine_steps", -1),
        ("refine_lr", 0.0), ("refine_batch", 0), ("target", "mean"), ("target_chips", 0),
        ("weighting", "gradient"), ("batchnorm", "yes"), ("seed", 2**63), ("seed", 0.5),
    ],
)  # fmt: skip
def test_impossible_settings_name_their_field(name, value):
    with pytest.raises(CnetError) as error:
        validate_per_chip_settings(PerChipSettings(**{name: value}))
    assert error.value.key == f"per_chip.{name}" and error.value.value == value


def test_a_fit_of_settings_takes_the_first_inputs():
    settings = PerChipSettings(samples=20, ridge=0.5, target="mean_over_chips", refine_steps=2)
    fit = PerChipFit.of(settings, X)
    assert fit.settings == settings
    assert torch.equal(fit.x, X[:20])
    same = PerChipFit(X[:20], 0.5, target="mean_over_chips", refine_steps=2)
    assert same.fingerprint() == fit.fingerprint()


def test_batchnorm_needs_a_network_with_it():
    with pytest.raises(CnetError) as error:
        outputs_on(network(), PerChipFit(X, batchnorm=True))
    assert error.value.key == "batchnorm"
