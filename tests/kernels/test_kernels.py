"""Kernel features: closed forms by quadrature, chips, the match, read-outs, refusals."""

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from cnet_aihw.compensation import LowRank, PerChipFit, Placement, WithCompensation
from cnet_aihw.evaluation import Score, evaluate_chips, measured_chips
from cnet_aihw.kernels import (
    AnalogFeatures,
    KernelClassifier,
    KernelScore,
    RandomFeatures,
    ReadoutFit,
    exact_kernel,
    expected_kernel,
    fit_ridge,
    kernel_classifier,
    kernel_error,
    matched_scale,
    predicted_error,
    scale_bandwidth,
)
from cnet_aihw.kernels.numbers import spread_of
from cnet_aihw.rram import (
    CrossbarMapping,
    GaussianAdditiveNoiseModel,
    GaussianProportionalNoiseModel,
    LogNormalNoiseModel,
    PowerLawDriftNoiseModel,
    ReadNoiseModel,
    RRAMRPUConfig,
    analog_layers,
    chips,
    convert_to_analog,
    effective_weights,
    programmed,
)
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.records import read_records
from cnet_aihw.zoo import random_projection

KERNELS = ("rbf", "arc_cosine", "softmax")
FEATURES = ("rff", "orf", "sorf")


def points(n: int = 12, d: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def error(call: Any) -> CnetError:
    with pytest.raises(CnetError) as caught:
        call()
    return caught.value


# -- scikit-learn's own checks

ZEROS = {"check_estimators_dtypes": "its rows of zeros have no angle, and are refused"}


@parametrize_with_checks([AnalogFeatures("rbf", "sorf", chip=3, match=True)])
def test_it_is_an_estimator(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(
    [AnalogFeatures(), AnalogFeatures("arc_cosine", "orf", chip=3), AnalogFeatures("softmax")],
    expected_failed_checks=lambda made: ZEROS if made.kernel == "arc_cosine" else {},
)
def test_all_kernels_are_estimators(estimator: Any, check: Any) -> None:
    check(estimator)


# -- projections


@pytest.mark.parametrize("features", FEATURES)
def test_rows_are_as_normal_vectors(features: str) -> None:
    w = random_projection(features, 6, 4000, 1, torch.float64)
    assert w.shape == (4000, 6)
    assert torch.allclose(w.T @ w / 4000, torch.eye(6, dtype=torch.float64), atol=0.1)
    assert torch.equal(w, random_projection(features, 6, 4000, 1, torch.float64))
    assert not torch.equal(w, random_projection(features, 6, 4000, 2, torch.float64))


def test_blocks_are_orthogonal() -> None:
    orf = random_projection("orf", 8, 8, 0, torch.float64)
    lengths = orf.norm(dim=1)
    assert torch.allclose(orf @ orf.T, torch.diag(lengths**2), atol=1e-12)
    many = random_projection("orf", 8, 8000, 0).norm(dim=1)
    mean = math.sqrt(2) * math.gamma(4.5) / math.gamma(4.0)  # of a chi distribution
    assert float(many.mean()) == pytest.approx(mean, abs=0.03)
    sorf = random_projection("sorf", 8, 8, 0, torch.float64)
    assert torch.allclose(sorf @ sorf.T, 8.0 * torch.eye(8, dtype=torch.float64), atol=1e-12)
    few = random_projection("sorf", 5, 16, 0, torch.float64)  # two blocks of 8
    assert torch.allclose(
        few.T @ few / 16, torch.eye(5, dtype=torch.float64), atol=1e-12
    )  # columns of orthogonal matrices


# -- kernels


def test_kernels_have_their_definitions() -> None:
    x, y = points(5), points(4, seed=1)
    assert exact_kernel("rbf", x, y, 0.3).numpy() == pytest.approx(rbf_kernel(x, y, gamma=0.3))
    assert torch.allclose(exact_kernel("softmax", x, y, 0.3), torch.exp(0.6 * x @ y.T))
    a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]])
    assert exact_kernel("arc_cosine", a, b).tolist()[0] == pytest.approx([1.0, 0.5, 0.0])


def test_the_default_bandwidth_is_one_over_columns_and_spread() -> None:
    x = points(50, 4) + 1.0
    variance, square = float(x.var(correction=0)), float(x.square().mean())
    found = [scale_bandwidth(kernel, x) for kernel in ("rbf", "softmax")]
    assert found == pytest.approx([1 / (4 * variance), 1 / (2 * 4 * square)])


def test_a_spread_leaves_failed_chips_out() -> None:
    found = spread_of("score", [0.5, None, 0.7])
    wanted = {"score_mean": 0.6, "score_std": 0.02**0.5, "score_q05": 0.51}
    assert found == pytest.approx(wanted)
    assert set(spread_of("score", [None]).values()) == {None}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("features", FEATURES)
def test_features_approximate_their_kernel(kernel: str, features: str) -> None:
    x, gamma = points(10, 32), 0.004
    made = RandomFeatures(32, 40000, kernel, features, gamma=gamma, dtype=torch.float64)
    z = made(x)
    assert z.shape == (10, made.width)
    assert kernel_error(exact_kernel(kernel, x, x, gamma), z) < 0.02


def laws() -> list[Any]:
    return [
        LogNormalNoiseModel(0.4),
        GaussianProportionalNoiseModel(0.3),
        GaussianAdditiveNoiseModel(0.2, largest_weight=1.5),
    ]


def factor(law: Any, u: np.ndarray) -> np.ndarray:
    return np.exp(law.sigma * u) if isinstance(law, LogNormalNoiseModel) else 1.0 + law.sigma * u


@pytest.mark.parametrize("law", laws(), ids=lambda law: law.label())
def test_the_expected_kernel_is_an_integral_over_features_and_chips(law: Any) -> None:
    """Of one column: the normal weight and the device's draw on a dense grid."""
    gamma, scale = 0.4, 0.8
    grid = np.linspace(-8.0, 8.0, 1601)
    density = np.exp(-(grid**2) / 2) / math.sqrt(2 * math.pi) * (grid[1] - grid[0])
    n, u = np.meshgrid(grid, grid, indexing="ij")
    weight = scale * math.sqrt(2 * gamma) * n
    if isinstance(law, GaussianAdditiveNoiseModel):
        weight = weight + law.sigma * 1.5 * u
    else:
        weight = weight * factor(law, u)
    mass = density[:, None] * density[None, :]
    x, y = torch.tensor([[0.3], [-0.5]]).double(), torch.tensor([[0.9], [0.1]]).double()
    rbf = expected_kernel("rbf", x, y, law, gamma, scale)
    for i, j in itertools.product(range(2), range(2)):
        integral = (mass * np.cos(weight * float(x[i] - y[j]))).sum()
        assert float(rbf[i, j]) == pytest.approx(integral, abs=1e-6)
    if isinstance(law, LogNormalNoiseModel):
        caught = error(lambda: expected_kernel("softmax", x, y, law, gamma, scale))
        assert (caught.key, caught.value) == ("kernel", "softmax")
        return
    softmax = expected_kernel("softmax", x, y, law, gamma, scale)
    for i, j in itertools.product(range(2), range(2)):
        a, b = float(x[i]), float(y[j])
        integral = (mass * np.cosh(weight * (a + b)) * math.exp(-gamma * (a * a + b * b))).sum()
        assert float(softmax[i, j]) == pytest.approx(integral, rel=1e-6)


def test_the_expected_kernel_is_a_product_over_columns() -> None:
    x, y, law = points(4), points(3, seed=1), LogNormalNoiseModel(0.3)
    whole = expected_kernel("rbf", x, y, law, 0.2)
    single = [expected_kernel("rbf", x[:, [j]], y[:, [j]], law, 0.2) for j in range(3)]
    assert torch.allclose(whole, single[0] * single[1] * single[2], rtol=1e-10)


def test_factors_far_apart_leave_a_half_where_inputs_differ() -> None:
    """They are next to 0, where the kernel is 1, or so large that it is 0."""
    x, y = torch.tensor([[1.0], [2.0]]), torch.ones(1, 1)
    found = expected_kernel("rbf", x, y, LogNormalNoiseModel(100.0))
    assert found[:, 0].tolist() == pytest.approx([1.0, 0.5], abs=1e-9)


def test_additive_variation_has_the_formulas_of_gaussian_rows() -> None:
    x, y, gamma = points(4), points(3, seed=1), 0.2
    law = GaussianAdditiveNoiseModel(0.25)
    std, square = 0.25 * 2.0, torch.cdist(x, y).square()
    found = expected_kernel("rbf", x, y, law, gamma, largest=2.0)
    assert torch.allclose(found, torch.exp(-(gamma + std**2 / 2) * square))
    found = expected_kernel("softmax", x, y, law, 0.5, largest=2.0)  # attention's: exp(x.y)
    norms = x.square().sum(1)[:, None] + y.square().sum(1)[None, :]
    assert torch.allclose(found, torch.exp((1 + std**2) * x @ y.T + std**2 * norms / 2))
    found = expected_kernel("arc_cosine", x, y, law, gamma, largest=2.0)
    assert torch.equal(found, exact_kernel("arc_cosine", x, y))


# -- chips


def classifier(
    kernel: str = "rbf", noise: Any = None, exclude: tuple[str, ...] = ("readout",), **given: Any
) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A fitted classifier of two classes on crossbars, and its data."""
    x = points(80, 4).float()
    y = (x[:, 0] * x[:, 1] > 0).long()
    made = kernel_classifier(x, 2, kernel, **given).fit(x, y)
    config = RRAMRPUConfig(noise_model=noise or LogNormalNoiseModel(0.3))
    return convert_to_analog(made, config, exclude=exclude).eval(), x, y


@pytest.mark.parametrize("kernel", KERNELS)
def test_without_variation_chips_are_the_plain_features(kernel: str) -> None:
    model, x, y = classifier(kernel, LogNormalNoiseModel(0.0))
    plain = kernel_classifier(x, 2, kernel).fit(x, y)
    wanted = plain(x)
    with programmed(model, 5):
        assert torch.allclose(model(x), wanted, atol=1e-6)
    stats = evaluate_chips(model, (x, y), chips=2, device="cpu")
    assert stats.scores == (stats.clean, stats.clean)
    config = RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.0))
    rows = x.double().numpy()
    ours = AnalogFeatures(kernel, rpu_config=config, chip=1).fit(rows).transform(rows)
    bare = RandomFeatures(4, 32, kernel, gamma=scale_bandwidth(kernel, x), dtype=torch.float64)
    assert ours == pytest.approx(bare(x.double()).numpy(), abs=1e-9)


def test_a_seed_is_a_chip() -> None:
    x = points(20, 4).numpy()
    config = RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.3))

    def of(chip: int | None, seed: int = 0) -> np.ndarray:
        made = AnalogFeatures(rpu_config=config, chip=chip, seed=seed)
        return made.fit(x).transform(x)

    assert (of(1) == of(1)).all()
    assert (of(1) != of(2)).any()
    assert (of(1) != of(None)).any()
    assert (of(1) != of(1, seed=1)).any()


@pytest.mark.parametrize(
    ("law", "wanted"),
    [
        (LogNormalNoiseModel(0.5), math.exp(-0.25)),
        (GaussianProportionalNoiseModel(0.5), 1 / math.sqrt(1.25)),
        (GaussianAdditiveNoiseModel(0.1), 1 / math.sqrt(1 + 0.01 * 9.0 / 5.0)),
        (GaussianAdditiveNoiseModel(0.1, largest_weight=2.0), math.sqrt(1 - 0.04 / 5.0)),
    ],
)
def test_the_match_keeps_the_mean_square_of_weights(law: Any, wanted: float) -> None:
    weights = torch.tensor([[1.0, -3.0]])
    scale = matched_scale(law, weights)
    assert scale == pytest.approx(wanted)
    many = (scale * weights).repeat(200000, 1)
    torch.manual_seed(0)
    square = law.apply_programming_noise(many)[0].square().mean()
    assert float(square) == pytest.approx(5.0, rel=0.02)


@pytest.mark.parametrize(
    ("kernel", "law"),
    [
        ("rbf", LogNormalNoiseModel(0.5)),
        ("rbf", GaussianProportionalNoiseModel(0.5)),
        ("rbf", GaussianAdditiveNoiseModel(0.1)),
        ("softmax", GaussianAdditiveNoiseModel(0.1)),
        ("arc_cosine", GaussianAdditiveNoiseModel(0.1)),
    ],
    ids=lambda value: value if isinstance(value, str) else value.label(),
)
def test_the_error_on_chips_is_the_predicted_one(kernel: str, law: Any) -> None:
    """With and without the match, which lowers it where the kernel depends on scale."""
    x, s, found = points(20, 30), 600, {}
    gamma = scale_bandwidth(kernel, x) * (0.1 if kernel == "softmax" else 1.0)
    exact = exact_kernel(kernel, x, x, gamma)
    for match in (False, True):
        squares, predicted = [], []
        for seed in range(20):
            made = kernel_classifier(
                x, 2, kernel, s=s, gamma=gamma, seed=seed, match=law if match else None,
                dtype=torch.float64,
            )  # fmt: skip
            config = RRAMRPUConfig(noise_model=law)
            model = convert_to_analog(made, config, exclude=["readout"]).eval()
            largest = float(made.features.projection.weight.abs().max())
            scale = made.features.scale
            if seed == 0 or kernel != "rbf" or isinstance(law, GaussianAdditiveNoiseModel):
                predicted.append(predicted_error(kernel, x, s, law, gamma, scale, largest))
            for _ in chips(model, 2, seed):
                squares.append(kernel_error(exact, model.features(x)) ** 2)
        found[match] = math.sqrt(np.mean(squares))
        assert found[match] == pytest.approx(math.sqrt(np.mean(np.square(predicted))), rel=0.1)
    if kernel == "arc_cosine":
        assert found[True] == found[False]
    elif kernel == "rbf":
        assert found[True] < 0.75 * found[False]


def test_a_matched_network_has_the_same_chips_and_read_out() -> None:
    law = LogNormalNoiseModel(0.5)
    bare = classifier(noise=law)[0]
    matched = classifier(noise=law, match=law)[0]
    assert torch.allclose(bare.readout.weight, matched.readout.weight, atol=1e-5)
    for _ in zip(chips(bare, 2, 3), chips(matched, 2, 3), strict=True):
        (one,), (other,) = (effective_weights(m).values() for m in (bare, matched))
        assert torch.allclose(math.exp(-0.25) * one, other, rtol=1e-5)


# -- read-outs


@pytest.mark.parametrize(("features", "alpha"), [(20, 3.0), (200, 3.0), (200, 0.5)])
def test_the_ridge_is_scikit_learns(features: int, alpha: float) -> None:
    z = points(60, features)
    y = torch.arange(60) % 3
    weight, bias = fit_ridge(z, y, 3, alpha)
    theirs = Ridge(alpha=alpha).fit(z.numpy(), np.eye(3)[y.numpy()])
    assert weight.numpy() == pytest.approx(theirs.coef_, abs=1e-8)
    assert bias.numpy() == pytest.approx(theirs.intercept_, abs=1e-8)


def test_a_read_out_is_fitted_to_each_chip(tmp_path: Path) -> None:
    model, x, y = classifier(noise=LogNormalNoiseModel(0.8), log2_ratio=2.0)
    old = model.readout.weight.clone()
    fit = ReadoutFit(x, y, alpha=20.0)
    path = tmp_path / "chips.jsonl"
    bare = evaluate_chips(model, (x, y), chips=4, device="cpu")
    fitted = evaluate_chips(model, (x, y), chips=4, device="cpu", calibration=fit, records=path)
    assert torch.equal(model.readout.weight, old)
    assert fitted.mean > bare.mean
    assert (fit.cost(model), fitted.clean) == (0, bare.clean)
    for record in read_records(path):
        with programmed(model, record["seed"]), torch.no_grad():
            z = model.features(x)
            weight, bias = fit_ridge(z, y, 2, 20.0)
            right = (z.double() @ weight.T + bias).argmax(1) == y
        assert record["score"] == pytest.approx(float(right.double().mean()))


def test_correctors_of_the_projection_come_before_the_read_out() -> None:
    model, x, y = classifier(noise=LogNormalNoiseModel(0.8), log2_ratio=5.0)
    placed = Placement({"features.projection": "size 4"})  # as many as there are columns
    correct = WithCompensation(placed, LowRank(), PerChipFit(x))
    score = KernelScore(x, "rbf", model.features.gamma)

    def kernel_errors(calibration: Any) -> list[float]:
        found = measured_chips(model, (x, y), score, 3, calibration=calibration)
        return [one.values["kernel_error"] for one in found]

    floor = kernel_error(score.exact, model.features(x))
    before, after = kernel_errors(None), kernel_errors(correct)
    both = ReadoutFit(x, y, after=correct)
    assert after == pytest.approx([floor] * 3, rel=0.02)
    assert min(before) > 1.1 * floor
    assert kernel_errors(both) == after
    assert both.cost(model) == correct.cost(model) > 0
    fits = (both, ReadoutFit(x, y), ReadoutFit(x, y, alpha=1.0), ReadoutFit(x, 1 - y))
    assert len({fit.fingerprint() for fit in fits}) == 4
    stats = evaluate_chips(model, (x, y), chips=3, calibration=both, device="cpu")
    assert stats.mean >= stats.clean - 0.05


def test_both_layers_can_lie_on_crossbars() -> None:
    model, x, y = classifier(exclude=())
    assert list(analog_layers(model)) == ["features.projection", "readout"]
    assert evaluate_chips(model, (x, y), chips=2, device="cpu").std > 0.0
    caught = error(lambda: evaluate_chips(model, (x, y), chips=1, calibration=ReadoutFit(x, y)))
    assert caught.key == "readout"
    assert error(lambda: model.fit(x, y)).key == "readout"


def test_drift_acts_on_the_projection() -> None:
    model, x, y = classifier(noise=PowerLawDriftNoiseModel(nu=0.3))
    by_time = evaluate_chips(model, (x, y), chips=2, t_inference=[1.0, 1e7], device="cpu")
    assert by_time[1.0].mean > by_time[1e7].mean


def test_constant_columns_take_no_row_of_the_crossbar() -> None:
    x = points(30, 4).float()
    wide = torch.cat([x, torch.ones(30, 2)], 1)
    made, bare = kernel_classifier(wide, 2), kernel_classifier(x, 2)
    assert made.features.projection.in_features == 4
    assert torch.equal(made.features(wide), bare.features(x))


# -- refusals


def test_impossible_values_are_refused() -> None:
    x = points(6, 4).float()
    y = torch.arange(6) % 2
    zero = torch.cat([x, torch.zeros(1, 4)])
    for key, call in (
        ("kernel", lambda: kernel_classifier(x, 2, "linear")),
        ("features", lambda: kernel_classifier(x, 2, "rbf", "fastfood")),
        ("gamma", lambda: kernel_classifier(x, 2, gamma=0.0)),
        ("s", lambda: kernel_classifier(x, 2, s=0)),
        ("log2_ratio", lambda: kernel_classifier(x, 2, log2_ratio=50.0)),
        ("x", lambda: kernel_classifier(torch.ones(5, 3), 2)),
        ("x", lambda: exact_kernel("arc_cosine", zero, x)),
        ("x", lambda: kernel_classifier(x, 2, "arc_cosine").fit(zero, torch.arange(7) % 2)),
        ("x", lambda: kernel_classifier(x, 2, "softmax", gamma=1e3).fit(x, y)),
        ("x", lambda: AnalogFeatures("softmax", gamma=1e5).fit(x.numpy())),
        ("x", lambda: AnalogFeatures("arc_cosine").fit(zero.numpy())),
        ("chip", lambda: AnalogFeatures(chip=2.5).fit(x.numpy())),
        ("gamma", lambda: AnalogFeatures(gamma="auto").fit(x.numpy())),
        ("match", lambda: matched_scale(ReadNoiseModel(), torch.ones(2, 2))),
        (
            "match",
            lambda: matched_scale(GaussianAdditiveNoiseModel(0.5, 3.0), torch.ones(2, 2)),
        ),
        ("noise_model", lambda: expected_kernel("rbf", x, x, ReadNoiseModel())),
        ("noise_model", lambda: expected_kernel("arc_cosine", x, x, LogNormalNoiseModel(0.3))),
        ("largest", lambda: expected_kernel("rbf", x, x, GaussianAdditiveNoiseModel(0.3))),
        ("alpha", lambda: fit_ridge(x, y, 2, 0.0)),
        ("y", lambda: fit_ridge(x, y + 1, 2)),
        ("exact", lambda: kernel_error(torch.ones(3, 3), x)),
        ("model", lambda: _fit_other(x, y)),
    ):
        assert error(call).key == key, key


def _fit_other(x: torch.Tensor, y: torch.Tensor) -> None:
    with ReadoutFit(x, y)(nn.Linear(4, 2)):
        pass


def test_softmax_on_chips_with_a_mean_that_is_infinite_is_refused() -> None:
    law = GaussianProportionalNoiseModel(0.9)
    caught = error(lambda: expected_kernel("softmax", 5 * points(), 5 * points(), law))
    assert caught.key == "x"


def test_the_classifier_is_a_plain_network() -> None:
    x = points(40, 4).float().view(40, 1, 2, 2)
    made = kernel_classifier(x, 2)
    assert isinstance(made, KernelClassifier)
    assert [name for name, p in made.named_parameters() if p.requires_grad] == [
        *("readout.weight", "readout.bias")
    ]
    probe = x.clone().requires_grad_()
    made.fit(x, torch.arange(40) % 2)(probe)[:, 0].sum().backward()
    assert bool((probe.grad != 0).any())


@pytest.mark.parametrize(
    ("largest", "mapping", "fits"),
    [
        (None, CrossbarMapping(), True),
        (None, CrossbarMapping(weight_scaling="tile"), True),
        (None, CrossbarMapping(weight_scaling="column"), False),
        (None, CrossbarMapping(max_rows=2), False),
        (1.0, CrossbarMapping(max_rows=2), True),
        (1.0, CrossbarMapping(weight_scaling="tile"), False),
    ],
)
def test_a_match_is_right_on_the_crossbars_or_refused(
    largest: float | None, mapping: CrossbarMapping, fits: bool
) -> None:
    law = GaussianAdditiveNoiseModel(0.1, largest)
    config = RRAMRPUConfig(noise_model=law, mapping=mapping)
    asked = {"s": 2000, "rpu_config": config, "chip": 1}
    if not fits:
        assert error(lambda: AnalogFeatures(match=True, **asked).fit(points(40))).key == "match"
        return
    made = AnalogFeatures(match=True, **asked).fit(points(40)).features_
    wanted = AnalogFeatures(**asked).fit(points(40)).features_.projection[0].nominal_weight()
    weights = effective_weights(made)["projection.projection"]
    assert float(weights.square().mean()) == pytest.approx(float(wanted.square().mean()), rel=0.03)


# -- what a reading belongs to


def noisy(noise: Any = None) -> RRAMRPUConfig:
    config = RRAMRPUConfig(noise_model=noise or LogNormalNoiseModel(0.3))
    config.forward.is_perfect, config.forward.out_noise = False, 0.3
    return config


def test_a_fit_with_a_noisy_periphery_belongs_to_the_seed_of_the_projection() -> None:
    x, y = points(30), torch.arange(30) % 2
    model = kernel_classifier(x, 2, log2_ratio=1.0, seed=5)
    model = convert_to_analog(model.float(), noisy(), exclude=["readout"]).train()
    found = []
    for seed in range(2):
        torch.manual_seed(seed)
        state = torch.random.get_rng_state()
        found.append(model.fit(x.float(), y).readout.weight.clone())
        assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(*found)
    assert model.training and model.features.projection.training


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_features_have_the_number_type_of_the_data(dtype: Any) -> None:
    x = points(10, 4).numpy().astype(dtype)
    assert AnalogFeatures(s=8).fit_transform(x).dtype == dtype


def test_each_transform_is_a_new_reading_of_the_same_seeds() -> None:
    x, found = points(10).numpy(), []
    for seed in range(2):
        torch.manual_seed(seed)
        state = torch.random.get_rng_state()
        made = AnalogFeatures(chip=3, rpu_config=noisy()).fit(x)
        found.append([made.transform(x) for _ in range(2)])
        assert torch.equal(torch.random.get_rng_state(), state)
    assert not np.array_equal(*found[0])
    assert np.array_equal(found[0], found[1])


def test_the_ridge_is_the_same_in_blocks_of_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    z, y = points(60, 20).float(), torch.arange(60) % 3
    whole = fit_ridge(z, y, 3)
    monkeypatch.setattr("cnet_aihw.kernels.ridge._ROWS", 7)
    for one, other in zip(whole, fit_ridge(z, y, 3), strict=True):
        torch.testing.assert_close(one, other)


def test_other_columns_are_another_measurement() -> None:
    x = points(10)
    described = [
        KernelScore(x, "rbf", columns=columns).describe()
        for columns in (None, torch.tensor([0, 1]), torch.tensor([0, 2]))
    ]
    assert described[0] != described[1] != described[2] != described[0]


def test_a_chip_whose_features_are_not_finite_fails() -> None:
    model, x, y = classifier("softmax", LogNormalNoiseModel(6.0))
    with programmed(model, 0):
        assert not model.features(x).isfinite().all()
    fit = ReadoutFit(x, y)
    found = [one.failed for one in measured_chips(model, (x, y), Score(), 2, calibration=fit)]
    assert found == [True, True]


NAN = float("nan")


@pytest.mark.parametrize(
    ("call", "key"),
    [
        (lambda x, y: exact_kernel("rbf", x * NAN, x), "x"),
        (lambda x, y: exact_kernel("rbf", x, x * NAN), "y"),
        (lambda x, y: scale_bandwidth("rbf", x * NAN), "x"),
        (lambda x, y: kernel_classifier(torch.cat([x, x[:, :1] * NAN], 1), 2), "x"),
        (lambda x, y: kernel_error(torch.zeros(10, 10), x), "exact"),
        (lambda x, y: KernelScore(x * NAN, "rbf"), "x"),
        (lambda x, y: KernelScore(x, "rbf", columns=torch.tensor([0, 3])), "columns"),
        (lambda x, y: RandomFeatures(3, 4, columns=torch.tensor([0, 3])), "columns"),
        (lambda x, y: RandomFeatures(3, 4, columns=torch.tensor([-1])), "columns"),
        (lambda x, y: RandomFeatures(4, 4, columns=torch.tensor([0, 1]))(x.float()), "x"),
        (lambda x, y: RandomFeatures(3, 4, dtype=torch.int64), "dtype"),
        (lambda x, y: RandomFeatures(3, 4).checked_features(x.float() * NAN), "x"),
        (lambda x, y: kernel_classifier(x, 2).fit(x, y), "x"),
        (lambda x, y: ReadoutFit(x, y.float()), "y"),
        (lambda x, y: ReadoutFit(x, y - 1), "y"),
        (lambda x, y: ReadoutFit(x, y, -1.0), "alpha"),
    ],
)
def test_rows_columns_and_targets_that_cannot_be_are_refused(call: Any, key: str) -> None:
    assert error(lambda: call(points(10), torch.arange(10) % 2)).key == key
