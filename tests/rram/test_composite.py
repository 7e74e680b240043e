"""Several devices' models on the same devices: order, what is refused, what stays the same."""

from typing import Any

import numpy as np
import pytest
import torch
from aihwkit.inference import PCMLikeNoiseModel, SinglePairConductanceConverter
from scipy import stats
from torch import Tensor

from cnet_aihw.rram import (
    AihwkitNoiseModel,
    CMONoiseModel,
    CompositeNoiseModel,
    GaussianAdditiveNoiseModel,
    LevelsNoiseModel,
    LogNormalNoiseModel,
    PowerLawDriftNoiseModel,
    ReadNoiseModel,
    StuckAtNoiseModel,
    Wan2022NoiseModel,
)
from cnet_aihw.rram.devices.chip_scope import chip_scope
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.random_state import seeded_rng

MONTH = 2.6e6


def weights(rows: int = 40, columns: int = 48) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(6)) * 0.2


def chip(model: Any, nominal: Tensor, time: float | None = None) -> Tensor:
    with seeded_rng(21), chip_scope(21):
        programmed, devices = model.apply_programming_noise(nominal)
        return programmed if time is None else model.apply_drift_noise(programmed, devices, time)


FIVE = [
    ReadNoiseModel(0.01, "g"),
    PowerLawDriftNoiseModel(0.02, 0.005),
    StuckAtNoiseModel(0.1, 0.05),
    LogNormalNoiseModel(0.3),
    LevelsNoiseModel(8),
]


def by_hand(nominal: Tensor, time: float) -> tuple[Tensor, Tensor]:
    """The five stages in plain torch, for a pair from 0 to 25 uS: weights, and std of a reading."""
    uS = 25.0 / nominal.abs().max()
    pair = [(nominal * uS).clamp(min=0.0), (-nominal * uS).clamp(min=0.0)]
    with seeded_rng(21):
        pair = [torch.round(g * 7 / 25.0) * 25.0 / 7 for g in pair]
        pair = [g * torch.exp(0.3 * torch.randn_like(g)) for g in pair]
        stuck = [torch.rand_like(g) for g in pair]
        exponents = [0.02 + 0.005 * torch.randn_like(g) for g in pair]
    pair = [g * time**-nu for g, nu in zip(pair, exponents, strict=True)]
    for g, u in zip(pair, stuck, strict=True):
        g[u < 0.1] = 0.0
        g[u >= 0.95] = 25.0
    read = 0.01 * (pair[0] ** 2 + pair[1] ** 2).sqrt()
    return (pair[0] - pair[1]) / uS, read / uS


@pytest.mark.parametrize("given", [FIVE, FIVE[::-1]])
def test_stages_act_in_the_stated_order_whatever_the_given_one(given: Any) -> None:
    model = CompositeNoiseModel(given)
    expected, reading = by_hand(weights(), MONTH)
    torch.testing.assert_close(chip(model, weights(), MONTH), expected, rtol=1e-4, atol=1e-6)
    with seeded_rng(21):
        programmed, devices = model.apply_programming_noise(weights())
    just_programmed, _ = by_hand(weights(), 1.0)
    torch.testing.assert_close(programmed, just_programmed, rtol=1e-5, atol=1e-6)
    model.apply_drift_noise(programmed, devices, MONTH)
    (std,) = model.read_stds(devices)
    torch.testing.assert_close(std, reading, rtol=1e-4, atol=1e-7)
    assert model.label() == (
        "8 levels + lognormal 0.3 + stuck 0.1 at g_min, 0.05 at g_max + drift 0.02 +- 0.005 + "
        "read noise 0.01 of g"
    )


@pytest.mark.parametrize(
    "model",
    [
        LevelsNoiseModel(8),
        StuckAtNoiseModel(),
        PowerLawDriftNoiseModel(0.02, 0.01),
        Wan2022NoiseModel(),
        CMONoiseModel(),
        LogNormalNoiseModel(0.3, per_conductance=True, g_max=20.0, g_min=2.0),
    ],
    ids=lambda model: type(model).__name__,
)
def test_a_composition_of_one_is_that_one(model: Any) -> None:
    off = [m for m in (LevelsNoiseModel(0), ReadNoiseModel(0.0)) if m.stage != model.stage]
    composed = CompositeNoiseModel([model, *off])
    assert torch.equal(chip(composed, weights()), chip(model, weights()))
    assert torch.equal(chip(composed, weights(), 3600.0), chip(model, weights(), 3600.0))
    assert composed.label() == model.label()


def test_all_off_is_the_identity_bit_for_bit() -> None:
    model = CompositeNoiseModel(
        [
            LogNormalNoiseModel(0.0),
            LevelsNoiseModel(None),
            StuckAtNoiseModel(0.0, 0.0),
            ReadNoiseModel(0.0),
            PowerLawDriftNoiseModel(0.0, 0.0),
        ]
    )
    assert model.is_off and not model.has_read_noise and model.label() == "nothing"
    assert torch.equal(chip(model, weights()), weights())
    assert torch.equal(chip(model, weights(), MONTH), weights())
    with pytest.raises(CnetError, check=lambda e: e.key == "models"):
        CompositeNoiseModel([])


def test_a_later_stage_leaves_what_earlier_ones_drew() -> None:
    few = CompositeNoiseModel([LogNormalNoiseModel(0.4)])
    more = CompositeNoiseModel([*FIVE[:3], LogNormalNoiseModel(0.4)])
    same = chip(few, weights()) == chip(more, weights())
    assert same.float().mean().item() == pytest.approx(0.85**2 + 0.85 * 0.1, abs=0.05)


def test_stuck_devices_neither_vary_nor_drift() -> None:
    model = CompositeNoiseModel(
        [LogNormalNoiseModel(0.5), StuckAtNoiseModel(0.0, 0.3), PowerLawDriftNoiseModel(0.1)]
    )
    with seeded_rng(1):
        programmed, (devices,) = model.apply_programming_noise(weights())
        stuck = [g == 25.0 for g in devices.present]
        model.apply_drift_noise(programmed, [devices], MONTH)
    for g, before in zip(devices.present, stuck, strict=True):
        assert before.float().mean().item() == pytest.approx(0.3, abs=0.05)
        assert (g[before] == 25.0).all()


def test_devices_of_a_die_share_its_part_of_the_variation() -> None:
    model = CompositeNoiseModel([LogNormalNoiseModel(0.0, sigma_die=0.5, die="tile")])
    ratio = chip(model, weights()) / weights()
    torch.testing.assert_close(ratio, torch.full_like(ratio, ratio[0, 0].item()))
    assert ratio[0, 0].item() != pytest.approx(1.0, abs=1e-3)


def test_a_model_of_aihwkit_is_a_variation_that_drifts() -> None:
    stock = PCMLikeNoiseModel(g_max=30.0)
    model = CompositeNoiseModel([ReadNoiseModel(0.02), stock, StuckAtNoiseModel(0.05, 0.05)])
    assert model.label().startswith("PCMLike + stuck")
    assert model.g_converter.g_max == 30.0
    alone = AihwkitNoiseModel(stock)
    same = torch.isclose(chip(model, weights()), chip(alone, weights()), atol=1e-6)
    assert same.float().mean().item() > 0.8
    assert torch.isfinite(chip(model, weights(), MONTH)).all()


def test_the_converter_is_that_of_the_device_that_has_one() -> None:
    def span(*models: Any, **given: Any) -> tuple[float, float]:
        converter = CompositeNoiseModel(models, **given).g_converter
        return converter.g_min, converter.g_max

    assert span(LevelsNoiseModel(4), StuckAtNoiseModel()) == (0.0, 25.0)
    assert span(LevelsNoiseModel(4), Wan2022NoiseModel()) == (0.0, 40.0)
    assert span(StuckAtNoiseModel(), CMONoiseModel()) == (9.0, 88.2)
    assert span(Wan2022NoiseModel(), StuckAtNoiseModel(g_max=20.0, g_min=1.0)) == (1.0, 20.0)
    assert span(Wan2022NoiseModel(), LevelsNoiseModel(4), g_max=10.0) == (0.0, 10.0)


@pytest.mark.parametrize(
    ("models", "given", "words"),
    [
        (
            [LogNormalNoiseModel(), GaussianAdditiveNoiseModel()],
            {},
            "LogNormalNoiseModel and GaussianAdditiveNoiseModel are both models of variation",
        ),
        ([LogNormalNoiseModel(), PCMLikeNoiseModel()], {}, "both models of variation"),
        ([StuckAtNoiseModel(), StuckAtNoiseModel(0.0, 0.0)], {}, "both models of faults"),
        ([Wan2022NoiseModel(), PowerLawDriftNoiseModel()], {}, "would count drift twice"),
        ([CompositeNoiseModel([LogNormalNoiseModel()])], {}, "name its models themselves"),
        ([Wan2022NoiseModel()], {"g_max": 50.0}, "0 to 50 uS, but Wan2022NoiseModel holds"),
        ([CMONoiseModel(), LevelsNoiseModel(4, g_max=25.0)], {}, "CMONoiseModel holds from 9"),
        (
            [LevelsNoiseModel(4, g_max=20.0), StuckAtNoiseModel(g_max=30.0)],
            {},
            "LevelsNoiseModel has SinglePairConductanceConverter(g_max=20.0, g_min=0.0), but",
        ),
        (
            [LogNormalNoiseModel()],
            {"g_converter": SinglePairConductanceConverter(), "g_max": 3.0},
            "beside a converter",
        ),
        (["lognormal"], {}, "a list of a BaseNoiseModel"),
    ],
)
def test_what_does_not_compose_is_refused(models: Any, given: Any, words: str) -> None:
    with pytest.raises(CnetError) as refusal:
        CompositeNoiseModel(models, **given)
    assert words in str(refusal.value)


def test_a_time_that_any_of_the_models_does_not_know_is_refused() -> None:
    model = CompositeNoiseModel([LevelsNoiseModel(4), CMONoiseModel()])
    model.check_time(1.0)
    with pytest.raises(CnetError, check=lambda e: (e.key, e.value) == ("t_inference", 0.5)):
        model.check_time(0.5)


def test_a_drift_that_is_off_may_stand_beside_a_device_that_drifts() -> None:
    off = PowerLawDriftNoiseModel(0.0, 0.0)
    assert CompositeNoiseModel([Wan2022NoiseModel(), off]).label() == "Wan 2022"


def test_lognormal_devices_of_a_pair_are_the_lognormal_weights_of_the_paper() -> None:
    nominal = weights(200, 320)
    composed = chip(CompositeNoiseModel([LogNormalNoiseModel(0.5)]), nominal)
    theta = (composed / nominal).log().flatten()[::8].numpy()
    assert stats.kstest(theta / 0.5, "norm").pvalue > 1e-3
    assert np.isfinite(theta).all()  # no sign flips
