"""Calibration of chips: against statistics by hand, exact where it can be, nothing left behind."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from aihwkit.inference.noise.base import BaseNoiseModel
from torch import Tensor, nn

from cnet_aihw.evaluation import (
    AffineCorrection,
    BatchNormReestimation,
    ChipCalibration,
    evaluate_chips,
    make_calibration,
    score,
)
from cnet_aihw.rram import (
    LayerWrapper,
    LogNormalNoiseModel,
    ReadNoiseModel,
    RRAMRPUConfig,
    clear_chip,
    convert_to_analog,
    convert_to_digital,
    effective_weights,
    periphery,
    program,
    programmed,
    snapshot,
)
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.parts import TensorPart
from cnet_aihw.runtime.random_state import derive_seed
from cnet_aihw.runtime.records import read_records

Data = tuple[Tensor, Tensor]


class Net(nn.Module):
    """Two BatchNorms, a branch with a layer called twice, a linear layer behind."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3)
        self.norm1 = nn.BatchNorm2d(4)
        self.again = nn.Conv2d(4, 4, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(4)
        self.fc = nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm1(self.first(x)))
        x = x + self.again(F.relu(self.norm2(self.again(x))))
        return self.fc(x.flatten(1))


@pytest.fixture
def digital() -> nn.Module:
    torch.manual_seed(0)
    net = Net()
    for norm in (net.norm1, net.norm2):  # statistics of a trained network are not the first ones
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2.0)
        norm.num_batches_tracked.fill_(7)
    return net.eval()


@pytest.fixture
def model(digital: nn.Module) -> nn.Module:
    config = RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.5))
    return convert_to_analog(digital, config).eval()


def random_images(count: int, seed: int) -> Tensor:
    return torch.randn(count, 1, 6, 6, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", [BatchNormReestimation, AffineCorrection])
def test_noise_of_readings_is_not_taken_for_the_chips_own_error(
    digital: nn.Module, kind: Callable[[Tensor], ChipCalibration], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = RRAMRPUConfig(noise_model=ReadNoiseModel(0.1))
    x = 2.0 + random_images(512, 1)  # the noise of a weight moves a channel's mean
    with BatchNormReestimation(x)(digital):  # so that nothing is left to correct but the noise
        model = convert_to_analog(copy.deepcopy(digital), config).eval()
    clean = convert_to_digital(copy.deepcopy(model))(x)

    def error() -> Tensor:
        with programmed(model, 3), kind(x)(model):
            return torch.stack([(model(x) - clean).square().mean() for _ in range(100)]).mean()

    many = error()
    monkeypatch.setattr("cnet_aihw.evaluation.calibration.READINGS", 1)
    with programmed(model, 3):
        bare = torch.stack([(model(x) - clean).square().mean() for _ in range(100)]).mean()
    assert many < 1.1 * bare < error()


@pytest.fixture
def data() -> Data:
    return random_images(90, 1), torch.arange(90) % 3


PART = TensorPart(torch.randn(8, 3, generator=torch.Generator().manual_seed(3)), torch.arange(8))
CALIBRATIONS: list[Callable[[Tensor], ChipCalibration]] = [
    BatchNormReestimation,
    AffineCorrection,
]
each_calibration = pytest.mark.parametrize("calibration", CALIBRATIONS)


def plain_adabs(digital: nn.Module, batches: list[Tensor]) -> dict[str, Tensor]:
    """The oracle: batch statistics by hand, averaged over batches."""
    means: dict[str, list[Tensor]] = {"norm1": [], "norm2": []}
    variances: dict[str, list[Tensor]] = {"norm1": [], "norm2": []}

    def normalise(name: str, y: Tensor) -> Tensor:
        norm = digital.get_submodule(name)
        mean, var = y.mean((0, 2, 3)), y.var((0, 2, 3))  # unbiased
        means[name].append(mean)
        variances[name].append(var)
        biased = y.var((0, 2, 3), correction=0)
        unit = (y - mean.view(-1, 1, 1)) / (biased.view(-1, 1, 1) + norm.eps).sqrt()
        return unit * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)

    with torch.no_grad():
        for x in batches:
            x = F.relu(normalise("norm1", digital.first(x)))
            normalise("norm2", digital.again(x))
    result = {}
    for name in means:
        result[f"{name}.running_mean"] = torch.stack(means[name]).mean(0)
        result[f"{name}.running_var"] = torch.stack(variances[name]).mean(0)
    return result


@pytest.mark.parametrize(
    ("batch_size", "sizes"), [(500, [33]), (16, [11, 11, 11]), (32, [17, 16]), (2, [3] + [2] * 15)]
)
def test_adabs_is_batch_statistics_by_hand(
    model: nn.Module, data: Data, batch_size: int, sizes: list[int]
) -> None:
    x = random_images(33, 2)
    calibration = BatchNormReestimation(x, batch_size=batch_size)
    program(model, derive_seed(0, 0))
    twin = convert_to_digital(model).eval()
    expected = plain_adabs(twin, list(x.split(sizes)))
    with calibration(model):
        state = {n: b.clone() for n, b in model.named_buffers() if n in expected}
        assert not any(module.training for module in model.modules())
    for name, value in expected.items():
        torch.testing.assert_close(state[name], value, rtol=1e-4, atol=1e-5)
    # and the chip is measured with these statistics
    twin.load_state_dict(expected, strict=False)
    clear_chip(model)
    measured = evaluate_chips(model, data, chips=1, calibration=calibration)
    assert measured.scores[0] == pytest.approx(score(twin, data), abs=1e-6)


class GainError(BaseNoiseModel):
    """Every output channel of a chip has a gain of its own."""

    @torch.no_grad()
    def apply_programming_noise(self, weights: Tensor) -> tuple[Tensor, list]:
        return weights * (0.3 + 2 * torch.rand(weights.shape[0], 1)), [None]


def test_affine_correction_undoes_a_gain_error_per_channel(model: nn.Module) -> None:
    test = random_images(20, 3)  # none of the images it calibrates on
    with torch.no_grad():
        clean = model(test)
        with programmed(model, 1, GainError()):
            wrong = model(test)
            with AffineCorrection(random_images(30, 2))(model):
                corrected = model(test)
            assert torch.equal(model(test), wrong)
    assert (wrong - clean).abs().max() > 0.3
    torch.testing.assert_close(corrected, clean, rtol=1e-4, atol=1e-5)


def test_affine_correction_gives_clean_moments_to_every_channel(model: nn.Module) -> None:
    x = random_images(40, 2)
    calls: list[tuple[str, Tensor]] = []

    def run() -> dict[str, Tensor]:
        """Outputs of the first call of each layer, channels first, [channels, samples]."""
        calls.clear()
        with torch.no_grad():
            model(x)
        first = {}
        for name, y in calls:
            first.setdefault(name, y.movedim(1, 0).flatten(1))
        return first

    for name in ("first", "again", "fc"):
        model.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: calls.append((name, output))
        )
    clean = run()
    with programmed(model, 1):
        chip = run()
        with AffineCorrection(x)(model):
            corrected = run()
            assert [name for name, _ in calls] == ["first", "again", "again", "fc"]
    for name, y in clean.items():
        assert not torch.allclose(chip[name].std(1), y.std(1), rtol=0.1)
        torch.testing.assert_close(corrected[name].mean(1), y.mean(1), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(corrected[name].std(1), y.std(1), rtol=1e-4, atol=1e-5)


def test_adabs_undoes_a_gain_error_in_front_of_batchnorm() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    )
    x, test = random_images(200, 5), random_images(100, 6)
    with torch.no_grad():
        net[1].running_mean.copy_(net[0](x).mean((0, 2, 3)))
        net[1].running_var.copy_(net[0](x).var((0, 2, 3)))
        clean = net.eval()(test)
    config = RRAMRPUConfig(noise_model=GainError())
    model = convert_to_analog(net, config, exclude=["4"]).eval()
    data = test, clean.argmax(1)
    without = evaluate_chips(model, data, chips=4)
    result = evaluate_chips(model, data, chips=4, calibration=BatchNormReestimation(x))
    assert result.clean == without.clean == 1.0
    assert without.mean < 0.95 < 0.99 < result.mean
    with torch.no_grad(), programmed(model, 1), BatchNormReestimation(x)(model):
        torch.testing.assert_close(model(test), clean, rtol=1e-3, atol=1e-3)


@each_calibration
def test_model_comes_back_bit_for_bit(
    calibration: Callable[[Tensor], ChipCalibration], model: nn.Module, data: Data
) -> None:
    model.train()
    model.norm1.eval()
    before, modes = snapshot(model), [m.training for m in model.modules()]
    evaluate_chips(model, data, chips=2, calibration=calibration(random_images(9, 2)))
    program(model, 3)
    chip = effective_weights(model)
    with pytest.raises(KeyboardInterrupt), calibration(random_images(9, 2))(model):
        raise KeyboardInterrupt
    with pytest.raises(RuntimeError, match="shapes"):  # fails while it calibrates
        calibration(torch.zeros(4, 1, 5, 5))(model).__enter__()
    assert all(torch.equal(w, chip[n]) for n, w in effective_weights(model).items())
    clear_chip(model)
    after = snapshot(model)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert after["norm1.num_batches_tracked"] == 7 and model.norm1.momentum == 0.1
    assert [m.training for m in model.modules()] == modes
    assert not any(module._forward_hooks for module in model.modules())


@each_calibration
def test_results_repeat_also_with_a_noisy_periphery(
    calibration: Callable[[Tensor], ChipCalibration],
    digital: nn.Module,
    data: Data,
    tmp_path: Path,
) -> None:
    """The draws of a chip's calibration are the chip's own, whatever was measured before it."""
    config = RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.5), forward=periphery(out_noise=0.2))
    model = convert_to_analog(digital, config)
    calibrated = calibration(random_images(10, 2))
    whole = evaluate_chips(model, data, chips=8, calibration=calibrated)
    path = tmp_path / "chips.jsonl"
    evaluate_chips(model, data, chips=8, calibration=calibrated, records=path)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], *lines[2::2]]))  # the header, every other chip
    torch.randn(5)
    again = evaluate_chips(model, data, chips=8, calibration=calibrated, records=path)
    assert again == whole
    plain = evaluate_chips(model, data, chips=4)
    assert plain.clean == whole.clean and plain.scores != whole.scores[:4]


@each_calibration
def test_records_tell_calibrations_apart(
    calibration: Callable[[Tensor], ChipCalibration], model: nn.Module, data: Data, tmp_path: Path
) -> None:
    path = tmp_path / "chips.jsonl"
    x = random_images(10, 2)
    calibrated = calibration(x)
    whole = evaluate_chips(model, data, chips=3, calibration=calibrated)
    evaluate_chips(model, data, chips=2, calibration=calibrated, records=path)
    again = evaluate_chips(model, data, chips=3, calibration=calibration(x.clone()), records=path)
    assert again == whole
    assert [record["calibration"] for record in read_records(path)] == [calibrated.label()] * 3
    assert "10" in calibrated.label()
    for other in (None, calibration(x + 1), *(c(x) for c in CALIBRATIONS if c != calibration)):
        with pytest.raises(CnetError) as error:
            evaluate_chips(model, data, chips=3, calibration=other, records=path)
        assert error.value.key == "calibration"
    plain = tmp_path / "plain.jsonl"
    evaluate_chips(model, data, chips=1, records=plain)
    with pytest.raises(CnetError) as error:
        evaluate_chips(model, data, chips=1, calibration=calibrated, records=plain)
    assert error.value.key == "calibration"


def test_batch_size_of_the_reestimation_is_part_of_its_fingerprint() -> None:
    x = random_images(10, 2)
    prints = {BatchNormReestimation(x, batch_size=size).fingerprint() for size in (2, 5, 500)}
    assert len(prints) == 3


@pytest.mark.parametrize("inputs", [2, 3, 4])
def test_few_inputs_give_a_linear_layer_offsets_only(inputs: int) -> None:
    torch.manual_seed(0)
    model = convert_to_analog(nn.Linear(16, 8), RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.5)))
    model.eval()
    x = torch.randn(50, 16)
    with torch.no_grad():
        wanted = model(x[:inputs])
        with programmed(model, 1):
            before = model(x)
            with AffineCorrection(x[:inputs])(model):
                after = model(x)
    offset = wanted.mean(0) - before[:inputs].mean(0)
    assert torch.allclose(after, before + offset, atol=1e-5) is (inputs < 4)


def test_constant_channels_get_an_offset_only(digital: nn.Module) -> None:
    with torch.no_grad():
        digital.first.weight[0] = 0.0  # gives its bias everywhere
        digital.first.weight[1], digital.first.bias[1] = 0.0, 0.0
    model = convert_to_analog(digital, RRAMRPUConfig())
    x = random_images(10, 2)
    for noise in (LogNormalNoiseModel(0.5), GainError()):
        with torch.no_grad(), programmed(model, 1, noise), AffineCorrection(x)(model):
            outputs = model.first(x)
            assert torch.isfinite(model(x)).all()
        bias = digital.first.bias[:2].view(1, 2, 1, 1).expand(10, 2, 4, 4)
        torch.testing.assert_close(outputs[:, :2], bias)


def test_affine_correction_reaches_linear_layers_over_positions_and_1d_convolutions() -> None:
    """Channels are the last dimension of a linear layer and the second of a convolution."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 8), nn.Conv1d(7, 3, 3), nn.Flatten(), nn.Linear(18, 2))
    model = convert_to_analog(net, RRAMRPUConfig(noise_model=GainError())).eval()
    x = torch.randn(20, 7, 5)
    with torch.no_grad(), programmed(model, 1):
        assert not torch.allclose(model(x), net(x), atol=0.01)
        with AffineCorrection(x[:10])(model):
            torch.testing.assert_close(model(x), net(x), rtol=1e-4, atol=1e-5)


class Wrapper(LayerWrapper):
    """Something digital behind the layer."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.base_layer(x))


def test_affine_correction_corrects_the_layer_inside_a_wrapper(model: nn.Module) -> None:
    model.first = Wrapper(model.first)
    x = random_images(10, 2)
    with torch.no_grad():
        clean = model(x)
        with programmed(model, 1, GainError()), AffineCorrection(x)(model):
            torch.testing.assert_close(model(x), clean, rtol=1e-4, atol=1e-5)


def test_gradients_pass_through_a_corrected_chip(model: nn.Module) -> None:
    x = random_images(10, 2)
    with programmed(model, 1), AffineCorrection(x)(model):
        model(x).sum().backward()
    assert model.norm1.weight.grad.abs().sum() > 0


def test_costs(model: nn.Module) -> None:
    x = random_images(4, 2)
    assert BatchNormReestimation(x).cost(model) == 0
    assert AffineCorrection(x).cost(model) == 2 * (4 + 4 + 3)


@pytest.mark.parametrize(
    ("make", "key", "value"),
    [
        (lambda: BatchNormReestimation(torch.zeros(1, 3)), "x", [(1, 3)]),
        (lambda: AffineCorrection(torch.tensor(0.0)), "x", [()]),
        (lambda: AffineCorrection("images"), "x", "images"),
        (lambda: BatchNormReestimation(torch.zeros(4, 3), batch_size=1), "batch_size", 1),
        (lambda: make_calibration("batch_norm", PART), "calibration", "batch_norm"),
        (lambda: make_calibration("affine", PART, samples=1), "x", [(1, 3)]),
    ],
)
def test_mistakes(make: Callable[[], object], key: str, value: object) -> None:
    with pytest.raises(CnetError) as error:
        make()
    assert (error.value.key, error.value.value) == (key, value)


def test_a_calibration_is_made_by_its_name() -> None:
    assert make_calibration("none", PART) is None
    batchnorm = make_calibration("batchnorm", PART, samples=4, batch_size=2)
    affine = make_calibration("affine", PART, samples=5)
    assert isinstance(batchnorm, BatchNormReestimation) and isinstance(affine, AffineCorrection)
    assert torch.equal(batchnorm.x, PART.x[:4]) and batchnorm.batch_size == 2
    assert torch.equal(affine.x, PART.x[:5])


def test_a_batchnorm_that_is_called_twice_averages_over_its_calls() -> None:
    """As with torch's momentum=None, but without waiting for its counter."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.norm = nn.Linear(3, 3), nn.BatchNorm1d(3)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.fc(self.norm(self.fc(x))))

    torch.manual_seed(0)
    model = convert_to_analog(Twice(), RRAMRPUConfig()).eval()
    twin = convert_to_digital(model)
    x = torch.randn(30, 3)
    with BatchNormReestimation(x, batch_size=10)(model):
        twin.train()
        twin.norm.momentum = None
        twin.norm.reset_running_stats()
        with torch.no_grad():
            for batch in x.split(10):
                twin(batch)
        assert torch.equal(model.norm.running_mean, twin.norm.running_mean)
        assert torch.equal(model.norm.running_var, twin.norm.running_var)
    assert model.norm.num_batches_tracked == 0


def test_a_network_without_batchnorm_is_refused() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, track_running_stats=False))
    model = convert_to_analog(net, RRAMRPUConfig())
    with pytest.raises(CnetError) as error:
        evaluate_chips(
            model,
            (torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64)),
            chips=1,
            calibration=BatchNormReestimation(torch.zeros(4, 3)),
        )
    assert (error.value.key, error.value.value) == ("calibration", "batchnorm")


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_are_corrected_by_what_their_second_step_gives(kind: type) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cells, self.out = kind(4, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.cells(x.transpose(0, 1))[0][-1])

    torch.manual_seed(0)
    model = convert_to_analog(Net(), RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.3))).eval()
    x = torch.randn(50, 6, 4)
    seen: list[Tensor] = []
    with torch.no_grad():
        clean = model(x)
        model.cells.hh_l0.register_forward_hook(lambda _, __, y: seen.append(y))
        model(x)
        wanted = seen[1]
        with programmed(model, 3):
            before = (model(x) - clean).square().mean()
            with AffineCorrection(x)(model):
                given = seen[-5]
                assert (model(x) - clean).square().mean() < before
    assert torch.allclose(given.mean(0), wanted.mean(0), atol=1e-5)
    assert torch.allclose(given.std(0), wanted.std(0), atol=1e-5)


@pytest.mark.parametrize("begin", [0.0, 0.7])
def test_layers_of_a_loop_of_your_own_are_corrected_by_a_step_in_which_samples_differ(begin):
    """A first state that is the same for all samples says nothing of a chip's gain."""

    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.into, self.again, self.out = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            state = torch.full((len(x), 6), begin)
            for step in x.unbind(1):
                state = torch.tanh(self.into(step) + self.again(state))
            return self.out(state)

    torch.manual_seed(0)
    model = convert_to_analog(Loop(), RRAMRPUConfig()).eval()
    with torch.no_grad():
        model.again.bias.zero_()
        x, test = torch.randn(50, 5, 4), torch.randn(20, 5, 4)
        clean = model(test)
        with programmed(model, 1, GainError()):
            wrong = model(test)
            with AffineCorrection(x)(model):
                corrected = model(test)
    assert (wrong - clean).abs().max() > 0.1
    if begin == 0.0:  # else the first state differs where the correction is not there yet
        torch.testing.assert_close(corrected, clean, rtol=1e-3, atol=1e-4)
    assert (corrected - clean).square().mean() < 0.05 * (wrong - clean).square().mean()


class Sides(nn.Module):
    """Samples go to one of two layers, by the sign of their first number."""

    def __init__(self, skips: bool) -> None:
        super().__init__()
        self.low, self.high, self.skips = nn.Linear(4, 3), nn.Linear(4, 3), skips

    def forward(self, x: Tensor) -> Tensor:
        y, high = x.new_zeros(len(x), 3), x[:, 0] > 0
        for layer, mine in ((self.low, ~high), (self.high, high)):
            if mine.any() or not self.skips:
                y[mine] = layer(x[mine])
        return y


@pytest.mark.parametrize("skips", [False, True])
@pytest.mark.parametrize("noise", [LogNormalNoiseModel(0.5), ReadNoiseModel(0.0)])
def test_a_layer_that_no_calibration_sample_reaches_stays_as_it_is(
    skips: bool, noise: BaseNoiseModel
) -> None:
    torch.manual_seed(0)
    model = convert_to_analog(Sides(skips), RRAMRPUConfig(noise_model=noise)).eval()
    x = torch.randn(40, 4)
    high = x[:, 0] > 0
    with programmed(model, 1), torch.no_grad():
        chip = model(x)
        with AffineCorrection(x[high])(model):
            found = model(x)
    wanted = model(x).detach()
    assert torch.equal(found[~high], chip[~high])
    for moment in (torch.mean, lambda y, dim: y.std(dim, correction=0)):
        torch.testing.assert_close(moment(found[high], 0), moment(wanted[high], 0))
