"""Promises of every device model, one row each: off, seeds, training, knobs, messages."""

import copy
import csv
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cnet_aihw.rram import (
    CMONoiseModel,
    CompositeNoiseModel,
    DeviceNoiseModel,
    GaussianAdditiveNoiseModel,
    GaussianProportionalNoiseModel,
    LevelsNoiseModel,
    LogNormalNoiseModel,
    MeasuredNoiseModel,
    PCMNoiseModel,
    PowerLawDriftNoiseModel,
    ReadNoiseModel,
    RRAMRPUConfig,
    StuckAtNoiseModel,
    Wan2022NoiseModel,
    convert_to_analog,
    effective_weights,
    label_of,
    program,
    programmed,
    resample_variation,
    set_variation,
)
from cnet_aihw.rram.devices.chip_scope import chip_scope
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.random_state import seeded_rng

DAY = 86400.0


def table(path: Path, spread: float = 0.5) -> Path:
    """Write measurements at 0, 10, 20, 30 uS: 40 a target, evenly spread around 0.2 uS above."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["target", "measured"])
        for target in (20, 0, 30, 10):
            for i in range(40):
                rows.writerow([target, target + 0.2 + spread * (i - 19.5) / 20])
    return path


def composed(sigma: float = 0.3, share: float = 0.05, levels: int = 16, read: float = 0.02) -> Any:
    models = [ReadNoiseModel(read), StuckAtNoiseModel(share, 0.0), LogNormalNoiseModel(sigma)]
    return CompositeNoiseModel([*models, LevelsNoiseModel(levels), PowerLawDriftNoiseModel(0.01)])


def nominal() -> Tensor:
    return torch.randn(60, 80, generator=torch.Generator().manual_seed(5)) * 0.2


def chip(model: DeviceNoiseModel, time: float | None = None, reads: bool = False) -> Tensor:
    """The weights of one chip, at a time after programming, as read once."""
    with seeded_rng(7), chip_scope(7):
        weights, devices = model.apply_programming_noise(nominal())
        if time is not None:
            weights = model.apply_drift_noise(weights, devices, time)
        for std in model.read_stds(devices) if reads else ():
            weights = weights + std * torch.randn_like(std)
    return weights


def error(model: DeviceNoiseModel) -> float:
    return (chip(model) - nominal()).norm().item()


def error_after_a_day(model: DeviceNoiseModel) -> float:
    return (chip(model, DAY) - nominal()).norm().item()


def change_in_a_day(model: DeviceNoiseModel) -> float:
    return (chip(model, DAY) - chip(model)).norm().item()


def error_of_reading(model: DeviceNoiseModel) -> float:
    return (chip(model, reads=True) - chip(model)).norm().item()


def common_factor(model: DeviceNoiseModel) -> float:
    return abs((chip(model) / nominal()).log().mean().item())


def zeros(model: DeviceNoiseModel) -> float:
    """Share of weights that are gone."""
    return (chip(model).abs() < 1e-6).float().mean().item()


def largest(model: DeviceNoiseModel) -> float:
    """Share of weights as large as the largest of all."""
    return (chip(model).abs() > 0.99 * nominal().abs().max()).float().mean().item()


def sum_of_weights(model: DeviceNoiseModel) -> float:
    return chip(model, DAY).abs().sum().item()


@dataclass
class Device:
    """One row: a model, what switches it off, and what each knob does (rising or falling)."""

    make: Callable[..., DeviceNoiseModel]
    off: dict[str, Any] | None
    knobs: dict[str, tuple[Any, Any, Callable[[DeviceNoiseModel], float], bool]]
    """Name -> a value, a larger one, what it changes, whether that rises."""
    mistakes: list[tuple[dict[str, Any], str]] = field(default_factory=list)
    fixed: bool = False
    """Whether all chips are the same."""


RISES, FALLS = True, False
RANGE = [({"g_min": 5.0, "g_max": 5.0}, "g_min is 5.0"), ({"g_min": -1.0}, "g_min is -1.0")]
DEVICES = {
    "lognormal": Device(
        LogNormalNoiseModel,
        {"sigma": 0.0},
        {
            "sigma": (0.1, 0.3, error, RISES),
            "sigma_die": (0.1, 0.9, common_factor, RISES),
        },
        [({"sigma": -1.0}, "sigma is -1.0"), *RANGE],
    ),
    "gaussian_additive": Device(
        GaussianAdditiveNoiseModel,
        {"sigma": 0.0},
        {"sigma": (0.05, 0.1, error, RISES), "largest_weight": (0.1, 0.3, error, RISES)},
        [({"sigma": 1.5}, "sigma is 1.5"), ({"largest_weight": -1.0}, "largest_weight is -1.0")],
    ),
    "gaussian_proportional": Device(
        GaussianProportionalNoiseModel,
        {"sigma": 0.0},
        {"sigma": (0.05, 0.1, error, RISES)},
        [({"sigma": float("nan")}, "sigma is nan")],
    ),
    "levels": Device(
        LevelsNoiseModel,
        {"levels": None},
        {"levels": (4, 16, error, FALLS)},
        [({"levels": 1}, "levels is 1"), ({"levels": 2.5}, "levels is 2.5"), *RANGE],
        fixed=True,
    ),
    "stuck_at": Device(
        StuckAtNoiseModel,
        {"share_g_min": 0.0, "share_g_max": 0.0},
        {
            "share_g_min": (0.05, 0.2, zeros, RISES),
            "share_g_max": (0.05, 0.2, largest, RISES),
        },
        [
            ({"share_g_min": 0.7, "share_g_max": 0.4}, "together more"),
            ({"share_g_max": -0.1}, "share_g_max is -0.1"),
        ],
    ),
    "read_noise": Device(
        ReadNoiseModel,
        {"sigma": 0.0},
        {
            "sigma": (0.01, 0.1, error_of_reading, RISES),
            "relative_to": ("g", "g_max", error_of_reading, RISES),
        },
        [({"sigma": 2.0}, "sigma is 2.0"), ({"relative_to": "w"}, "relative_to is 'w'")],
        fixed=True,
    ),
    "power_law_drift": Device(
        PowerLawDriftNoiseModel,
        {"nu": 0.0, "nu_std": 0.0},
        {
            "nu": (0.01, 0.1, sum_of_weights, FALLS),
            "nu_std": (0.01, 0.1, change_in_a_day, RISES),
            "t_0": (1.0, 100.0, change_in_a_day, FALLS),
        },
        [({"nu": -0.1}, "nu is -0.1"), ({"t_0": 0.0}, "t_0 is 0")],
        fixed=True,
    ),
    "reram_wan2022": Device(
        Wan2022NoiseModel,
        {"noise_scale": 0.0},
        {
            "noise_scale": (0.5, 1.0, error, RISES),
            "g_max": (10.0, 40.0, error, FALLS),
        },
        [
            ({"noise_scale": -1.0}, "noise_scale is -1.0"),
            ({"g_max": 50.0}, "0 to 50 uS, but Wan2022NoiseModel holds from 0 to 40 uS"),
        ],
    ),
    "reram_cmo": Device(
        CMONoiseModel,
        {"prog_noise_scale": 0.0, "drift_scale": 0.0, "read_noise_scale": 0.0},
        {
            "acceptance": (0.2, 2, error, RISES),
            "prog_noise_scale": (0.5, 1.0, error, RISES),
            "drift_scale": (0.5, 1.0, change_in_a_day, RISES),
            "read_noise_scale": (0.0, 5.0, change_in_a_day, RISES),
        },
        [
            ({"acceptance": 0.02}, "acceptance is 0.02 percent; measured are 0.2 and 2"),
            ({"g_min": 1.0}, "holds from 9 to 88.2 uS"),
            ({"drift_scale": -1.0}, "drift_scale is -1.0"),
        ],
    ),
    "pcm": Device(
        PCMNoiseModel,
        {"prog_noise_scale": 0.0, "read_noise_scale": 0.0, "drift_scale": 0.0},
        {
            "prog_noise_scale": (0.5, 1.0, error, RISES),
            "read_noise_scale": (0.0, 3.0, error_after_a_day, RISES),
            "drift_scale": (0.5, 1.0, sum_of_weights, FALLS),
        },
        [({"prog_noise_scale": -1.0}, "prog_noise_scale is -1.0"), *RANGE],
    ),
    "measured": Device(
        MeasuredNoiseModel,
        {"noise_scale": 0.0},
        {"noise_scale": (0.5, 1.0, error, RISES)},
        [
            ({"noise_scale": -1.0}, "noise_scale is -1.0"),
            ({"g_max": 40.0}, "0 to 40 uS, but MeasuredNoiseModel holds from 0 to 30 uS"),
        ],
    ),
    "composed": Device(
        composed,
        None,
        {
            "sigma": (0.1, 0.5, error, RISES),
            "share": (0.05, 0.2, zeros, RISES),
            "levels": (3, 16, error, FALLS),
            "read": (0.01, 0.1, error_of_reading, RISES),
        },
    ),
}


def make(name: str, folder: Path, **knobs: Any) -> DeviceNoiseModel:
    row = DEVICES[name]
    if name == "measured":
        return row.make(table(folder / "devices.csv"), **knobs)
    return row.make(**knobs)


def network(model: DeviceNoiseModel) -> nn.Module:
    torch.manual_seed(0)
    digital = nn.Sequential(nn.Linear(32, 24), nn.ReLU(), nn.Linear(24, 5))
    return convert_to_analog(digital, RRAMRPUConfig(noise_model=model))


every_device = pytest.mark.parametrize("name", DEVICES)


@pytest.mark.parametrize("name", [name for name, row in DEVICES.items() if row.off is not None])
def test_off_is_the_identity_bit_for_bit(name: str, tmp_path: Path) -> None:
    model = make(name, tmp_path, **(DEVICES[name].off or {}))
    assert model.is_off
    weights = nominal()
    state = torch.get_rng_state()
    chip_weights, devices = model.apply_programming_noise(weights)
    assert torch.equal(chip_weights, weights)
    assert chip_weights.data_ptr() != weights.data_ptr()
    assert torch.equal(model.apply_drift_noise(chip_weights, devices, DAY), weights)
    assert model.read_stds(devices) == []
    assert torch.equal(torch.get_rng_state(), state)
    net = network(model)
    assert torch.equal(net.train()(torch.ones(2, 32)), net.eval()(torch.ones(2, 32)))


@every_device
def test_the_same_seed_gives_the_same_chip(name: str, tmp_path: Path) -> None:
    net = network(make(name, tmp_path))
    chips = []
    for seed in (1, 1, 2):
        torch.randn(3)  # what was drawn before does not count
        with programmed(net, seed, t_inference=DAY):
            chips.append(effective_weights(net)["0"])
    assert torch.equal(chips[0], chips[1])
    drifts = make(name, tmp_path).drifts or not DEVICES[name].fixed
    assert torch.equal(chips[0], chips[2]) is not drifts


@every_device
def test_a_chip_held_in_training_is_the_programmed_one(name: str, tmp_path: Path) -> None:
    net = network(make(name, tmp_path))
    net.requires_grad_(False).train()
    set_variation(net, hold=True)
    resample_variation(net, 3)
    held = [tile.tile.held.apply(tile.tile.weight, "auto") for tile in net.analog_tiles()]
    program(net, 3)
    for weights, chip_weights, tile in zip(
        held, effective_weights(net).values(), net.analog_tiles(), strict=True
    ):
        reads = tile.chip.read_noise.stds if tile.chip.read_noise else []
        slack = 1e-6 + 6.0 * max((std.max().item() for std in reads), default=0.0)
        torch.testing.assert_close(weights, chip_weights, rtol=0.0, atol=slack)


@every_device
def test_training_sees_it_and_gradients_reach_every_weight(name: str, tmp_path: Path) -> None:
    model = make(name, tmp_path)
    net = network(model)
    x = torch.randn(4, 32, generator=torch.Generator().manual_seed(1))
    nominal_outputs = net.eval()(x)
    outputs = net.train()(x)
    if name != "power_law_drift":  # which shows later
        assert not torch.equal(outputs, nominal_outputs)
    outputs.sum().backward()
    for tile in net.analog_tiles():
        assert torch.isfinite(tile.tile.weight.grad).all()
        assert tile.tile.weight.grad.abs().sum() > 0
    set_variation(net, t_inference=DAY)
    assert torch.isfinite(net(x)).all()


@pytest.mark.parametrize(
    ("name", "knob"), [(name, knob) for name, row in DEVICES.items() for knob in row.knobs]
)
def test_every_knob_does_what_it_says(name: str, knob: str, tmp_path: Path) -> None:
    low, high, effect, rises = DEVICES[name].knobs[knob]
    small, large = (make(name, tmp_path, **{knob: value}) for value in (low, high))
    assert (effect(large) > effect(small)) is rises
    assert small != large
    assert small == make(name, tmp_path, **{knob: low})


@every_device
def test_every_knob_of_a_model_has_its_test(name: str) -> None:
    known = set(inspect.signature(DEVICES[name].make).parameters)
    # how weights become conductances is common to all; and what only names or chooses
    common = {"g_converter", "g_max", "g_min", "path", "target", "measured"}
    assert known - common - {"die", "per_conductance"} <= set(DEVICES[name].knobs)


@every_device
def test_labels_and_texts_tell_models_apart(name: str, tmp_path: Path) -> None:
    model = make(name, tmp_path)
    assert model.label() == label_of(model)
    assert "\n" not in model.label() and len(model.label()) < 120
    assert str(model).startswith(type(model).__name__) and "0x" not in str(model)
    assert copy.deepcopy(model) == model
    assert hash(copy.deepcopy(model)) == hash(model)


@pytest.mark.parametrize(
    ("name", "knobs", "words"),
    [(name, *mistake) for name, row in DEVICES.items() for mistake in row.mistakes],
)
def test_values_outside_the_valid_range_are_refused(
    name: str, knobs: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(CnetError) as refusal:
        make(name, tmp_path, **knobs)
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "time", "words"),
    [
        ("reram_wan2022", 0.5, "t_inference"),
        ("reram_wan2022", 1e6, "t_inference"),
        ("reram_cmo", 0.5, "t_inference"),
        ("reram_cmo", 1e9, "t_inference"),
        ("pcm", -1.0, "t_inference"),
        ("power_law_drift", float("inf"), "t_inference"),
        ("composed", -1.0, "t_inference"),
    ],
)
def test_times_outside_the_measured_ones_are_refused(
    name: str, time: float, words: str, tmp_path: Path
) -> None:
    net = network(make(name, tmp_path))
    before = effective_weights(net)
    with pytest.raises(CnetError, check=lambda e: e.key == words):
        program(net, 1, t_inference=time)
    for layer, weight in effective_weights(net).items():
        assert torch.equal(weight, before[layer])


def test_a_converter_and_its_range_are_not_both_given() -> None:
    converter = StuckAtNoiseModel().g_converter
    with pytest.raises(CnetError, check=lambda e: e.key == "g_max"):
        StuckAtNoiseModel(g_converter=converter, g_max=5.0)


class Named(DeviceNoiseModel):
    def label(self) -> str:
        return "own"


class NoLabel(DeviceNoiseModel):
    def program_device(self, g: Tensor, scale: Any) -> tuple[Tensor, Any]:
        return g, None


class Misspelt(Named):
    def progam_device(self, g: Tensor, scale: Any) -> tuple[Tensor, Any]:
        return 2 * g, None


class NoDrift(Named):
    drifts = True


class NoReading(Named):
    stage = "read noise"


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        (NoLabel, "label"),
        (Misspelt, "program_device"),
        (NoDrift, "drift_device"),
        (NoReading, "read_std_of_device"),
    ],
)
def test_a_device_that_could_not_act_is_refused(kind: Any, method: str) -> None:
    with pytest.raises(CnetError) as error:
        kind()
    assert error.value.key == method


def test_conductances_without_a_memory_are_refused() -> None:
    class Alone(Named):
        def program_device(self, g: Tensor, scale: Any) -> Any:
            return 1.1 * g

    with pytest.raises(CnetError) as error:
        Alone().apply_programming_noise(torch.randn(2, 3))
    assert error.value.value == "Tensor"
