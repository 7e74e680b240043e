"""Correctors fitted to one chip, against closed forms and a singular value decomposition."""

import copy
from contextlib import ExitStack

import pytest
import torch
from torch import nn

from cnet_aihw.compensation import (
    Affine,
    GeneratorCompensator,
    LowRank,
    PerChipFit,
    PerChipSettings,
    Placement,
    Vera,
    compensate,
    compensation_parameters,
    remove_compensation,
)
from cnet_aihw.compensation.closed_form import fit_linear
from cnet_aihw.compensation.moments import Moments
from cnet_aihw.compensation.refinement import refine
from cnet_aihw.evaluation import error_growth, evaluate_chips
from cnet_aihw.rram import (
    CompositeNoiseModel,
    LogNormalNoiseModel,
    ReadNoiseModel,
    RRAMRPUConfig,
    analog_layers,
    convert_to_analog,
    periphery,
    programmed,
)
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.tasks import Regression
from cnet_aihw.zoo import LeNet5

SIGMA = LogNormalNoiseModel(0.5)


def network(net, placement, corrector, noise=SIGMA, **settings):
    model = convert_to_analog(net, RRAMRPUConfig(noise_model=noise, **settings)).eval()
    if placement == "everywhere":
        placement = dict.fromkeys(analog_layers(model), 1.0)
    return compensate(model, Placement(placement), corrector)


def linear_network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4))


X = torch.randn(400, 6, generator=torch.Generator().manual_seed(1))


# -- the closed form


def moments_of(f, y, t, batches=1):
    moments = Moments()
    for part in zip(f.chunk(batches), y.chunk(batches), t.chunk(batches), strict=True):
        moments.add(*part)
    return moments


def data(rows=500, features=7, channels=5, noise=0.3):
    generator = torch.Generator().manual_seed(2)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    f, y = draw(rows, features) + 3.0, draw(rows, channels) * 2.0 - 1.0
    t = 0.7 * y + f @ draw(features, channels) + noise * draw(rows, channels) + 0.5
    return f, y, t


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_few_rows_give_offsets_and_no_scales(rows):
    f, y, t = data(rows)
    fit = fit_linear(moments_of(f[:, :0], y, t), 5, 0)
    assert torch.equal(fit.scale, torch.ones(5).double())
    assert torch.allclose(fit.offset, (t - y).mean(0))
    assert not torch.equal(fit_linear(moments_of(*data(4)), 5, 0).scale, fit.scale)


@pytest.mark.parametrize("corrector", [Affine(), LowRank()])
def test_a_fit_to_two_inputs_does_no_harm_to_others(corrector):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4)
    )
    model = network(net, "everywhere", corrector)
    x = torch.randn(202, 16)
    wanted = model(x[2:])
    for seed in range(10):
        with torch.no_grad(), programmed(model, seed):
            before = (model(x[2:]) - wanted).square().mean()
            with PerChipFit(x[:2])(model):
                assert (model(x[2:]) - wanted).square().mean() < 2 * before


def test_size_0_is_the_least_squares_line_of_each_channel():
    f, y, t = data()
    fit = fit_linear(moments_of(f[:, :0], y, t), 5, 0)
    for channel in range(5):
        design = torch.stack([y[:, channel], torch.ones(len(y))], 1)
        line = torch.linalg.lstsq(design, t[:, channel : channel + 1]).solution.flatten()
        torch.testing.assert_close(fit.scale[channel], line[0], rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(fit.offset[channel], line[1], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_reduced_rank_is_that_of_the_singular_value_decomposition(size):
    f, y, t = data()
    fit = fit_linear(moments_of(f, y, t), 5, size, ridge=0.0)
    line = fit_linear(moments_of(f[:, :0], y, t), 5, 0)
    residual = t - (y * line.scale + line.offset)
    centred = f - f.mean(0)
    full = torch.linalg.lstsq(centred, residual).solution
    left, values, right = torch.linalg.svd(centred @ full, full_matrices=False)
    best = left[:, :size] * values[:size] @ right[:size]
    given = (f @ fit.generator.T) @ fit.compensator.T + y * fit.scale + fit.offset
    expected = y * line.scale + line.offset + best
    torch.testing.assert_close(given, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(fit.spectrum, values.square() / len(f), rtol=1e-5, atol=1e-7)
    left_over = (residual - centred @ full).square().sum() / len(f)
    assert fit.unexplained == pytest.approx(left_over.item(), rel=1e-4)


def test_batches_of_any_number_give_the_same_fit():
    one, many = (fit_linear(moments_of(*data(), batches=n), 5, 3) for n in (1, 7))
    for name in ("scale", "offset", "spectrum"):
        torch.testing.assert_close(getattr(one, name), getattr(many, name), rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(
        one.compensator @ one.generator, many.compensator @ many.generator, rtol=1e-7, atol=1e-9
    )


def test_a_batch_without_rows_changes_nothing():
    f, y, t = data()
    moments = moments_of(f[:0], y[:0], t[:0])
    assert not moments.finite
    moments.add(f, y, t)
    fit, wanted = fit_linear(moments, 5, 2), fit_linear(moments_of(f, y, t), 5, 2)
    assert moments.finite and torch.equal(fit.scale, wanted.scale)
    assert torch.equal(fit.generator, wanted.generator)


def test_means_far_from_zero_cost_no_digits():
    f, y, t = (part.float() + 1e4 for part in data(noise=0.0))
    f = torch.cat([f, y], 1)
    fit = fit_linear(moments_of(f, y, t), 5, 5, ridge=0.0)
    given = f.double() @ fit.generator.T @ fit.compensator.T + y * fit.scale + fit.offset
    assert (given - t).abs().max() < 0.05  # of values around 1e4, in float32


def test_dead_and_constant_channels_get_an_offset_alone():
    f, y, t = data()
    y[:, 0], y[:, 1], t[:, 2] = 0.0, 3.0, -2.0
    fit = fit_linear(moments_of(f[:, :0], y, t), 5, 0)
    assert fit.scale[0] == fit.scale[1] == 1.0
    assert fit.offset[0].item() == pytest.approx(t[:, 0].mean().item())
    assert fit.offset[1].item() == pytest.approx(t[:, 1].mean().item() - 3.0)
    given = y[:, 2] * fit.scale[2] + fit.offset[2]
    torch.testing.assert_close(given, t[:, 2], rtol=0, atol=1e-9)


def test_features_that_repeat_each_other_do_no_harm():
    f, y, t = data()
    fit = fit_linear(moments_of(torch.cat([f, f, y, 0 * f], 1), y, t), 5, 5)
    line = fit_linear(moments_of(f[:, :0], y, t), 5, 0)
    given = torch.cat([f, f, y, 0 * f], 1) @ fit.generator.T @ fit.compensator.T
    error = (given + y * fit.scale + fit.offset - t).square().mean()
    assert error < 0.1 * (y * line.scale + line.offset - t).square().mean()


# -- on chips


@pytest.mark.parametrize("features", ["x", "xy", "patch"])
def test_full_size_gives_a_linear_network_back(features):
    model = network(linear_network(), "everywhere", LowRank(features))
    clean = remove_compensation(copy.deepcopy(model))(X)
    with programmed(model, 3):
        assert (model(X) - clean).abs().max() > 0.1
        with PerChipFit(X, ridge=1e-10)(model):
            torch.testing.assert_close(model(X), clean, rtol=1e-5, atol=1e-5)


def test_a_convolution_on_patches_is_given_back():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 4, 3, stride=2, padding=1, dilation=1))
    x = torch.randn(60, 2, 7, 7)
    model = network(net, "everywhere", LowRank("patch"))
    clean = net(x)
    with programmed(model, 3), PerChipFit(x, ridge=1e-10)(model):
        torch.testing.assert_close(model(x), clean, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("corrector", [Affine(), LowRank(), LowRank("patch")])
def test_a_chip_without_variation_is_left_as_it_is_bit_for_bit(corrector):
    torch.manual_seed(0)
    x = torch.randn(30, 1, 28, 28)
    model = network(LeNet5(), "everywhere", corrector, LogNormalNoiseModel(0.0))
    clean = model(x)
    with programmed(model, 3), PerChipFit(x)(model):
        assert torch.equal(model(x), clean)


@pytest.mark.parametrize("corrector", [Affine(), LowRank()])
def test_layer_by_layer_is_what_one_pass_gives(corrector):
    torch.manual_seed(0)
    x = torch.randn(48, 1, 28, 28)
    outputs = []
    for batch_size in (48, 16, 7):
        torch.manual_seed(0)
        model = network(LeNet5(), {"conv1": 1.0, "conv2": 1.0, "fc1": 1.0}, corrector)
        with programmed(model, 3), PerChipFit(x, batch_size=batch_size)(model):
            outputs.append(model(x))
    for output in outputs[1:]:
        torch.testing.assert_close(output, outputs[0], rtol=1e-3, atol=1e-3)


def test_errors_shrink_through_the_layers_and_more_with_larger_size():
    torch.manual_seed(0)
    x = torch.randn(100, 1, 28, 28)
    errors = []
    for corrector, ratio in ((None, 0.0), (Affine(), 1.0), (LowRank(), 0.2), (LowRank(), 1.0)):
        torch.manual_seed(0)
        model = convert_to_analog(LeNet5(), RRAMRPUConfig(noise_model=SIGMA)).eval()
        calibration = None
        if corrector is not None:
            compensate(model, Placement(dict.fromkeys(analog_layers(model), ratio)), corrector)
            calibration = PerChipFit(x)
        growth = error_growth(model, x, chips=3, calibration=calibration, reference=_without(model))
        errors.append(growth[-1].mean)
    assert errors == sorted(errors, reverse=True)
    assert errors[1] < 0.8 * errors[0] and errors[3] < 0.5 * errors[0]


def _without(model):
    from cnet_aihw.compensation import compensation_disabled

    return compensation_disabled


def test_correctors_are_as_before_after_each_chip_and_chips_do_not_depend_on_each_other():
    torch.manual_seed(0)
    model = network(LeNet5(), "everywhere", LowRank())
    before = {name: p.clone() for name, p in compensation_parameters(model).items()}
    x, labels = torch.randn(40, 1, 28, 28), torch.arange(40) % 10
    fit = PerChipFit(x)
    together = evaluate_chips(model, (x, labels), chips=3, calibration=fit)
    for name, parameter in compensation_parameters(model).items():
        assert torch.equal(parameter, before[name])
    assert (
        evaluate_chips(model, (x, labels), chips=2, calibration=fit).scores == (together.scores[:2])
    )


def test_a_layer_called_twice_is_fitted_to_both_calls():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.out = nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, x):
            return self.out(torch.tanh(self.layer(torch.tanh(self.layer(x)))))

    torch.manual_seed(0)
    net = Twice()
    model = network(net, "everywhere", LowRank("x"))
    with programmed(model, 3):
        before = (model(X) - net(X)).abs().mean()
        with PerChipFit(X)(model):
            assert (model(X) - net(X)).abs().mean() < 0.2 * before


class Routed(nn.Module):
    """Each sample goes to one of the experts, as a layer says."""

    def __init__(self, experts, skips):
        super().__init__()
        self.gate = nn.Linear(6, experts)
        self.experts = nn.ModuleList(nn.Linear(6, 6) for _ in range(experts))
        self.head, self.skips = nn.Linear(6, 3), skips

    def forward(self, x):
        chosen, y = self.gate(x).argmax(1), torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            mine = chosen == number
            if mine.any() or not self.skips:
                y[mine] = expert(x[mine])
        return self.head(y)


@pytest.mark.parametrize("skips", [False, True])
@pytest.mark.parametrize("batch_size", [400, 100])
@pytest.mark.parametrize("experts", [4, 40])
@pytest.mark.parametrize("target", ["clean", "mean_over_chips"])
def test_layers_that_are_given_other_samples_on_a_chip_are_refused_by_name(
    skips, batch_size, experts, target
):
    torch.manual_seed(0)
    net = Routed(experts, skips)
    places = [f"experts.{number}" for number in range(experts)]
    model = network(net, {**dict.fromkeys(places, 0.5), "head": 0.5}, LowRank())
    settings = {"batch_size": batch_size, "target": target}
    with programmed(model, 3), pytest.raises(CnetError) as error, PerChipFit(X, **settings)(model):
        pass
    assert error.value.key.removeprefix("placement.") in places and error.value.fix
    remove_compensation(model)
    compensate(model, Placement({"gate": 1.0, "head": 1.0}), LowRank())
    with programmed(model, 3):
        clean = net(X).detach()
        before = (model(X) - clean).abs().mean()
        with PerChipFit(X, **settings)(model):  # others are fitted
            assert (model(X) - clean).abs().mean() < before


class Alone(nn.Module):
    """A layer that sees samples one by one, without a dimension for them."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return torch.stack([self.layer(one) for one in x])


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(6, 5), (6,)),
        (nn.Conv1d(2, 3, 3, padding=1), (2, 4)),
        (nn.Conv2d(2, 3, 3, stride=2), (2, 5, 5)),
    ],
)
def test_samples_without_a_dimension_of_their_own_are_rows_as_well(layer, shape):
    x = torch.randn(20, *shape, generator=torch.Generator().manual_seed(1))
    net = Alone(layer)
    model = network(net, "everywhere", LowRank("patch"))
    with programmed(model, 3), PerChipFit(x)(model), torch.no_grad():
        assert (model(x) - net(x)).abs().mean() < 0.05


class Broken(LogNormalNoiseModel):
    """The first of all layers that are programmed is broken."""

    def sample_factor(self, weights):
        self.programmed = getattr(self, "programmed", 0) + 1
        return super().sample_factor(weights) / (self.programmed > 1)


def test_a_chip_whose_outputs_are_not_finite_fails_and_the_others_go_on():
    model = network(linear_network(), "everywhere", LowRank(), noise=Broken(0.5))
    y = torch.randint(4, (len(X),), generator=torch.Generator().manual_seed(0))
    found = evaluate_chips(model, (X, y), chips=3, calibration=PerChipFit(X), device="cpu")
    assert found.scores[0] is None
    assert None not in found.scores[1:]


def test_gradients_that_were_there_stay_and_what_is_frozen_is_so_again():
    model = network(linear_network(), "everywhere", LowRank())
    parameters = compensation_parameters(model).values()
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
        parameter.requires_grad_(False)
    with programmed(model, 3), PerChipFit(X, refine_steps=1)(model):
        pass
    assert not any(p.requires_grad for p in parameters)
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in parameters)


def test_it_reads_what_an_owner_can_measure_and_no_weight_of_the_chip(monkeypatch):
    """On a chip with converters and read noise, whose weights raise when anything but a forward
    reads them."""
    noise = CompositeNoiseModel([LogNormalNoiseModel(0.3), ReadNoiseModel(0.01)])
    torch.manual_seed(0)
    model = network(
        linear_network(), "everywhere", LowRank(), noise,
        forward=periphery(dac_bits=8, adc_bits=8, adc_range=12.0),
    )  # fmt: skip
    clean = remove_compensation(copy.deepcopy(model))(X)
    with programmed(model, 3):
        before = (model(X) - clean).abs().mean()

        def unreadable(*_, **__):
            raise AssertionError("a chip's weights cannot be read")

        for tile in model.analog_tiles():
            monkeypatch.setattr(type(tile), "get_weights", unreadable)
        monkeypatch.setattr("cnet_aihw.rram.effective_weights", unreadable)
        with PerChipFit(X)(model):
            assert (model(X) - clean).abs().mean() < 0.3 * before


def test_noise_of_readings_is_not_taken_for_the_chips_own_error():
    """Such a chip has no lasting error. A fit to one reading corrects the noise of that one, and so
    adds it to all others. Over many readings only the digital path from the inputs helps."""
    torch.manual_seed(0)
    x = 2.0 + torch.randn(2048, 12)  # the noise of a weight moves means, too
    net = nn.Sequential(nn.Linear(12, 16), nn.Linear(16, 8))
    model = network(net, {"0": "size 1", "1": "size 1"}, LowRank(), ReadNoiseModel(0.1))
    clean = remove_compensation(copy.deepcopy(model))(x)

    def error(*fit):
        with programmed(model, 3), ExitStack() as stack:
            for one in fit:
                stack.enter_context(one(model))
            return torch.stack([(model(x) - clean).square().mean() for _ in range(100)]).mean()

    bare, many = error(), error(PerChipFit(x))
    one = error(PerChipFit(x, readings=1, batch_size=2048))
    assert one > 1.3 * bare
    assert many < 0.8 * bare


def test_one_fit_serves_chips_that_are_read_with_noise_and_others():
    """Their inputs are divided otherwise, and wanted outputs are kept batch by batch."""
    noisy = CompositeNoiseModel([LogNormalNoiseModel(0.3), ReadNoiseModel(0.05)])
    model = network(linear_network(), "everywhere", LowRank(), LogNormalNoiseModel(0.3))

    def outputs(fit, noise):
        with programmed(model, 3, noise), fit(model):
            return model(X)

    used = PerChipFit(X, readings=8)
    for noise in (None, noisy, None):
        assert torch.equal(outputs(used, noise), outputs(PerChipFit(X, readings=8), noise))


@pytest.mark.parametrize("corrector", [LowRank(), Vera(), GeneratorCompensator()])
def test_refinement_brings_outputs_nearer_to_the_clean_ones(corrector):
    torch.manual_seed(0)
    net = LeNet5()
    x = torch.randn(64, 1, 28, 28)
    model = network(net, {"conv1": 0.5, "conv2": 0.5, "fc1": 0.2}, corrector)
    distances = []
    for steps in (1, 60):
        with programmed(model, 3):
            frozen = {n: p.requires_grad for n, p in model.named_parameters()}
            with PerChipFit(x, refine_steps=steps, refine_lr=1e-2)(model):
                distances.append((model(x) - net(x)).square().mean().item())
            assert {n: p.requires_grad for n, p in model.named_parameters()} == frozen
    assert distances[1] < 0.9 * distances[0]


def test_the_learning_rate_of_a_refinement_falls_to_0_along_half_a_cosine():
    torch.manual_seed(0)
    net, wanted = nn.Linear(6, 4), torch.randn(32, 4)
    oracle, settings = copy.deepcopy(net), PerChipSettings(refine_steps=7, refine_lr=0.1)
    refine(net, X[:32], wanted, settings, Regression(), list(net.parameters()))
    optimizer = torch.optim.Adam(oracle.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 7)
    for _ in range(7):
        optimizer.zero_grad()
        (oracle(X[:32]) - wanted).square().mean().backward()
        optimizer.step()
        schedule.step()
    torch.testing.assert_close(net.weight, oracle.weight)


def test_refinement_is_the_same_each_time():
    torch.manual_seed(0)
    x = torch.randn(32, 1, 28, 28)
    model = network(LeNet5(), {"conv2": 0.5, "fc1": 0.2}, LowRank())
    outputs = []
    for _ in range(2):
        with programmed(model, 3), PerChipFit(x, refine_steps=5)(model):
            outputs.append(model(x))
    assert torch.equal(*outputs)


def test_batches_of_the_refinement_belong_to_its_seed_and_are_parts_of_a_pass():
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)), X[:32]
    model, outputs = network(net, "everywhere", LowRank()), []
    for seed in (0, 1, 0):
        fit = PerChipFit(x, refine_steps=6, refine_batch=8, refine_lr=1e-2, seed=seed)
        with programmed(model, 3), fit(model):
            outputs.append(model(x))
        assert fit.spent.passes == 1 + 6 * 8 / 32
    assert torch.equal(outputs[0], outputs[2]) and not torch.equal(outputs[0], outputs[1])


def test_tokens_are_rows_like_any_other():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4))
    x = torch.randn(50, 9, 6)
    model = network(net, "everywhere", LowRank())
    with programmed(model, 3):
        before = (model(x) - net(x)).abs().mean()
        with PerChipFit(x)(model):
            assert (model(x) - net(x)).abs().mean() < 0.2 * before


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"x": X[:1]}, "x"),
        ({"x": torch.tensor([[1.0], [float("nan")]])}, "x"),
        ({"ridge": -1.0}, "ridge"),
        ({"ridge": float("nan")}, "ridge"),
        ({"batch_size": 1}, "batch_size"),
        ({"refine_steps": -1}, "refine_steps"),
        ({"refine_lr": 0.0}, "refine_lr"),
        ({"refine_batch": 0}, "refine_batch"),
    ],
)
def test_impossible_values_are_refused(arguments, key):
    with pytest.raises(CnetError) as error:
        PerChipFit(**({"x": X} | arguments))
    assert error.value.key == key


def test_a_model_without_such_correctors_is_refused():
    model = convert_to_analog(linear_network()).eval()
    with pytest.raises(CnetError) as error, programmed(model, 1), PerChipFit(X)(model):
        pass
    assert error.value.key == "model"


class Recurrent(nn.Module):
    """Sequences [N, T, 6] through a recurrent layer and a linear one."""

    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.cells, self.out = kind(6, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.cells(x)[0][:, -1])


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("batch_size", [1000, 25])
def test_recurrent_layers_are_fitted_to_all_steps(kind, batch_size):
    torch.manual_seed(0)
    net = Recurrent(kind)
    x = torch.randn(60, 5, 6)
    model = network(net, "everywhere", LowRank("xy"))
    clean = net(x)
    with programmed(model, 3), torch.no_grad():
        before = (model(x) - clean).abs().mean()
        with PerChipFit(x, batch_size=batch_size)(model):
            assert (model(x) - clean).abs().mean() < 0.25 * before


def test_attention_over_tokens_is_fitted_to_a_chip():
    torch.manual_seed(0)
    net = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)).eval()
    x = torch.randn(60, 5, 8)
    model = network(net, "everywhere", LowRank("xy"))
    clean = net(x)
    with programmed(model, 3), torch.no_grad():
        before = (model(x) - clean).abs().mean()
        with PerChipFit(x)(model):
            assert (model(x) - clean).abs().mean() < 0.35 * before


@pytest.mark.parametrize("corrector", [LowRank("xy"), Affine(), LowRank("y")])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_transposed_convolutions_are_fitted_to_a_chip(corrector, stride):
    torch.manual_seed(0)
    net = nn.Sequential(nn.ConvTranspose2d(3, 4, 3, stride, 1), nn.Tanh(), nn.Conv2d(4, 2, 1))
    x = torch.randn(30, 3, 6, 5)
    model = network(net, "everywhere", corrector)
    clean = net(x)
    with programmed(model, 3), torch.no_grad():
        before = (model(x) - clean).square().mean()
        with PerChipFit(x)(model):
            assert (model(x) - clean).square().mean() < 0.8 * before


def test_patches_of_a_transposed_convolution_are_refused():
    net = nn.Sequential(nn.ConvTranspose1d(3, 4, 3))
    with pytest.raises(CnetError, check=lambda e: e.key == "corrector.features"):
        network(net, "everywhere", LowRank("patch"))
