"""Read noise: new at each forward pass, the chip's own, and nowhere but on chips."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from aihwkit.inference import GlobalDriftCompensation
from aihwkit.simulator.configs import InferenceRPUConfig
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cnet_aihw.evaluation import evaluate_chips, scan_layers
from cnet_aihw.rram import (
    CompositeNoiseModel,
    LogNormalNoiseModel,
    PowerLawDriftNoiseModel,
    ReadNoiseModel,
    RRAMRPUConfig,
    Wan2022NoiseModel,
    clear_chip,
    conductance_converter,
    convert_to_analog,
    effective_weights,
    find_traps,
    freeze_analog,
    nominal_inside,
    periphery,
    program,
    programmed,
    resample_variation,
    set_variation,
    trainable_parameters,
)
from cnet_aihw.runtime.errors import CnetError

READ = ReadNoiseModel(0.05)
NOISY = CompositeNoiseModel([LogNormalNoiseModel(0.3), ReadNoiseModel(0.05)])


def network(model: Any = NOISY, exclude: tuple[str, ...] = (), **settings: Any) -> nn.Module:
    torch.manual_seed(0)
    digital = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 4))
    config = RRAMRPUConfig(noise_model=model, **settings)
    return convert_to_analog(digital, config, exclude=list(exclude)).eval()


def inputs(number: int = 6) -> Tensor:
    return torch.randn(number, 20, generator=torch.Generator().manual_seed(2))


def readings(model: nn.Module, number: int = 3) -> list[Tensor]:
    with torch.no_grad():
        return [model(inputs()) for _ in range(number)]


def test_each_forward_reads_again_and_a_chip_reads_the_same_each_time() -> None:
    model = network()
    program(model, 1)
    first = readings(model)
    assert not torch.equal(first[0], first[1])
    state = torch.get_rng_state()
    program(model, 1)
    again = readings(model)
    assert all(map(torch.equal, first, again))
    assert torch.equal(torch.get_rng_state(), state)
    program(model, 2)
    assert not torch.equal(readings(model)[0], first[0])


def test_only_chips_are_read_with_noise() -> None:
    model = network()
    clean = readings(model)
    assert torch.equal(clean[0], clean[1])
    with programmed(model, 1):
        weights = effective_weights(model)
        with nominal_inside(model):
            assert torch.equal(readings(model)[0], clean[0])
        assert not torch.equal(*readings(model, 2))
        for name, weight in effective_weights(model).items():
            assert torch.equal(weight, weights[name])  # reading changes no device
    assert torch.equal(readings(model)[0], clean[0])


def test_what_one_layer_reads_does_not_depend_on_the_others() -> None:
    seen: list[Tensor] = []
    for exclude in ((), ("0",)):
        model = network(READ, exclude)
        program(model, 3)
        layer = model[2]
        with torch.no_grad():
            seen.append(layer(torch.ones(1, 16)))
    assert torch.equal(*seen)


def test_layers_of_the_same_weights_read_with_noise_of_their_own() -> None:
    layer = nn.Linear(16, 16)
    digital = nn.Sequential(layer, copy.deepcopy(layer))
    model = convert_to_analog(digital, RRAMRPUConfig(noise_model=READ)).eval()
    program(model, 3)
    with torch.no_grad():
        seen = [of(torch.ones(1, 16)) - layer(torch.ones(1, 16)) for of in model]
    assert torch.corrcoef(torch.cat(seen))[0, 1].abs() < 0.6


@pytest.mark.parametrize(
    "forward", [periphery(), periphery(dac_bits=16, adc_bits=16, adc_range=50.0)]
)
def test_the_noise_has_the_stated_size_on_every_path(forward: Any) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(64, 50, bias=False)
    config = RRAMRPUConfig(noise_model=READ, forward=forward)
    model = convert_to_analog(nn.Sequential(layer), config).eval()
    x = torch.eye(64)
    with torch.no_grad(), programmed(model, 5):
        errors = torch.stack([model(x).T - layer.weight for _ in range(40)])
    # with columns scaled to 1 each, sigma is relative to each column's largest weight
    per_column = layer.weight.abs().amax(1, keepdim=True).expand(-1, 64)
    largest = layer.weight.abs().max() if forward.is_perfect else per_column
    expected = 0.05 * 2**0.5 * largest
    ratio = (errors / expected).flatten()
    assert ratio.std().item() == pytest.approx(1.0, rel=0.02)
    assert ratio.mean().item() == pytest.approx(0.0, abs=0.02)


def test_a_shared_reference_column_moves_all_outputs_together() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(3, 200, bias=False)
    model = ReadNoiseModel(0.05, "g_max", conductance_converter("reference", 0.0, 25.0))
    net = convert_to_analog(nn.Sequential(layer), RRAMRPUConfig(noise_model=model)).eval()
    with torch.no_grad(), programmed(net, 5):
        errors = torch.stack([net(torch.eye(3)).T - layer.weight for _ in range(200)])
    common = errors.mean(1)  # over outputs
    expected = 0.05 * 2 * layer.weight.abs().max().item()
    assert common.std().item() == pytest.approx(expected, rel=0.1)
    assert (errors - common[:, None]).std().item() == pytest.approx(expected, rel=0.02)


def test_read_noise_follows_what_drift_left() -> None:
    model = CompositeNoiseModel([PowerLawDriftNoiseModel(0.2, 0.0), ReadNoiseModel(0.05, "g")])
    net = network(model)

    def size(time: float | None) -> float:
        with programmed(net, 1, t_inference=time):
            (first, _) = net.analog_tiles()
            read_noise = first.chip.read_noise
            assert read_noise is not None and read_noise.seed is not None
            return read_noise.stds[0].norm().item()

    assert size(1e4) / size(None) == pytest.approx(1e4**-0.2, rel=1e-3)


def test_a_copy_of_a_chip_reads_what_the_chip_would_have() -> None:
    model = network()
    program(model, 1)
    twin = copy.deepcopy(model)
    assert all(map(torch.equal, readings(model), readings(twin)))
    clear_chip(twin)
    assert torch.equal(*readings(twin, 2))


def test_loading_other_weights_forgets_the_chip_and_its_noise() -> None:
    model = network()
    state = network().state_dict()
    program(model, 1)
    model.load_state_dict(state)
    assert torch.equal(*readings(model, 2))


def test_drift_compensation_reads_its_baseline_without_noise() -> None:
    model = network(
        CompositeNoiseModel([PowerLawDriftNoiseModel(0.1, 0.0), ReadNoiseModel(0.2)]),
        drift_compensation=GlobalDriftCompensation(),
    )
    for seed in (1, 2):
        program(model, seed, t_inference=1e4)
        for tile in model.analog_tiles():
            assert tile.chip.drift_factor.item() == pytest.approx(1e4**0.1, rel=1e-3)
        readings(model)  # the last chip's noise must not be in the next one's baseline


def test_training_on_a_held_chip_reads_it_again_at_each_forward() -> None:
    model = network().train()
    set_variation(model, hold=True)
    resample_variation(model, 4)
    torch.manual_seed(9)
    first, second = model(inputs()), model(inputs())
    assert not torch.equal(first, second)
    torch.manual_seed(9)
    assert torch.equal(model(inputs()), first)
    (first + second).sum().backward()
    assert all(tile.tile.weight.grad.abs().sum() > 0 for tile in model.analog_tiles())


def test_digital_parts_are_trained_on_a_chip_that_is_read_with_noise() -> None:
    model = network(exclude=("2",))
    freeze_analog(model)
    program(model, 1)
    model.train()
    assert not torch.equal(model(inputs()), model(inputs()))
    model(inputs()).sum().backward()
    assert model[2].weight.grad is not None


def test_evaluation_is_reproducible_and_the_batch_size_belongs_to_it(tmp_path: Path) -> None:
    model = network()
    x, y = inputs(40), torch.arange(40) % 4
    run: Callable[..., Any] = lambda batch, records=None: evaluate_chips(  # noqa: E731
        model, (x, y), chips=4, batch_size=batch, records=records
    )
    torch.manual_seed(1)
    first = run(10, tmp_path / "chips.jsonl")
    torch.manual_seed(2)
    assert run(10).scores == first.scores
    assert run(10, tmp_path / "chips.jsonl").scores == first.scores
    with pytest.raises(CnetError, check=lambda e: e.key == "batch_size"):
        run(20, tmp_path / "chips.jsonl")


def test_a_suffix_scan_begins_with_the_scores_of_the_evaluation() -> None:
    model = network()
    data = inputs(40), torch.arange(40) % 4
    scan = scan_layers(model, data, chips=3, batch_size=10)
    assert scan.rows[0].scores == evaluate_chips(model, data, chips=3, batch_size=10).scores
    uncached = scan_layers(model, data, chips=3, batch_size=10, cache_bytes=0)
    assert [row.scores for row in uncached.rows] == [row.scores for row in scan.rows]


@pytest.mark.parametrize("measure", [evaluate_chips, scan_layers])
def test_times_that_a_device_does_not_know_are_refused_before_the_first_chip(
    measure: Any, tmp_path: Path
) -> None:
    model = network(Wan2022NoiseModel())
    data = inputs(8), torch.arange(8) % 4
    with pytest.raises(CnetError, check=lambda e: e.key == "t_inference"):
        measure(model, data, chips=2, t_inference=1e9, records=tmp_path / "r.jsonl")
    assert not (tmp_path / "r.jsonl").exists()


def test_tiles_that_cannot_read_with_noise_are_warned_of() -> None:
    config = InferenceRPUConfig(noise_model=NOISY)
    assert "unread-noise" in [trap.name for trap in find_traps(config)]
    assert find_traps(RRAMRPUConfig(noise_model=NOISY)) == []


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("evaluated_between", [False, True])
def test_a_forward_that_checkpointing_computes_again_is_the_same_reading(
    reentrant: bool, evaluated_between: bool
) -> None:
    torch.manual_seed(0)
    layers = nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 6)])
    model: Any = convert_to_analog(layers, RRAMRPUConfig(noise_model=ReadNoiseModel(0.3)))
    freeze_analog(model)

    def segment(x: Tensor) -> Tensor:  # each layer once and twice, in several segments
        return model[1](model[0](model[0](x).tanh()).tanh())

    def gradient(checkpointed: bool) -> Tensor:
        x = inputs()[:, :6].clone().requires_grad_()
        with programmed(model, 1):
            y = x
            for _ in range(3):
                y = checkpoint(segment, y, use_reentrant=reentrant) if checkpointed else segment(y)
            if evaluated_between:
                segment(x.detach())
            y.square().sum().backward()
        assert x.grad is not None
        return x.grad

    assert torch.equal(gradient(True), gradient(False))


def test_checkpointing_without_its_random_state_is_refused() -> None:
    model = network(READ)
    freeze_analog(model)
    x = inputs().requires_grad_()
    with programmed(model, 1):
        y = checkpoint(model, x, use_reentrant=False, preserve_rng_state=False)
        with pytest.raises(CnetError, check=lambda e: e.key == "preserve_rng_state"):
            y.sum().backward()


def test_a_compiled_network_is_trained_under_the_same_read_noise() -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 5), nn.Tanh(), nn.Linear(5, 4))
    model = convert_to_analog(layers, RRAMRPUConfig(noise_model=READ)).train()
    gradients = []
    for called in (model, torch.compile(model, backend="eager")):  # shapes are symbolic in it
        torch.manual_seed(3)
        called(torch.ones(3, 6)).square().sum().backward()
        gradients.append([p.grad for p in trainable_parameters(model)])
        model.zero_grad()
    for compiled, plain in zip(*gradients, strict=True):
        assert torch.equal(compiled, plain)
