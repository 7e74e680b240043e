"""The simulated chip: lasting and fresh variation, writes of cells, endurance, its state."""

import math
from typing import Any

import pytest
import torch
from aihwkit.nn import AnalogLinear
from aihwkit.simulator.configs import InferenceRPUConfig
from torch import Tensor, nn

from cnet_aihw.rram import (
    CompositeNoiseModel,
    LogNormalNoiseModel,
    PowerLawDriftNoiseModel,
    ReadNoiseModel,
    RRAMRPUConfig,
    at_time,
    conductance_converter,
    convert_to_analog,
    effective_weights,
    named_tiles,
    periphery,
    program,
)
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.tuning import CellWrites, SimulatedChip, score_on_chip, write_all


def network(sigma: float = 0.5, **mapping: int) -> nn.Module:
    torch.manual_seed(0)
    config = RRAMRPUConfig(noise_model=LogNormalNoiseModel(sigma))
    for name, value in mapping.items():
        setattr(config.mapping, name, value)
    plain = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 40))
    return convert_to_analog(plain, config).eval()


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    return effective_weights(model)


@pytest.mark.parametrize("mapping", [{}, {"max_input_size": 50, "max_output_size": 16}])
def test_a_chip_written_once_is_that_of_program(mapping: dict[str, int]) -> None:
    model, x = network(**mapping), torch.rand(4, 1, 8, 8)
    chip = SimulatedChip(model, 5)
    write_all(model, chip)
    program(model, 5)
    for name, weight in effective_weights(model).items():
        assert torch.equal(chip.weight(name), weight)
    first = model[0](x)
    assert torch.equal(chip.forward("0", x, model[0].bias), first)


def test_what_lasts_stays_and_what_is_fresh_is_drawn_at_each_write() -> None:
    model = network()
    weight = weights_of(model)["3"]
    chip, fresh = SimulatedChip(model, 5), SimulatedChip(model, 5, rewrite_sigma=0.3)
    chip.write("3", weight)
    lasting = chip.weight("3") / weight
    chip.write("3", 2.0 * weight)
    torch.testing.assert_close(chip.weight("3") / (2.0 * weight), lasting)
    logs = []
    for times in (1.0, 2.0, 3.0):
        fresh.write("3", times * weight)
        logs.append((fresh.weight("3") / (times * weight) / lasting).log())
    for log in logs:  # 4320 normal draws of a standard deviation of 0.3
        assert abs(float(log.mean())) < 4 * 0.3 / math.sqrt(log.numel())
        assert float(log.std()) == pytest.approx(0.3, rel=0.05)
    pairs = torch.corrcoef(torch.stack([log.flatten() for log in logs]))
    assert float((pairs - torch.eye(3)).abs().max()) < 4 / math.sqrt(logs[0].numel())


def test_cells_that_are_asked_for_the_same_weight_are_left_as_they_are() -> None:
    model = network()
    chip = SimulatedChip(model, 5, rewrite_sigma=0.3)
    weight = weights_of(model)["3"]
    chip.write("3", weight)
    before = chip.weight("3")
    changed = weight.clone()
    changed[:2] += 0.1
    chip.write("3", changed)
    assert torch.equal(chip.weight("3")[2:], before[2:])
    assert not torch.isclose(chip.weight("3")[:2], before[:2]).any(1).all()
    counts = chip.cells.counts["3"]
    assert counts[:2].unique().tolist() == [2]
    assert counts[2:].unique().tolist() == [1]
    assert (chip.cells.most, chip.cells.total) == (2, weight.numel() + 2 * 108)
    assert chip.cells.mean == chip.cells.total / weight.numel()


def test_cells_endure_their_writes_and_no_more() -> None:
    cells, weight = CellWrites(limit=2), torch.zeros(2, 3)
    cells.note("a", weight)
    cells.note("a", weight + 1.0)
    cells.note("a", weight + 1.0)
    with pytest.raises(CnetError) as caught:
        cells.note("a", torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 2.0]]))
    assert (caught.value.key, caught.value.value, caught.value.expected) == ("max_writes", 3, 2)
    assert cells.counts["a"].tolist() == [[2, 2, 2], [2, 2, 2]]
    with pytest.raises(CnetError):
        cells.check(1)
    chip = SimulatedChip(network(), 5, max_writes=1)
    chip.write("3", torch.zeros(40, 108))
    with pytest.raises(CnetError):
        chip.write("3", torch.ones(40, 108))


def test_a_network_can_be_put_on_the_chip_for_calibrations() -> None:
    model, x = network(max_input_size=50), torch.rand(6, 1, 8, 8)
    chip = SimulatedChip(model, 5, rewrite_sigma=0.3)
    write_all(model, chip)
    with torch.no_grad():
        clean = model(x)
        with chip.put_on(model):
            on_chip = model(x)
        again = model(x)
    assert torch.equal(clean, again)
    assert not torch.equal(clean, on_chip)
    targets = on_chip.argmax(1)
    assert score_on_chip(model, chip, (x, targets)) == 1.0
    with chip.put_on(model):
        for name, weight in effective_weights(model).items():
            torch.testing.assert_close(weight, chip.weight(name))


def test_a_chip_that_is_put_on_a_network_is_the_same_at_other_times() -> None:
    """Also what a write adds, and where the network's weights, and so its units, are others."""
    torch.manual_seed(0)
    device = CompositeNoiseModel([PowerLawDriftNoiseModel(0.1, 0.0), ReadNoiseModel(0.05)])
    config = RRAMRPUConfig(noise_model=device, forward=periphery(out_noise=0.01))
    model = convert_to_analog(nn.Sequential(nn.Linear(6, 4)), config).eval()
    (tile,) = model.analog_tiles()
    chip = SimulatedChip(model, 5, rewrite_sigma=0.3)
    chip.write("0", 2.0 * weights_of(model)["0"])
    with chip.put_on(model):
        now, noise = weights_of(model)["0"], read_off(tile)
        torch.testing.assert_close(now, chip.weight("0"))
        with at_time(model, 1e4):
            torch.testing.assert_close(weights_of(model)["0"], now * 1e4**-0.1)
            tile.chip.seed_reads(3)
            torch.testing.assert_close(read_off(tile), noise)


def read_off(tile: Any) -> Tensor:
    """Return what a reading adds to the weights, as it is in the network's units."""
    tile.chip.seed_reads(3)
    return (tile.chip.read() - tile.chip.weight) * tile.tile.scales


@pytest.mark.parametrize("cell", ["pair", "reference"])
def test_read_noise_is_shared_as_written_also_on_a_network_of_another_scaling(cell: str) -> None:
    """A chip keeps the noise that it was written with, and the outputs that share it."""
    torch.manual_seed(0)
    noise_model = ReadNoiseModel(0.05, g_converter=conductance_converter(cell))
    config = RRAMRPUConfig(noise_model=noise_model)
    config.mapping.weight_scaling_omega = 1.0
    config.mapping.weight_scaling_columnwise = True
    model = convert_to_analog(nn.Sequential(nn.Linear(5, 3, bias=False)), config).eval()
    larger = torch.tensor([[1.0], [3.0], [0.5]]) * weights_of(model)["0"]
    chip, x = SimulatedChip(model, 5), torch.eye(5)
    chip.write("0", larger)
    wanted = chip.forward("0", x)
    assert (wanted - larger.T).abs().max() > 0.01
    chip = SimulatedChip(model, 5)
    chip.write("0", larger)
    with chip.put_on(model):
        torch.testing.assert_close(model(x), wanted)


def test_the_state_of_a_chip_brings_back_weights_and_readings() -> None:
    torch.manual_seed(0)
    device = CompositeNoiseModel([LogNormalNoiseModel(0.5), ReadNoiseModel(0.05)])
    model = convert_to_analog(nn.Sequential(nn.Linear(6, 4)), RRAMRPUConfig(noise_model=device))
    weight, x = weights_of(model)["0"], torch.rand(3, 6)
    chip = SimulatedChip(model, 5, rewrite_sigma=0.3)
    for times in (1.0, 1.5):
        chip.write("0", times * weight)
    chip.forward("0", x)
    state = {name: tensor.clone() for name, tensor in chip.state().items()}
    wanted = [chip.forward("0", x) for _ in range(2)]
    assert not torch.equal(*wanted)
    other = SimulatedChip(model, 5, rewrite_sigma=0.3)
    assert other.fingerprint() == chip.fingerprint()
    for others in ({"seed": 6}, {"rewrite_sigma": 0.2}, {"t_inference": 1.0}):
        another = SimulatedChip(model, **{"seed": 5, "rewrite_sigma": 0.3, **others})
        assert another.fingerprint() != chip.fingerprint()
    other.load(state)
    for reading in wanted:
        assert torch.equal(other.forward("0", x), reading)
    chip.write("0", weight)
    other.write("0", weight)
    assert torch.equal(chip.weight("0"), other.weight("0"))


def test_impossible_chips_are_refused() -> None:
    model = network()
    with pytest.raises(CnetError) as caught:
        SimulatedChip(model, 5, rewrite_sigma=-0.1)
    assert caught.value.key == "rewrite_sigma"
    with pytest.raises(CnetError) as caught:
        SimulatedChip(model, 5).forward("0", torch.rand(1, 1, 8, 8))
    assert (caught.value.key, caught.value.value) == ("0", "not written")
    stock = nn.Sequential(AnalogLinear(3, 2, rpu_config=InferenceRPUConfig()))
    with pytest.raises(CnetError) as caught:
        SimulatedChip(stock, 5)
    assert caught.value.expected == "an RRAM layer"


def test_weights_that_do_not_fit_are_refused_and_nothing_is_written() -> None:
    chip = SimulatedChip(network(), 5, rewrite_sigma=0.1)
    for layer, weight, key in (
        ("9", torch.zeros(3, 9), "layer"),
        ("0", torch.zeros(9, 3), "weight"),
        ("0", torch.full((3, 9), math.nan), "weight"),
    ):
        with pytest.raises(CnetError) as caught:
            chip.write(layer, weight)
        assert caught.value.key == key
    assert (chip.cells.total, chip.state()) == (0, {})
    with pytest.raises(CnetError) as caught:
        SimulatedChip(network(), 5, t_inference=-1.0)
    assert caught.value.key == "t_inference"


def test_a_chip_with_another_periphery_is_another_chip() -> None:
    model = network()
    found = {SimulatedChip(model, 5).fingerprint()}
    for _, tile in named_tiles(model):
        tile.rpu_config.forward.is_perfect = False
    found.add(SimulatedChip(model, 5).fingerprint())
    for _, tile in named_tiles(model):
        tile.rpu_config.forward.out_noise = 0.25
    found.add(SimulatedChip(model, 5).fingerprint())
    assert len(found) == 3
