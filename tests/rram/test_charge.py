"""Charge read-out against closed forms and an event-driven solution of its equation."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cnet_aihw.compensation import Digital, LowRank, PerChipFit, Placement, compensate
from cnet_aihw.evaluation import (
    check_clipped,
    column_voltages,
    evaluate_chips,
    fit_charge_scales,
    inspect_device,
)
from cnet_aihw.evaluation.chip_identity import describe_periphery
from cnet_aihw.rram import (
    Charge,
    CMONoiseModel,
    CrossbarMapping,
    LogNormalNoiseModel,
    RRAMConv2d,
    RRAMConvTranspose2d,
    RRAMLinear,
    RRAMRPUConfig,
    chip_model,
    convert_to_analog,
    effective_weights,
    named_tiles,
    periphery,
    program,
    readout,
    set_readout,
)
from cnet_aihw.rram.crossbar.charge import charge_voltage
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.tasks import Classification, Regression, Task
from cnet_aihw.zoo import ClippedCNN, ClippedMLP, digits
from cnet_aihw.zoo.clipped import UnitInterval


def product(x: Tensor, w: Tensor) -> Tensor:
    return x @ w.T


def by_events(x: Tensor, weight: Tensor, e_plus: float, e_minus: float) -> Tensor:
    """The exact solution: between two spikes the voltage relaxes towards g / f."""
    leak = torch.where(weight >= 0, weight / e_plus, weight / e_minus)
    rows = []
    for sample in x:
        times, order = (1.0 - sample).sort()
        g, f, v = (torch.zeros(len(weight), dtype=x.dtype) for _ in range(3))
        ends = [*times[1:].tolist(), 1.0]
        for start, end, j in zip(times.tolist(), ends, order.tolist(), strict=True):
            g, f = g + weight[:, j], f + leak[:, j]
            v = g / f + (v - g / f) * torch.exp(-f * (end - start))
        rows.append(v)
    return torch.stack(rows)


@pytest.fixture
def matrices() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(12, 40, generator=generator, dtype=torch.float64) * 0.3
    return torch.rand(32, 40, generator=generator, dtype=torch.float64), weight


def exact(e_plus: float, e_minus: float, **settings: Any) -> Charge:
    return Charge(e_plus, e_minus, spike_noise=0.0, **settings)


def model_of(charge: Charge, *layers: nn.Module, sigma: float = 0.0, **config: Any) -> Any:
    noise = LogNormalNoiseModel(sigma)
    made = RRAMRPUConfig(noise_model=noise, readout=charge, **config)
    return convert_to_analog(nn.Sequential(*layers), made).eval()


# -- the circuit


@pytest.mark.parametrize(("e_plus", "e_minus"), [(1.0, -1.0), (2.8, -1.53)])
@pytest.mark.parametrize("training", [False, True])
def test_the_grid_converges_to_the_event_driven_solution(
    matrices: tuple[Tensor, Tensor], e_plus: float, e_minus: float, training: bool
) -> None:
    """With the square of the interval, also where the grid is shifted."""
    x, weight = matrices
    wanted = by_events(x, weight, e_plus, e_minus)
    torch.manual_seed(1)
    errors = []
    for steps in (8, 32, 128):
        charge = exact(e_plus, e_minus, steps=steps, test_steps=steps)
        found = [charge_voltage(x, weight, product, charge, training=training) for _ in range(4)]
        errors.append(sum(float((v - wanted).abs().mean()) for v in found) / 4)
    assert errors[0] < 1e-2
    assert all(10 < a / b < 24 for a, b in pairwise(errors))


def test_the_error_of_the_grid_falls_with_the_reversal_potential(
    matrices: tuple[Tensor, Tensor],
) -> None:
    x, weight = matrices
    errors = [
        (charge_voltage(x, weight, product, exact(e, -e), training=False)
         - by_events(x, weight, e, -e)).abs().mean()
        for e in (100.0, 1000.0)
    ]  # fmt: skip
    assert 7 < float(errors[0] / errors[1]) < 13


@pytest.mark.parametrize("potential", [1e9, math.inf])
def test_without_a_limit_it_is_a_matrix_product(
    matrices: tuple[Tensor, Tensor], potential: float
) -> None:
    x, weight = matrices
    for steps in (1, 7):
        charge = exact(potential, -potential, steps=steps)
        found = charge_voltage(x, weight, product, charge, training=True)
        torch.testing.assert_close(found, x @ weight.T, atol=1e-6, rtol=0)


def test_simultaneous_spikes_have_a_closed_form(matrices: tuple[Tensor, Tensor]) -> None:
    _, weight = matrices
    size, e, value = weight.abs().sum(1), 1.7, 0.6  # 0.6 of the window lies after the spikes
    wanted = e * weight.sum(1) / size * (1 - torch.exp(-size * value / e))
    x = torch.full((1, 40), value, dtype=torch.float64)
    charge = exact(e, -e, test_steps=5)
    found = charge_voltage(x, weight, product, charge, training=False)
    torch.testing.assert_close(found[0], wanted, atol=1e-14, rtol=1e-13)


def test_voltages_stay_between_the_reversal_potentials_and_none_is_no_number(
    matrices: tuple[Tensor, Tensor],
) -> None:
    x, weight = matrices
    x[0], x[1] = 0.0, 1.0  # no spike, all at once
    voltage = charge_voltage(x, 50 * weight, product, exact(0.7, -1.3), training=False)
    assert float(voltage.max()) <= 0.7
    assert float(voltage.min()) >= -1.3
    assert voltage[0].tolist() == [0.0] * 12


def test_gradients_are_those_of_differences(matrices: tuple[Tensor, Tensor]) -> None:
    x, weight = (part[:4, :6].clone().requires_grad_() for part in matrices)
    charge = exact(1.0, -2.0, test_steps=7, scale_plus=1.5)

    def compute(x: Tensor, w: Tensor) -> Tensor:
        return charge_voltage(x, w, product, charge, training=False)

    assert torch.autograd.gradcheck(compute, (x, weight))


def test_the_noise_of_spikes_has_its_deviation_and_spares_zeros() -> None:
    x = torch.full((1, 20000), 0.5)
    x[0, :10000] = 0.0
    weight = torch.ones(1, 20000)
    charge = Charge(math.inf, -math.inf, spike_noise=0.02)
    torch.manual_seed(0)
    found = [float(charge_voltage(x, weight, product, charge, training=False)) for _ in range(50)]
    spread = torch.tensor(found).std()
    assert float(spread) == pytest.approx(0.02 * math.sqrt(10000), rel=0.3)
    assert sum(found) / 50 == pytest.approx(5000, abs=2)
    x[:] = 0.0
    assert float(charge_voltage(x, weight, product, charge, training=False)) == 0.0


# -- layers


LAYERS: dict[str, tuple[Callable[[Any], Any], tuple[int, ...]]] = {
    "linear": (lambda c: RRAMLinear(6, 4, rpu_config=c), (3, 6)),
    "linear, more dimensions": (lambda c: RRAMLinear(6, 4, rpu_config=c), (3, 2, 6)),
    "convolution": (lambda c: RRAMConv2d(4, 6, 3, padding=1, groups=2, rpu_config=c), (3, 4, 5, 5)),
    "one image": (lambda c: RRAMConv2d(4, 6, 3, stride=2, rpu_config=c), (4, 7, 7)),
    "transposed": (
        lambda c: RRAMConvTranspose2d(4, 6, 3, stride=2, output_padding=1, rpu_config=c),
        (3, 4, 5, 5),
    ),
}


@pytest.mark.parametrize("name", list(LAYERS))
def test_every_layer_is_its_digital_one_without_a_limit(name: str) -> None:
    """Bit for bit at infinite potentials, near it at large ones; and bounded, with its bias."""
    make, shape = LAYERS[name]
    torch.manual_seed(0)
    layer, x = make(RRAMRPUConfig(readout=exact(math.inf, -math.inf))).eval(), torch.rand(shape)
    plain = type(layer).to_digital(layer)
    if name == "one image":  # which some CPUs compute in another order than a batch
        torch.testing.assert_close(layer(x), plain(x), atol=1e-6, rtol=0)
    else:
        assert torch.equal(layer(x), plain(x))
    set_readout(layer, e_plus=1e4, e_minus=-1e4)
    torch.testing.assert_close(layer(x), plain(x), atol=1e-3, rtol=0)
    set_readout(layer, e_plus=0.01, e_minus=-0.01)
    with torch.no_grad():
        plain.weight.zero_()
    assert float((layer(x) - plain(x)).detach().abs().max()) <= 0.01 + 1e-6


def test_variation_acts_on_current_and_leak(matrices: tuple[Tensor, Tensor]) -> None:
    x, weight = (part.float() for part in matrices)
    linear = nn.Linear(40, 12, bias=False)
    linear.weight.data.copy_(weight)
    model = model_of(exact(1.0, -1.0, test_steps=200), linear, sigma=0.5)
    nominal = model(x)
    program(model, 3)
    chip = effective_weights(model)["0"]
    wanted = by_events(x.double(), chip.double(), 1.0, -1.0)
    torch.testing.assert_close(model(x).double(), wanted, atol=2e-4, rtol=0)
    assert float((model(x) - nominal).abs().max()) > 0.05


def test_scales_act_by_sign_and_leave_the_weights(matrices: tuple[Tensor, Tensor]) -> None:
    x, weight = matrices
    scaled = torch.where(weight >= 0, 1.5 * weight, 2.0 * weight)
    plain, by_sign = exact(1.0, -3.0), exact(1.0, -3.0, scale_plus=1.5, scale_minus=2.0)
    found = charge_voltage(x, weight, product, by_sign, training=False)
    wanted = charge_voltage(x, scaled, product, plain, training=False)
    torch.testing.assert_close(found, wanted)


# -- networks


@pytest.fixture(scope="module")
def data() -> Any:
    return digits(size=8, limit_train=200)


def network(data: Any, charge: Charge, sigma: float = 0.5) -> Any:
    torch.manual_seed(0)
    config = RRAMRPUConfig(noise_model=LogNormalNoiseModel(sigma), readout=charge)
    shape = data.input_shape
    plain = ClippedCNN(shape, 10, (4,), 3, hidden=(12,), mean=data.mean, std=data.std)
    return convert_to_analog(plain, config).eval()


def test_training_through_the_circuit_lowers_the_loss(data: Any) -> None:
    torch.manual_seed(0)
    config = RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.3), readout=Charge(1.0, -1.0, steps=4))
    plain = ClippedMLP(data.input_shape, 10, (20,), mean=data.mean, std=data.std)
    model = convert_to_analog(plain, config).train()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(data.train.x), data.train.y)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


def test_a_network_goes_through_chips_correctors_and_scales(data: Any) -> None:
    model = network(data, Charge(1.0, -1.0, test_steps=6))
    bare = evaluate_chips(model, data.test, chips=2, device="cpu")
    again = evaluate_chips(model, data.test, chips=2, device="cpu")
    assert (bare.mean, bare.std) == (again.mean, again.std)  # the noise of spikes is seeded
    held = chip_model(model, [1, 2])
    x = data.test.x[:5].clone().requires_grad_()
    held(x).sum().backward()
    assert x.grad is not None and float(x.grad.abs().sum()) > 0
    compensate(model, Placement({"layers.conv1": "size 2", "layers.fc2": "size 2"}), LowRank())
    fit = PerChipFit(data.train.x[:50])
    fitted = evaluate_chips(model, data.test, chips=2, calibration=fit, device="cpu")
    assert fitted.clean == bare.clean
    assert fitted.mean != bare.mean


def test_the_best_scales_are_set(data: Any) -> None:
    model = network(data, Charge(0.5, -0.5, test_steps=5), 0.0)
    before = {name: weight.clone() for name, weight in effective_weights(model).items()}
    found = fit_charge_scales(model, data.val, (1.0, 2.0), seed=3)
    tile = model.layers.conv1.tiles()[0]
    assert (tile.rpu_config.readout.scale_plus, tile.rpu_config.readout.scale_minus) == (
        *(found.scale_plus, found.scale_minus),
    )
    assert found.score >= found.unscaled
    assert all(torch.equal(w, before[n]) for n, w in effective_weights(model).items())
    voltages = column_voltages(model, data.val.x[:7])
    assert list(voltages) == ["layers.conv1", "layers.fc1", "layers.fc2"]
    assert all(float(v.abs().max()) <= 0.5 for v in voltages.values())


@pytest.mark.parametrize(
    ("task", "scores"),
    [(Classification(), (0.5, 0.5, 0.9, 0.9, 0.1)), (Regression(), (5.0, 5.0, 2.0, 2.0, 9.0))],
)
def test_the_best_score_wins_and_of_equal_ones_that_of_the_lower_loss(
    data: Any, monkeypatch: pytest.MonkeyPatch, task: Task, scores: tuple[float, ...]
) -> None:
    model = network(data, Charge(0.5, -0.5, test_steps=2), 0.0)
    found = iter(zip((1.0, 1.0, 0.8, 0.3, 0.1), scores, strict=True))  # unscaled, then all pairs
    monkeypatch.setattr("cnet_aihw.evaluation.charge.pass_over", lambda *_, **__: next(found))
    fit = fit_charge_scales(model, data.val, (1.0, 2.0), task=task)
    assert (fit.scale_plus, fit.scale_minus) == (2.0, 1.0)
    assert (fit.score, fit.unscaled) == (scores[3], scores[0])


def test_the_circuit_is_part_of_provenance(data: Any) -> None:
    model = network(data, Charge(1.0, -1.0))
    before = describe_periphery(model)
    set_readout(model, e_plus=2.0)
    after = describe_periphery(model)
    assert all(a != b for a, b in zip(before, after, strict=True))
    currents = convert_to_analog(ClippedMLP((4,), 3, (2,)), RRAMRPUConfig())
    assert not any("Charge" in line for line in describe_periphery(currents))


def test_the_device_check_sees_the_limit() -> None:
    near, far = (
        inspect_device(RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.0), readout=exact(e, -e)),
                       chips=1).rows[0]
        for e in (2.0, 200.0)
    )  # fmt: skip
    assert near.snr_periphery_db is not None and far.snr_periphery_db is not None
    assert near.snr_periphery_db + 20 < far.snr_periphery_db


# -- refusals


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"e_plus": 0.0}, "e_plus"), ({"e_minus": 0.0}, "e_minus"), ({"e_minus": 1.0}, "e_minus"),
        ({"steps": 0}, "steps"), ({"test_steps": 0}, "test_steps"),
        ({"spike_noise": -0.1}, "spike_noise"), ({"scale_plus": 0.0}, "scale_plus"),
        ({"scale_minus": -1.0}, "scale_minus"),
    ],
)  # fmt: skip
def test_a_circuit_that_cannot_be_is_refused(settings: dict[str, Any], key: str) -> None:
    with pytest.raises(CnetError) as error:
        Charge(**settings)
    assert error.value.key == key
    assert error.value.value == settings[key]


def test_a_read_out_has_its_word_and_its_potentials() -> None:
    assert readout() is None
    assert readout("charge", 2.0) == Charge(2.0, -2.0)
    assert readout("charge", 2.0, e_minus=-1.0) == Charge(2.0, -1.0)
    with pytest.raises(CnetError) as error:
        readout("current", 0.0)
    assert error.value.key == "e_rev"


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({"forward": periphery(adc_bits=8)}, "forward"),
        ({"mapping": CrossbarMapping(weight_scaling="column")}, "weight_scaling"),
    ],
)
def test_what_charge_does_not_go_with_is_refused(config: dict[str, Any], key: str) -> None:
    with pytest.raises(CnetError) as error:
        RRAMRPUConfig(readout=Charge(), **config)
    assert error.value.key == key


@pytest.mark.parametrize(
    "between", [nn.ReLU(), nn.GELU(), nn.BatchNorm1d(5), nn.LayerNorm(5), nn.Hardtanh()]
)
def test_what_does_not_clip_between_layers_is_refused(between: nn.Module) -> None:
    layers = nn.Linear(4, 5), between, nn.Hardtanh(0.0, 1.0), nn.Linear(5, 2)
    with pytest.raises(CnetError) as error:
        model_of(Charge(), *layers)
    assert (error.value.key, error.value.value) == ("1", type(between).__name__)
    model_of(Charge(), *layers[:1], layers[2], layers[3], nn.ReLU())  # behind the last voltage


def test_a_row_split_over_crossbars_is_refused() -> None:
    model = model_of(Charge(), nn.Linear(9, 2), mapping=CrossbarMapping(max_rows=4))
    for use in (lambda: model(torch.rand(1, 9)), lambda: check_clipped(model, torch.rand(1, 9))):
        with pytest.raises(CnetError) as error:
            use()
        assert error.value.key == "max_rows"
    columns = model_of(Charge(), nn.Linear(9, 6), mapping=CrossbarMapping(max_columns=4))
    assert columns(torch.rand(1, 9)).shape == (1, 6)


class Unclipped(nn.Module):
    """A network whose activation is a function; it stays within [0, 1] at first."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 3, bias=False), nn.Linear(3, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.one(x))
        out: Tensor = self.two(hidden)
        return out


def test_an_unclipped_function_is_found_before_its_values_grow() -> None:
    network = Unclipped()
    network.one.weight.data.fill_(0.1)
    model = convert_to_analog(network, RRAMRPUConfig(readout=Charge())).train()
    x = torch.rand(3, 4)
    model(x)
    with pytest.raises(CnetError) as error:
        check_clipped(model, x)
    assert error.value.key == "two"
    assert model.training
    with pytest.raises(CnetError) as error:
        model(x - 0.5)
    assert error.value.key == "one"
    assert error.value.expected == "inputs in [0, 1]"


def test_devices_that_leak_are_refused() -> None:
    config = RRAMRPUConfig(noise_model=CMONoiseModel(), readout=Charge())
    with pytest.raises(CnetError) as error:
        convert_to_analog(nn.Linear(4, 2), config)
    assert error.value.key == "g_min"


def test_a_digital_layer_cannot_stand_for_a_circuit() -> None:
    model = model_of(Charge(), nn.Linear(4, 5), nn.Hardtanh(0.0, 1.0), nn.Linear(5, 2))
    compensate(model, Placement({"2": "digital"}), Digital())
    with pytest.raises(CnetError) as error:
        model(torch.rand(1, 4))
    assert (error.value.key, error.value.value) == ("2", "digital")


def test_a_change_of_the_circuit_needs_one(data: Any) -> None:
    with pytest.raises(CnetError) as error:
        set_readout(convert_to_analog(nn.Linear(2, 2), RRAMRPUConfig()), e_plus=1.0)
    assert error.value.key == "readout"
    with pytest.raises(CnetError) as error:
        set_readout(network(data, Charge()), e_top=1.0)
    assert error.value.key == "readout.e_top"


@pytest.mark.parametrize("spike_noise", [0.0, 1e-9])
def test_pixels_at_the_bounds_and_on_the_grid_have_gradients(
    matrices: tuple[Tensor, Tensor], spike_noise: float
) -> None:
    """An attacker would be blind to pixels of 0 otherwise. On the grid both sides share."""
    weight = matrices[1][:, :6]
    x = torch.tensor([[0.0, 0.25, 0.5, 0.37, 0.999, 1.0]], dtype=torch.float64)
    charge = Charge(2.0, -1.5, test_steps=4, spike_noise=spike_noise)

    def voltage(at: Tensor) -> Tensor:
        torch.manual_seed(0)
        return charge_voltage(at, weight, product, charge, training=False).sum()

    def slopes(sign: float) -> Tensor:
        """Differences to one side; 0 where it is outside."""
        quiet = exact(2.0, -1.5, test_steps=4)
        found = torch.zeros(6, dtype=torch.float64)
        for j in range(6):
            moved = x.clone()
            moved[0, j] += sign * 1e-6
            if 0.0 <= moved[0, j] <= 1.0:
                ends = (
                    charge_voltage(at, weight, product, quiet, training=False).sum()
                    for at in (moved, x)
                )
                found[j] = sign * (next(ends) - next(ends)) / 1e-6
        return found

    (gradient,) = torch.autograd.grad(voltage(at := x.clone().requires_grad_()), at)
    wanted = (slopes(1.0) + slopes(-1.0)) / 2.0
    wanted[[0, 5]] *= 2.0  # there is one side alone
    if spike_noise:  # no other spike lies on the grid
        gradient, wanted = gradient[:, [0, 3]], wanted[[0, 3]]
    assert torch.allclose(gradient[0], wanted, atol=1e-4)
    assert (gradient[0].abs() > 1e-3).all()


def test_a_search_for_scales_that_fails_leaves_the_circuit(
    data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network(data, Charge(0.5, -0.5, test_steps=2, scale_plus=1.5), 0.0)
    left = iter(range(3))

    def fails(*args: Any, **given: Any) -> tuple[float, float]:
        return 1.0, 1.0 / (2 - next(left))

    monkeypatch.setattr("cnet_aihw.evaluation.charge.pass_over", fails)
    with pytest.raises(ZeroDivisionError):
        fit_charge_scales(model, data.val, (1.0, 2.0))
    readouts = {str(tile.rpu_config.readout) for _, tile in named_tiles(model)}
    assert readouts == {str(Charge(0.5, -0.5, test_steps=2, scale_plus=1.5))}


def test_voltages_repeat_and_leave_the_random_state(data: Any) -> None:
    model = network(data, Charge(0.5, -0.5, test_steps=2, spike_noise=0.1), 0.0)
    found = []
    for seed in range(2):
        torch.manual_seed(seed)
        state = torch.random.get_rng_state()
        found.append(column_voltages(model, data.val.x[:3]))
        assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_a_layer_without_inputs_gives_none() -> None:
    model = model_of(Charge(1.0, -1.0), nn.Linear(4, 3))
    assert model(torch.zeros(0, 4)).shape == (0, 3)


@pytest.mark.parametrize("charge", [None, exact(2.0, -1.5, test_steps=4)])
def test_an_attacker_of_normalised_images_sees_black_and_white_pixels(charge: Any) -> None:
    """Beyond the range the network is flat, so that its gradient is half of that inside."""
    torch.manual_seed(0)
    mean, std = torch.tensor([0.1307]), torch.tensor([0.3081])
    layers = [UnitInterval(mean.tolist(), std.tolist()), nn.Flatten(), nn.Linear(4, 3)]
    model = model_of(charge, *layers).double().requires_grad_(False)
    pixels = torch.tensor([[[[0.0, 0.37], [0.61, 1.0]]]], dtype=torch.float64)

    def output(at: Tensor) -> Tensor:
        return model((at - mean) / std)[0, 1]

    (gradient,) = torch.autograd.grad(output(at := pixels.clone().requires_grad_()), at)
    wanted = []
    for place in range(4):
        step = torch.zeros(4, dtype=torch.float64)
        step[place] = 1e-4
        sides = (output(pixels + sign * step.view_as(pixels)) for sign in (1.0, -1.0))
        wanted.append(float((next(sides) - next(sides)) / 2e-4))
    assert gradient.flatten().tolist() == pytest.approx(wanted, rel=1e-2)
    assert min(map(abs, wanted)) > 1e-3
