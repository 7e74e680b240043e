"""The law of each device, against aihwkit's own models, closed forms and the file's statistics."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from aihwkit.inference import (
    PCMLikeNoiseModel,
    ReRamCMONoiseModel,
    ReRamWan2022NoiseModel,
    SinglePairConductanceConverter,
)
from aihwkit.inference.converter.conductance import SingleDeviceConductanceConverter
from scipy import stats
from torch import Tensor

from cnet_aihw.rram import (
    AihwkitNoiseModel,
    CMONoiseModel,
    CompositeNoiseModel,
    GaussianAdditiveNoiseModel,
    GaussianProportionalNoiseModel,
    LevelsNoiseModel,
    LogNormalNoiseModel,
    MeasuredNoiseModel,
    PCMNoiseModel,
    PowerLawDriftNoiseModel,
    ReadNoiseModel,
    StuckAtNoiseModel,
    Wan2022NoiseModel,
    conductance_converter,
)
from cnet_aihw.rram.devices.conductances import WeightScale
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.random_state import seeded_rng

DAY = 86400.0
PAIR = SinglePairConductanceConverter(g_max=25.0, g_min=0.0)


def weights(rows: int = 200, columns: int = 320) -> Tensor:
    # rows of whole blocks of 16: so torch draws the same for the tile as row by row
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(3)) * 0.2


def chip(model: Any, nominal: Tensor, time: float | None = None) -> Tensor:
    with seeded_rng(11):
        programmed, devices = model.apply_programming_noise(nominal)
        return programmed if time is None else model.apply_drift_noise(programmed, devices, time)


# -- aihwkit's models at the same seed

HALVES = {"prog_noise_scale": 0.5, "read_noise_scale": 1.5, "drift_scale": 2.0}
STOCK = {
    "wan": (Wan2022NoiseModel(), ReRamWan2022NoiseModel(g_max=40.0)),
    "wan, half": (
        Wan2022NoiseModel(noise_scale=0.5),
        ReRamWan2022NoiseModel(g_max=40.0, noise_scale=0.5),
    ),
    "cmo 0.2": (CMONoiseModel(), ReRamCMONoiseModel(acceptance_range=0.2)),
    "cmo 2": (CMONoiseModel(acceptance=2), ReRamCMONoiseModel(acceptance_range=2)),
    "cmo, scaled": (
        CMONoiseModel(**HALVES, acceptance=2),
        ReRamCMONoiseModel(**HALVES, acceptance_range=2),
    ),
    "pcm": (PCMNoiseModel(), PCMLikeNoiseModel()),
    "pcm, scaled": (PCMNoiseModel(**HALVES), PCMLikeNoiseModel(**HALVES)),
    "pcm in ours": (AihwkitNoiseModel(PCMLikeNoiseModel(g_max=20.0)), PCMLikeNoiseModel(g_max=20)),
}


@pytest.mark.parametrize("name", STOCK)
def test_programming_is_that_of_aihwkit(name: str) -> None:
    ours, stock = STOCK[name]
    torch.testing.assert_close(chip(ours, weights()), chip(stock, weights()), rtol=0, atol=2e-6)


@pytest.mark.parametrize("time", [1.0, DAY, 2 * DAY])
@pytest.mark.parametrize("name", STOCK)
def test_drift_of_conductances_is_that_of_aihwkit(name: str, time: float) -> None:
    ours, stock = STOCK[name]
    low, high = (9.0, 88.2) if "cmo" in name else (0.0, 20.0)
    targets = torch.linspace(low, high, 1600).view(40, 40)
    scale = WeightScale(low, high, torch.tensor(1.0), PAIR, {}, 2)
    with seeded_rng(1):
        _, memory = ours.program_device(targets, scale)
        mine = ours.drift_device(targets, memory, time)
    with seeded_rng(1):
        expected = stock.apply_programming_noise_to_conductance(targets.clone())
        coefficients = stock.generate_drift_coefficients(targets)
        expected = stock.apply_drift_noise_to_conductance(expected, coefficients, time)
    torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-5)


def test_s8_a_tile_keeps_its_scale_when_it_drifts() -> None:
    ours, stock = STOCK["wan"]
    nominal = weights(64, 576)
    largest = nominal.abs().max()
    factors = []
    for seed in range(100, 108):
        with seeded_rng(seed):
            mine = ours.apply_drift_noise(*ours.apply_programming_noise(nominal), DAY)
        with seeded_rng(seed):
            programmed, targets = stock.apply_programming_noise(nominal)
            theirs = stock.apply_drift_noise(programmed, targets, DAY)
        factors.append((programmed.abs().max() / largest).item())
        torch.testing.assert_close(mine * factors[-1], theirs, rtol=1e-4, atol=1e-5)
    assert max(abs(factor - 1.0) for factor in factors) > 0.02  # what aihwkit multiplies tiles by


def test_s9_wan_at_another_g_max_has_the_error_measured_at_that_conductance() -> None:
    small = Wan2022NoiseModel(g_max=20.0)
    nominal = torch.full((400, 400), 0.3)  # all at g_max
    error = (chip(small, nominal) - nominal).std().item() / 0.3 * 20.0
    reference = ReRamWan2022NoiseModel(g_max=40.0)
    with seeded_rng(0):
        g = reference.apply_programming_noise_to_conductance(torch.full((400, 400), 20.0))
        idle = reference.apply_programming_noise_to_conductance(torch.zeros(400, 400))
    assert error == pytest.approx((g - idle).std().item(), rel=0.01)


def test_wan_between_measured_times_lies_between_them() -> None:
    def error(time: float) -> float:
        return (chip(Wan2022NoiseModel(), weights(), time) - weights()).std().item()

    errors = [error(t) for t in (1.0, 60.0, 3600.0, DAY)]
    assert errors == sorted(errors)
    middle = error(math.sqrt(DAY))  # halfway in the logarithm
    assert middle == pytest.approx((errors[0] + errors[-1]) / 2, rel=0.02)
    ends = sorted((error(DAY), error(2 * DAY)))
    assert 0.99 * ends[0] <= error(1.4 * DAY) <= 1.01 * ends[1]


def test_cmo_refuses_a_tile_of_equal_weights_where_aihwkit_gives_nan() -> None:
    equal = torch.ones(4, 16)
    assert torch.isnan(ReRamCMONoiseModel().apply_programming_noise(equal)[0]).all()
    with pytest.raises(CnetError, check=lambda e: e.key == "g_converter"):
        CMONoiseModel().apply_programming_noise(equal)


def test_cmo_just_programmed_is_time_zero() -> None:
    assert torch.equal(chip(CMONoiseModel(), weights(), 0.0), chip(CMONoiseModel(), weights()))


# -- closed forms


def test_additive_error_is_gaussian_relative_to_the_largest_weight() -> None:
    nominal = weights()
    error = (chip(GaussianAdditiveNoiseModel(0.05), nominal) - nominal).flatten()
    std = 0.05 * nominal.abs().max().item()
    assert stats.kstest(error[::8].numpy() / std, "norm").pvalue > 1e-3
    assert abs(torch.corrcoef(torch.stack([error.abs(), nominal.flatten().abs()]))[0, 1]) < 0.02
    given = GaussianAdditiveNoiseModel(0.05, largest_weight=2.0)
    assert (chip(given, nominal) - nominal).std().item() == pytest.approx(0.1, rel=0.02)


def test_proportional_error_is_a_gaussian_factor() -> None:
    model = GaussianProportionalNoiseModel(0.2)
    factor = (chip(model, weights()) / weights()).flatten().double()
    assert model.factor_moments() == (1.0, 0.2)
    assert stats.kstest(((factor - 1) / 0.2)[::8].numpy(), "norm").pvalue > 1e-3


def test_levels_are_the_nearest_of_all_values_that_pairs_can_have() -> None:
    nominal = weights(20, 32)
    got = chip(LevelsNoiseModel(5), nominal)
    largest = nominal.abs().max().item()
    values = np.linspace(-largest, largest, 9)
    nearest = values[np.abs(nominal.numpy()[..., None] - values).argmin(-1)]
    np.testing.assert_allclose(got.numpy(), nearest, atol=1e-6)
    assert len(np.unique(np.round(got.numpy(), 5))) <= 2 * 5 - 1
    once = chip(LevelsNoiseModel(5), got)
    torch.testing.assert_close(once, got, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("low", "high"), [(0.0904, 0.0175), (0.3, 0.0), (0.0, 0.3)])
def test_the_stated_shares_of_devices_are_stuck_where_stated(low: float, high: float) -> None:
    nominal = weights()
    model = StuckAtNoiseModel(low, high, g_min=1.0, g_max=25.0)
    with seeded_rng(2):
        _, (devices,) = model.apply_programming_noise(nominal)
    for target, present in zip(devices.targets, devices.present, strict=True):
        moved = present != target
        at_max, at_min = moved & (present == 25.0), moved & (present == 1.0)
        assert torch.equal(moved, at_max | at_min)
        assert torch.equal(present[~moved], target[~moved])
        inside = (target > 1.0) & (target < 25.0)  # of which the stuck ones have moved
        number = inside.sum().item()
        for share, found in ((high, at_max[inside]), (low, at_min[inside])):
            slack = 5 * math.sqrt(share * (1 - share) / number)
            assert abs(found.float().mean().item() - share) <= slack


def test_a_larger_share_of_one_fault_leaves_the_other_devices_alone() -> None:
    few, many = (chip(StuckAtNoiseModel(s, 0.02), weights()) for s in (0.05, 0.1))
    assert (few != many).float().mean().item() < 0.11


def test_stuck_devices_move_weights_to_where_the_pair_says() -> None:
    nominal = torch.full((300, 400), 0.1)
    nominal[0, 0] = 0.4  # the largest weight: 25 uS
    found = chip(StuckAtNoiseModel(0.0, 0.1), nominal).flatten()[1:]
    values, counts = torch.unique((found * 1e4).round() / 1e4, return_counts=True)
    share = dict(zip(values.tolist(), (counts / len(found)).tolist(), strict=True))
    # healthy; the used device at g_max; the idle one; both
    expected = {0.1: 0.81, 0.4: 0.09, -0.3: 0.09, 0.0: 0.01}
    assert {round(v, 4) for v in share} == set(expected)
    for value, part in share.items():
        assert part == pytest.approx(expected[round(value, 4)], abs=0.005)


def test_drift_follows_the_power_law() -> None:
    model = PowerLawDriftNoiseModel(nu=0.05, nu_std=0.0)
    ratio = chip(model, weights(), 1000.0) / weights()
    torch.testing.assert_close(ratio, torch.full_like(ratio, 1000.0**-0.05), rtol=1e-4, atol=0)
    spread = PowerLawDriftNoiseModel(nu=0.05, nu_std=0.01, t_0=10.0)
    exponent = (chip(spread, weights(), 1000.0) / weights()).log().double() / -math.log(100.0)
    assert exponent.mean().item() == pytest.approx(0.05, rel=0.01)
    assert exponent.std().item() == pytest.approx(0.01, rel=0.02)
    for time in (0.0, 5.0, 10.0):
        torch.testing.assert_close(chip(spread, weights(), time), weights())


def test_a_device_has_one_exponent_for_life() -> None:
    model = PowerLawDriftNoiseModel(nu=0.05, nu_std=0.01)
    with seeded_rng(4):
        programmed, devices = model.apply_programming_noise(weights())
        exponents = [
            (model.apply_drift_noise(programmed, devices, t) / weights()).log() / math.log(t)
            for t in (100.0, 1e6)
        ]
    torch.testing.assert_close(*exponents, rtol=1e-3, atol=1e-5)


READINGS: list[tuple[Any, Any, Callable[[Tensor], Tensor]]] = [
    # a pair whose idle device has no conductance reads two devices' noise, or one's own
    (PAIR, "g_max", lambda w: torch.full_like(w, math.sqrt(2) * w.abs().max().item())),
    (PAIR, "g", lambda w: w.abs()),
    # one device over twice the range, exact reference
    (
        conductance_converter("offset", 0.0, 25.0),
        "g_max",
        lambda w: torch.full_like(w, 2 * w.abs().max().item()),
    ),
    (conductance_converter("offset", 0.0, 25.0), "g", lambda w: w.abs().max() + w),
]


@pytest.mark.parametrize(("converter", "relative_to", "expected"), READINGS)
def test_read_noise_of_a_weight(converter: Any, relative_to: Any, expected: Any) -> None:
    nominal = weights(30, 48)
    model = ReadNoiseModel(0.02, relative_to, converter)
    programmed, devices = model.apply_programming_noise(nominal)
    assert torch.equal(programmed, nominal)
    (std,) = model.read_stds(devices)
    torch.testing.assert_close(std, 0.02 * expected(nominal), rtol=1e-5, atol=1e-7)


def test_read_noise_of_a_reference_column_is_common_to_all_outputs() -> None:
    model = ReadNoiseModel(0.02, "g_max", conductance_converter("reference", 0.0, 25.0))
    _, devices = model.apply_programming_noise(weights(30, 48))
    own, common = model.read_stds(devices)
    assert (own.shape, common.shape) == ((30, 48), (1, 48))
    largest = weights(30, 48).abs().max()
    torch.testing.assert_close(own, torch.full_like(own, 0.04) * largest)
    torch.testing.assert_close(common, torch.full_like(common, 0.04) * largest)


def test_single_device_converter_reads_over_the_whole_span_of_weights() -> None:
    nominal = weights(30, 48)
    converter = SingleDeviceConductanceConverter(g_max=50.0, g_min=10.0)
    model = ReadNoiseModel(0.02, "g_max", converter)
    (std,) = model.read_stds(model.apply_programming_noise(nominal)[1])
    span = nominal.max() - nominal.min()  # lies on 40 uS
    torch.testing.assert_close(std, torch.full_like(std, 0.02 * 50.0 / 40.0) * span)


def test_two_drawn_laws_are_the_same_by_weight_and_by_device() -> None:
    """Alone they act on weights, in a composition on devices: for pairs it is one law."""
    nominal = weights()
    for model in (
        GaussianAdditiveNoiseModel(0.05),
        GaussianProportionalNoiseModel(0.1),
        LogNormalNoiseModel(0.5),
    ):
        alone = chip(model, nominal) - nominal
        torch.manual_seed(1)
        composed = CompositeNoiseModel([model]).apply_programming_noise(nominal)[0] - nominal
        same = stats.ks_2samp(alone.flatten()[::8].numpy(), composed.flatten()[::8].numpy())
        assert same.pvalue > 1e-3, model
    for cell in ("reference", "offset"):
        model = GaussianAdditiveNoiseModel(0.05)
        composed = CompositeNoiseModel([model], conductance_converter(cell, 1.0, 25.0))
        error = chip(composed, nominal) - nominal
        assert error.std().item() == pytest.approx(0.05 * nominal.abs().max().item(), rel=0.05)


# -- measurements


def csv_file(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def lines(rows: list[tuple[float, float]], names: str = "target,measured") -> str:
    return "\n".join([names, *(f"{t},{m}" for t, m in rows)]) + "\n"


@pytest.fixture
def rows() -> list[tuple[float, float]]:
    """Skewed errors whose spread grows with the target; 300 at 0 uS, 500 at 10 uS, 200 at 40 uS."""
    rng = np.random.default_rng(0)
    found = []
    for target, number in ((10.0, 500), (40.0, 200), (0.0, 300)):
        errors = 0.3 + (0.5 + target / 40) * (rng.exponential(size=number) - 1)
        found += [(target, target + e) for e in errors]
    return found


def sampled(model: MeasuredNoiseModel, target: float) -> np.ndarray:
    with seeded_rng(3):
        return (
            model.program_device(torch.full((250, 400), target).double(), None)[0].numpy().ravel()
        )


def test_at_a_target_the_measurements_themselves_are_drawn(rows: Any, tmp_path: Path) -> None:
    model = MeasuredNoiseModel(csv_file(tmp_path / "m.csv", lines(rows)))
    for target in (0.0, 10.0, 40.0):
        of_file = np.array([m for t, m in rows if t == target])
        drawn = sampled(model, target)
        assert np.isin(np.round(drawn, 9), np.round(of_file, 9)).all()
        assert drawn.mean() == pytest.approx(of_file.mean(), abs=5 * of_file.std() / 300)
        assert drawn.std() == pytest.approx(of_file.std(), rel=0.02)
        assert stats.ks_2samp(drawn[:1000], of_file).pvalue > 1e-3


@pytest.mark.parametrize("target", [2.5, 5.0, 30.0])
def test_between_targets_the_moments_go_over_into_each_other(
    rows: Any, tmp_path: Path, target: float
) -> None:
    model = MeasuredNoiseModel(csv_file(tmp_path / "m.csv", lines(rows)))
    low, high = (0.0, 10.0) if target < 10 else (10.0, 40.0)
    share = (target - low) / (high - low)
    ends = [np.array([m - t for t, m in rows if t == end]) for end in (low, high)]
    error = sampled(model, target) - target
    mean = (1 - share) * ends[0].mean() + share * ends[1].mean()
    std = (1 - share) * ends[0].std() + share * ends[1].std()  # of errors of the same rank
    assert error.mean() == pytest.approx(mean, abs=0.02)
    assert error.std() == pytest.approx(std, rel=0.03)


def test_the_table_maps_weights_to_its_own_range(rows: Any, tmp_path: Path) -> None:
    shifted = [(t + 5.0, m + 5.0) for t, m in rows]
    model = MeasuredNoiseModel(csv_file(tmp_path / "m.csv", lines(shifted)))
    assert (model.g_converter.g_min, model.g_converter.g_max) == (5.0, 45.0)
    inner = MeasuredNoiseModel(tmp_path / "m.csv", g_min=10.0, g_max=20.0)
    assert torch.isfinite(chip(inner, weights())).all()
    with pytest.raises(CnetError, check=lambda e: e.key == "g_min"):
        MeasuredNoiseModel(tmp_path / "m.csv", g_min=0.0)


def test_order_of_rows_other_columns_and_names_do_not_count(rows: Any, tmp_path: Path) -> None:
    first = MeasuredNoiseModel(csv_file(tmp_path / "m.csv", lines(rows)))
    renamed = "cell, G set (uS), G (uS)\n" + "".join(f"a,{t},{m}\n" for t, m in reversed(rows))
    file = csv_file(tmp_path / "other.csv", renamed)
    second = MeasuredNoiseModel(file, target="G set (uS)", measured="G (uS)")
    assert torch.equal(chip(first, weights(16, 16)), chip(second, weights(16, 16)))
    assert first.digest == second.digest
    more = MeasuredNoiseModel(csv_file(tmp_path / "m2.csv", lines([*rows, (10.0, 10.0)])))
    assert more != first


@pytest.mark.parametrize("near", [0.0, 10.0, 40.0])
def test_targets_that_rounding_makes_one_are_one(rows: Any, tmp_path: Path, near: float) -> None:
    """A table with 10 and 10.0000001 uS, as programs write them, draws from both as from one."""
    whole = MeasuredNoiseModel(csv_file(tmp_path / "m.csv", lines(rows)))
    shift = 1e-50 if near == 0.0 else near * 1e-9
    apart = [
        (t + shift, m + shift) if t == near and i % 2 else (t, m) for i, (t, m) in enumerate(rows)
    ]
    model = MeasuredNoiseModel(csv_file(tmp_path / "apart.csv", lines(apart)))
    nominal = weights(32, 32)
    assert torch.isfinite(chip(model, nominal)).all()
    torch.testing.assert_close(chip(model, nominal), chip(whole, nominal))


def test_half_precision_draws_from_close_targets_too(tmp_path: Path) -> None:
    rows = [(t, t + 0.5) for t in (10.0, 10.001, 40.0)]
    model = MeasuredNoiseModel(csv_file(tmp_path / "m.csv", lines(rows)))
    for dtype in (torch.float16, torch.bfloat16):
        assert torch.isfinite(chip(model, weights(16, 16).to(dtype))).all()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("target,g\n1,1\n2,2\n", "has no column 'measured', but target, g"),
        ("", "has no column 'target', but nothing"),
        ("target,measured\n", "has 0 different targets"),
        ("target,measured\n5,5.1\n5,4.9\n", "has 1 different targets"),
        ("target,measured\n5,5.1\n5.0000000001,4.9\n", "has 1 different targets"),
        ("target,measured\n1,1\n2,nan\n", "line 3 has measured = 'nan'"),
        ("target,measured\n1,1\n\n2,\n", "has measured = ''"),
        ("target,measured\n1,1\n2\n", "line 3 has measured = None"),
        ("target,measured\n1,1\nten,2\n", "line 3 has target = 'ten'"),
        ("target,measured\n1,1\n-2,2\n", "line 3 has the target -2.0"),
        ("target,measured\n1,1\ninf,2\n", "line 3 has target = 'inf'"),
    ],
)
def test_a_bad_file_is_told_with_its_line(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(CnetError) as refusal:
        MeasuredNoiseModel(csv_file(tmp_path / "bad.csv", text))
    assert words in str(refusal.value)
    assert str(tmp_path / "bad.csv") in str(refusal.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(CnetError, check=lambda e: e.key.endswith("none.csv")):
        MeasuredNoiseModel(tmp_path / "none.csv")
