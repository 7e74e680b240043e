"""The closed form on every kind of layer and of data, against numpy; and what it may read."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from cnet_aihw.compensation import (
    Affine,
    GeneratorCompensator,
    LowRank,
    PerChipFit,
    Placement,
    compensate,
    compensated_layers,
    compensation_parameters,
)
from cnet_aihw.compensation.closed_form import fit_linear
from cnet_aihw.compensation.moments import Moments
from cnet_aihw.compensation.ridge import chosen_ridge, solve
from cnet_aihw.rram import (
    CompositeNoiseModel,
    LogNormalNoiseModel,
    ReadNoiseModel,
    RRAMRPUConfig,
    analog_layers,
    convert_to_analog,
    periphery,
    program,
    programmed,
)
from cnet_aihw.rram.crossbar.chip_weights import ChipWeights
from cnet_aihw.rram.crossbar.tiles import RRAMInferenceTile

SIGMA = LogNormalNoiseModel(0.5)


def draw(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def analog(net, noise=SIGMA, **settings):
    return convert_to_analog(net, RRAMRPUConfig(noise_model=noise, **settings)).eval()


def moments_of(*rows, on_output="scale"):
    moments = Moments(on_output)
    moments.add(*(part.double() for part in rows))
    return moments


# -- oracles


def least_squares(design, wanted, ridge=0.0):
    """Solution for centred columns, as numpy computes it."""
    f, t = design - design.mean(0), wanted - wanted.mean(0)
    if ridge == 0.0:
        return np.linalg.lstsq(f, t, rcond=1e-10)[0]
    size = ridge * np.trace(f.T @ f) / f.shape[1]
    return np.linalg.solve(f.T @ f + size * np.eye(f.shape[1]), f.T @ t)


def applied(fit, f, y):
    on_y = y * fit.scale if fit.mixing is None else y @ fit.mixing.T
    return (on_y + fit.offset + f @ fit.generator.T @ fit.compensator.T).numpy()


@pytest.mark.parametrize("ridge", [0.0, 1e-3, 0.3])
@pytest.mark.parametrize("rows", [4, 12, 300])
def test_full_rank_is_least_squares_or_ridge_also_with_fewer_inputs_than_features(rows, ridge):
    f, y, t = (draw(rows, n, seed=n).double() for n in (20, 5, 6))
    y = torch.cat([y, y[:, :1] + 1.0], 1)
    fit = fit_linear(moments_of(f, y, t), 6, 6, ridge)
    line = y * fit.scale
    residual = (t - line).numpy()
    solution = least_squares(f.numpy(), residual, ridge)
    expected = line.numpy() + (f.numpy() - f.numpy().mean(0)) @ solution + residual.mean(0)
    np.testing.assert_allclose(applied(fit, f, y), expected, atol=1e-6)


@pytest.mark.parametrize("size", [1, 3])
def test_weighted_reduced_rank_is_that_of_the_singular_value_decomposition(size):
    f, y, noise = (draw(200, n, seed=n).double() for n in (7, 5, 6))
    t = y + f @ draw(7, 5).double() + 0.3 * noise[:, :5]
    weights = torch.tensor([4.0, 1.0, 0.25, 9.0, 0.01], dtype=torch.float64)
    fit = fit_linear(moments_of(f, y, t), 5, size, 0.0, weights)
    residual = (t - y * fit.scale).numpy()
    root = np.sqrt((weights / weights.mean()).numpy())
    centred = f.numpy() - f.numpy().mean(0)
    left, values, right = np.linalg.svd(
        centred @ least_squares(f.numpy(), residual) * root, full_matrices=False
    )
    best = (left[:, :size] * values[:size]) @ right[:size] / root
    expected = y.numpy() * fit.scale.numpy() + residual.mean(0) + best
    np.testing.assert_allclose(applied(fit, f, y), expected, atol=1e-7)
    np.testing.assert_allclose(fit.spectrum, values**2 / len(f), atol=1e-9)


def test_equal_weights_change_nothing_and_weights_of_0_leave_their_channels_to_others():
    f, y, t = (draw(200, n, seed=n).double() for n in (7, 5, 6))
    t = t[:, :5] + f @ draw(7, 5).double()
    plain = fit_linear(moments_of(f, y, t), 5, 1)
    for weights in (torch.full((5,), 3.0), torch.zeros(5)):
        same = fit_linear(moments_of(f, y, t), 5, 1, weights=weights)
        np.testing.assert_allclose(applied(same, f, y), applied(plain, f, y), atol=1e-9)
    one = fit_linear(moments_of(f, y, t), 5, 1, 0.0, torch.tensor([1.0, 0, 0, 0, 0]))
    alone = fit_linear(moments_of(f, y, t), 5, 5, 0.0)
    np.testing.assert_allclose(applied(one, f, y)[:, 0], applied(alone, f, y)[:, 0], atol=1e-2)


@pytest.mark.parametrize("size", [1, 5])
def test_a_map_of_the_output_and_filters_are_fitted_together(size):
    """As reduced rank regression on what the output does not explain (Izenman 2008, 6.3)."""
    f, y = draw(300, 4).double(), draw(300, 5, seed=2).double()
    f = f + y[:, :4]  # features that go with the output
    t = y @ draw(5, 5, seed=3).double() + f @ draw(4, 5, seed=4).double() + 0.1 * draw(300, 5)
    fit = fit_linear(moments_of(f, y, t, on_output="map"), 5, size, 0.0, on_output="map")
    centred, wanted = y.numpy() - y.numpy().mean(0), t.numpy() - t.numpy().mean(0)
    of_y = centred @ np.linalg.lstsq(centred, wanted, rcond=None)[0]
    beyond = f.numpy() - f.numpy().mean(0)
    beyond = beyond - centred @ np.linalg.lstsq(centred, beyond, rcond=None)[0]
    added = beyond @ np.linalg.lstsq(beyond, wanted, rcond=None)[0]
    left, values, right = np.linalg.svd(added, full_matrices=False)
    expected = of_y + (left[:, :size] * values[:size]) @ right[:size] + t.numpy().mean(0)
    np.testing.assert_allclose(applied(fit, f, y), expected, atol=1e-7)
    left_over = ((wanted - of_y - added) ** 2).sum() / 300
    assert fit.unexplained == pytest.approx(left_over, rel=1e-6)
    assert fit.wanted == pytest.approx((wanted**2).sum() / 300, rel=1e-9)


def test_without_a_ridge_small_eigenvalues_count_and_those_of_0_do_not():
    covariance, right = torch.diag(torch.tensor([4.0, 1e-6, 0.0]).double()), torch.ones(3, 1)
    found = solve(covariance, right.double(), 0.0)
    assert found.flatten().tolist() == pytest.approx([0.25, 1e6, 0.0])


def test_all_zero_inputs_give_an_offset_alone():
    zeros, t = torch.zeros(30, 4), torch.full((30, 3), 2.5)
    for ridge in (0.0, 1e-3):
        for on_output in ("scale", "nothing", "map"):
            moments = moments_of(zeros, zeros[:, :3], t, on_output=on_output)
            fit = fit_linear(moments, 3, 2, ridge, on_output=on_output)
            np.testing.assert_allclose(applied(fit, zeros.double(), zeros[:, :3].double()), 2.5)
            assert not fit.generator.any() and torch.isfinite(fit.compensator).all()


# -- layers


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.out = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.out(x + self.b(torch.relu(self.a(x))))


NETWORKS = {
    "grouped": (lambda: nn.Conv2d(4, 6, 3, groups=2), (4, 6, 6)),
    "depthwise": (lambda: nn.Conv2d(4, 8, 3, groups=4, padding=1), (4, 5, 5)),
    "strided, padded": (lambda: nn.Conv2d(3, 5, 3, stride=2, padding=2, dilation=2), (3, 9, 9)),
    "conv1d": (lambda: nn.Conv1d(3, 5, 4, stride=3, padding=1), (3, 17)),
    "linear": (lambda: nn.Linear(6, 5), (6,)),
    "tokens": (lambda: nn.Linear(6, 5), (7, 6)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_patches_of_full_size_give_every_kind_of_layer_back(name):
    build, shape = NETWORKS[name]
    torch.manual_seed(0)
    net, x = nn.Sequential(build()), draw(80, *shape)
    model = compensate(analog(net), Placement({"0": 1.0}), LowRank("patch"))
    with programmed(model, 3), PerChipFit(x, 1e-10)(model):
        torch.testing.assert_close(model(x), net(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_scale_and_offset_of_every_kind_of_layer_are_numpys(name):
    build, shape = NETWORKS[name]
    torch.manual_seed(0)
    net, x = nn.Sequential(build()), draw(50, *shape)
    model = analog(net)
    channel = -1 if isinstance(net[0], nn.Linear) else 1
    with programmed(model, 3):
        y, t = (m(x).detach().movedim(channel, -1).flatten(0, -2).numpy() for m in (model, net))
        compensate(model, Placement({"0": 1.0}), Affine())
        with PerChipFit(x)(model):
            module = compensated_layers(model)["0"].corrector_module
            for c in range(y.shape[1]):
                slope, offset = np.polyfit(y[:, c], t[:, c], 1)
                assert module.scale[c].item() == pytest.approx(slope, rel=1e-3, abs=1e-4)
                assert module.offset[c].item() == pytest.approx(offset, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("form", ["full", "residual"])
@pytest.mark.parametrize("reads", ["xy", "x", "y"])
def test_the_papers_corrector_is_fitted_in_closed_form(form, reads):
    """Of full size it gives a linear layer back, where it sees the layer's input."""
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(6, 5)), draw(200, 6)
    corrector = GeneratorCompensator(reads=reads, form=form)
    model = compensate(analog(net), Placement({"0": 1.0}), corrector)
    with programmed(model, 3):
        before = (model(x) - net(x)).abs().max()
        with PerChipFit(x, 1e-10)(model):
            if reads != "y":
                torch.testing.assert_close(model(x), net(x), rtol=1e-4, atol=1e-4)
            else:  # the best linear map of the output, by either of its parts
                f, t = model[0].base_layer(x).detach().numpy(), net(x).detach().numpy()
                expected = (f - f.mean(0)) @ least_squares(f, t) + t.mean(0)
                np.testing.assert_allclose(model(x).detach(), expected, atol=1e-3)
                assert (model(x) - net(x)).abs().max() < before


@pytest.mark.parametrize("corrector", [LowRank("x"), GeneratorCompensator("x", form="residual")])
def test_branches_are_fitted_to_what_arrives_in_each(corrector):
    torch.manual_seed(0)
    net, x = Residual(), draw(200, 6)
    model = analog(net)
    compensate(model, Placement(dict.fromkeys(analog_layers(model), 1.0)), corrector)
    with programmed(model, 3), PerChipFit(x, 1e-10)(model):
        torch.testing.assert_close(model(x), net(x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("data", ["zeros", "constant", "two inputs", "repeated", "dead channel"])
@pytest.mark.parametrize("corrector", [Affine(), LowRank(), LowRank("patch")])
def test_poor_data_give_finite_correctors_that_harm_nothing(data, corrector):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    x = {
        "zeros": torch.zeros(20, 2, 6, 6), "constant": torch.ones(20, 2, 6, 6),
        "two inputs": draw(2, 2, 6, 6), "repeated": draw(1, 2, 6, 6).expand(20, -1, -1, -1),
        "dead channel": draw(20, 2, 6, 6) * torch.tensor([1.0, 0.0]).view(2, 1, 1),
    }[data]  # fmt: skip
    model = compensate(analog(net), Placement({"0": 1.0, "3": 1.0}), corrector)
    with programmed(model, 3):
        before = (model(x) - net(x)).square().mean()
        with PerChipFit(x)(model):
            after = (model(x) - net(x)).square().mean()
            assert all(torch.isfinite(p).all() for p in compensation_parameters(model).values())
            assert torch.isfinite(model(draw(5, 2, 6, 6, seed=9))).all()
    assert after <= before + 1e-8


# -- what it may read


class Sealed(ChipWeights):
    """A chip whose weights nothing but a forward can read."""

    def __getattribute__(self, name):
        reading = object.__getattribute__(self, "__dict__").get("reading", False)
        if name in ("weight", "programmed", "memory") and not reading:
            raise AssertionError(f"a chip's {name} cannot be read")
        return object.__getattribute__(self, name)

    def read(self):
        self.__dict__["reading"] = True
        try:
            return super().read()
        finally:
            self.__dict__["reading"] = False


@pytest.mark.parametrize("target", ["clean", "mean_over_chips"])
def test_it_reads_only_what_a_chips_owner_can_measure(target, monkeypatch):
    """Converters and read noise are on; the nominal weights are for passes without the chip."""
    noise = CompositeNoiseModel([LogNormalNoiseModel(0.3), ReadNoiseModel(0.01)])
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 4)), draw(300, 6)
    net[1].momentum = 1.0
    net(x)  # gives BatchNorm the statistics of the inputs
    net.eval()
    model = analog(net, noise, forward=periphery(dac_bits=8, adc_bits=8, adc_range=12.0))
    compensate(model, Placement({"0": 1.0, "2": 1.0}), LowRank())
    program(model, 3)
    before = (model(x) - net(x)).abs().mean()
    nominal = RRAMInferenceTile.nominal_weight

    def guarded(tile):
        assert not isinstance(tile.chip, Sealed), "nominal weights are read on the chip"
        return nominal(tile)

    def unreadable(*_, **__):
        raise AssertionError("weights cannot be read")

    monkeypatch.setattr(RRAMInferenceTile, "nominal_weight", guarded)
    monkeypatch.setattr(RRAMInferenceTile, "get_weights", unreadable)
    monkeypatch.setattr("cnet_aihw.rram.effective_weights", unreadable)
    sealed = []
    for tile in model.analog_tiles():
        tile.chip = Sealed(**copy.copy(vars(tile.chip)))
        sealed.append(tile.chip)
    with pytest.raises(AssertionError, match="cannot be read"):
        _ = sealed[0].weight
    fit = PerChipFit(x, target=target, target_chips=3, batchnorm=True, refine_steps=3,
                     weighting="loss")  # fmt: skip
    with fit(model):
        after = (model(x) - net(x)).abs().mean()
    assert all(tile.chip is chip for tile, chip in zip(model.analog_tiles(), sealed, strict=True))
    if target == "clean":
        assert after < 0.5 * before


# -- the ridge by generalized cross-validation


def regression(rows, features=40, noise=1.0, seed=0, channels=6):
    """Features whose variances fall, and targets that a map of them and noise make."""
    f = draw(rows, features, seed=seed) / torch.arange(1, features + 1).sqrt()
    true = draw(features, channels, seed=100)
    return f.double(), (f @ true + noise * draw(rows, channels, seed=seed + 1)).double()


def by_hat_matrix(f, t, ridge):
    """RSS / (n - trace of the hat matrix - 2)^2, as the definition has it, in numpy."""
    f, t = (np.asarray(v) - np.asarray(v).mean(0) for v in (f, t))
    gram = f.T @ f / len(f)
    hat = f @ np.linalg.solve(gram + ridge * np.trace(gram) / len(gram) * np.eye(len(gram)), f.T)
    free = len(f) - np.trace(hat) / len(f) - 2
    return np.square(t - hat @ t / len(f)).sum() / free**2 if free > 0 else np.inf


@pytest.mark.parametrize("rows", [12, 45, 120])
def test_the_ridge_is_that_of_the_least_generalized_cross_validation(rows):
    f, t = regression(rows)
    f, t = f - f.mean(0), t - t.mean(0)
    found = chosen_ridge(f.T @ f / rows, f.T @ t / rows, t.square().sum() / rows, rows)
    tried = [1e-3 * 10 ** (step / 2) for step in range(11)]
    assert found == min(tried, key=lambda r: by_hat_matrix(f, t, r))
    assert found > 1e-3


@pytest.mark.parametrize("rows", [30, 100, 250, 600])
def test_the_ridge_of_many_features_is_near_the_exact_one(rows, monkeypatch):
    f, t = regression(rows, features=200)
    f, t = f - f.mean(0), t - t.mean(0)
    given = f.T @ f / rows, f.T @ t / rows, t.square().sum() / rows, rows
    exact = chosen_ridge(*given)
    monkeypatch.setattr("cnet_aihw.compensation.ridge.WIDE", 100)
    assert exact / 10 <= chosen_ridge(*given) <= exact * 10


# -- rows in place of their sums


FEW = [  # rows, features, channels, filters
    (12, 40, 6, 3),  # fewer channels than rows
    (40, 40, 6, 6),  # as many rows as features
    (5, 40, 9, 4),  # more
    (5, 40, 9, 8),  # more filters than rows
    (3, 40, 4, 2),  # too few for a scale
]


@pytest.mark.parametrize("on_output", ["scale", "nothing"])
@pytest.mark.parametrize("ridge", [None, 0.0, 1e-3, 10.0])
@pytest.mark.parametrize(("rows", "features", "channels", "filters"), FEW)
def test_kept_rows_give_the_fit_of_their_sums(
    rows, features, channels, filters, ridge, on_output, monkeypatch
):
    f, y = draw(rows, features).double() + 3.0, draw(rows, channels, seed=2).double()
    t = f[:, :channels] * 0.5 + y + 0.1 * draw(rows, channels, seed=3)
    weights = draw(channels, seed=4).square()
    fits = []
    for width in (10_000, 0):
        monkeypatch.setattr("cnet_aihw.compensation.moments.WIDE", width)
        moments = Moments(on_output)
        for part in zip(f.split(2), y.split(2), t.split(2), strict=True):
            moments.add(*part)
        assert len(moments.statistics().ff) == (features if width else 0)
        fits.append(fit_linear(moments, channels, filters, ridge, weights, on_output))
    sums, kept = fits
    assert kept.generator.shape == sums.generator.shape == (filters, features)
    for name in ("scale", "offset", "spectrum", "unexplained", "wanted", "error"):
        torch.testing.assert_close(getattr(kept, name), getattr(sums, name), rtol=1e-6, atol=1e-8)
    for fit in fits:
        np.testing.assert_allclose(applied(fit, f, y), applied(sums, f, y), rtol=1e-6, atol=1e-7)
        norm = fit.compensator * (weights / weights.mean()).clamp_min(1e-6).sqrt()[:, None]
        torch.testing.assert_close(norm.T @ norm, torch.eye(filters).double())


def test_rows_are_kept_while_they_are_few_and_summed_as_ever_once_they_are_not(monkeypatch):
    monkeypatch.setattr("cnet_aihw.compensation.moments.WIDE", 39)
    f, y, t = (draw(60, n, seed=n) for n in (40, 5, 6))
    t = t[:, :5]
    parts = list(zip(f.split(15), y.split(15), t.split(15), strict=True))
    moments, kept = Moments(), []
    for part in parts:
        moments.add(*part)
        kept.append(not len(moments.statistics().ff))
    assert kept == [True, True, False, False]
    monkeypatch.setattr("cnet_aihw.compensation.moments.WIDE", 1024)
    ever = Moments()
    for part in parts:
        ever.add(*part)
    for name in ("ff", "fy", "fd", "yy", "yd", "dd", "f", "y", "d"):
        assert torch.equal(getattr(moments.statistics(), name), getattr(ever.statistics(), name))


def test_kept_rows_are_not_those_that_a_later_layer_changes_in_place(monkeypatch):
    monkeypatch.setattr("cnet_aihw.compensation.moments.WIDE", 0)
    f, y, t = (draw(4, n, seed=n) for n in (40, 5, 5))
    moments = Moments()
    moments.add(f, y, t)
    before = moments.statistics().rows
    for part in (f, y, t):
        part.relu_()
    assert all(map(torch.equal, moments.statistics().rows, before))


def test_a_wide_linear_layer_is_fitted_without_a_matrix_of_its_features(monkeypatch):
    """As the first linear layer of VGG16 for ImageNet, whose 29,184 features would take 7 GB."""
    net = nn.Sequential(nn.Linear(5000, 64), nn.ReLU(), nn.Linear(64, 10))
    model = analog(net)
    compensate(model, Placement({"0": "size 2", "2": "size 2"}), LowRank())
    x, wanted = draw(40, 5000), net(draw(40, 5000))
    seen = []
    eigh = torch.linalg.eigh
    monkeypatch.setattr("torch.linalg.eigh", lambda m: seen.append(len(m)) or eigh(m))
    with programmed(model, seed=1), torch.no_grad():
        before = (model(x) - wanted).square().mean()
        with PerChipFit(x)(model):
            assert (model(x) - wanted).square().mean() < 0.5 * before
    assert seen and max(seen) <= 74


def test_the_ridge_is_small_where_rows_are_many_and_large_where_nothing_can_be_learnt():
    f, t = regression(900)
    assert chosen_ridge(f.T @ f / 900, f.T @ t / 900, t.square().sum() / 900, 900) == 1e-3
    f, noise = draw(30, 40).double(), draw(30, 6, seed=9).double()
    noise -= noise.mean(0)
    assert chosen_ridge(f.T @ f / 30, f.T @ noise / 30, noise.square().sum() / 30, 30) >= 10.0
    assert chosen_ridge(torch.zeros(4, 4), torch.zeros(4, 2), torch.zeros(()), 10) == 1e-3


def test_few_rows_fit_fresh_ones_about_as_well_as_the_best_fixed_ridge():
    y = draw(45, 6, seed=50)
    f, t = regression(45)
    wanted = y + t
    fresh_f, fresh_t = regression(4000, noise=0.0, seed=7)

    def error(ridge):
        fit = fit_linear(moments_of(f, y, wanted), 6, 6, ridge)
        guess = (fresh_f - f.mean(0)) @ fit.generator.T @ fit.compensator.T
        return float((fresh_t - fresh_t.mean(0) - (guess - guess.mean(0))).square().mean())

    best = min(error(1e-3 * 10 ** (step / 2)) for step in range(11))
    assert error(None) < 1.15 * best
    assert error(None) < 0.7 * error(1e-3)


@pytest.mark.parametrize("filters", [1, 3])
def test_what_filters_leave_counts_with_their_ridge_penalty(filters):
    f, y, noise = draw(30, 8), draw(30, 4, seed=2), draw(30, 4, seed=3)
    wanted = y + 0.3 * f @ draw(8, 4, seed=4) + 0.1 * noise
    fit = fit_linear(moments_of(f, y, wanted), 4, filters, ridge=0.5)
    given = f.double() @ fit.generator.T @ fit.compensator.T + y * fit.scale + fit.offset
    left = (given - wanted).square().mean(0).sum()
    penalty = 0.5 * f.double().var(0, correction=0).mean() * fit.generator.square().sum()
    claimed = fit.unexplained + fit.spectrum[filters:].sum()
    assert float(claimed) == pytest.approx(float(left + penalty), rel=1e-9)
    assert penalty > 0.1 * left
    assert fit.error == pytest.approx(float((wanted - y).double().square().mean(0).sum()))
