"""Tuning on a chip: rules of gradients against closed forms, writes, resuming, refusals."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from aihwkit.simulator.parameters import MappingParameter
from torch import Tensor, nn

from cnet_aihw.compensation import (
    Affine,
    LowRank,
    Placement,
    compensate,
    compensation_parameters,
)
from cnet_aihw.rram import (
    Charge,
    CompositeNoiseModel,
    LogNormalNoiseModel,
    ReadNoiseModel,
    RRAMRPUConfig,
    convert_to_analog,
    load_snapshot,
    nominal_weight,
    snapshot,
)
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.random_state import derive_seed
from cnet_aihw.runtime.records import read_records
from cnet_aihw.tasks import Classification, Regression, Segmentation
from cnet_aihw.training import TrainingParts
from cnet_aihw.tuning import (
    SimulatedChip,
    TuningSettings,
    perturbation_gradient,
    score_on_chip,
    tune_on_chip,
    validate_tuning_settings,
)
from cnet_aihw.tuning.gradients import (
    angle_between,
    by_feedback,
    feedback_matrices,
    through_network,
)
from cnet_aihw.tuning.on_chip import NetworkOnChip
from cnet_aihw.tuning.result import result_of
from cnet_aihw.zoo import ClippedMLP

from ..fake_cuda import cuda

X = torch.rand(48, 1, 6, 6, generator=torch.Generator().manual_seed(1))
Y = torch.arange(48) % 3
DATA = TrainingParts((X, Y), (X[:20], Y[:20]))
FEW = TuningSettings(tune="all", epochs=2, batch_size=16, lr=0.01)


def plain() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3)),
    )


def analog(net: nn.Module | None = None, sigma: float = 0.5) -> nn.Module:
    config = RRAMRPUConfig(noise_model=LogNormalNoiseModel(sigma))
    return convert_to_analog(plain() if net is None else net, config).eval()


class OpaqueChip:
    """A chip as a driver offers it: to be written and used, not read; nothing of it is saved."""

    def __init__(self, model: nn.Module, seed: int) -> None:
        self._chip = SimulatedChip(model, seed, rewrite_sigma=0.1)
        self.writes = 0

    def write(self, layer: str, weight: Tensor) -> None:
        self.writes += 1
        self._chip.write(layer, weight)

    def forward(self, layer: str, x: Tensor, bias: Tensor | None) -> Tensor:
        return self._chip.forward(layer, x, bias)


class ReadingRaises(OpaqueChip):
    def weight(self, layer: str) -> Tensor:
        raise AssertionError(f"weights of {layer} were read")


def backpropagation(net: nn.Module, settings: TuningSettings) -> None:
    """Train a plain network of torch by a loop of its own."""
    optimizer = torch.optim.Adam(net.parameters(), lr=settings.lr)
    for epoch in range(settings.epochs):
        order = torch.randperm(
            len(X),
            generator=torch.Generator().manual_seed(derive_seed(settings.seed, "order", 0, epoch)),
        )
        for step, chosen in enumerate(order.split(settings.batch_size)):
            at = (epoch * 3 + step) / (3 * settings.epochs)
            optimizer.param_groups[0]["lr"] = settings.lr * (1 + math.cos(math.pi * at)) / 2
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(X[chosen]), Y[chosen])
            loss.backward()
            optimizer.step()


@pytest.mark.parametrize("backward", ["model", "exact"])
def test_on_a_perfect_chip_it_is_backpropagation(backward: str, tmp_path: Path) -> None:
    model, net = analog(sigma=0.0), plain()
    tune_on_chip(model, SimulatedChip(model, 3), DATA, replace(FEW, backward=backward), tmp_path)
    backpropagation(net, FEW)
    for ours, theirs in ((model[0], net[0]), (model[4], net[4]), (model[6], net[6])):
        wanted = theirs.weight.reshape(len(theirs.weight), -1)  # kernels may round otherwise
        torch.testing.assert_close(nominal_weight(ours), wanted, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(ours.bias, theirs.bias, rtol=1e-5, atol=1e-6)


def test_physics_aware_gradients_are_nominal_jacobians_at_measured_activations() -> None:
    torch.manual_seed(0)
    model = analog(nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)))
    chip, x = SimulatedChip(model, 3), torch.rand(7, 5)
    network = NetworkOnChip(model, chip)
    first, second = (nominal_weight(model[n]).detach() for n in (0, 2))
    chip.write("0", first)
    chip.write("2", second)
    network.written = {"0", "2"}
    y = torch.arange(7) % 3
    with network.computing():
        through_network(network, x, y, cross_entropy)
    hidden = torch.tanh(x @ chip.weight("0").T + model[0].bias.detach())
    logits = hidden @ chip.weight("2").T + model[2].bias.detach()
    delta = (logits.softmax(1) - nn.functional.one_hot(y, 3)) / 7
    back = (delta @ second) * (1 - hidden**2)
    for layer, wanted in ((model[2], delta.T @ hidden), (model[0], back.T @ x)):
        torch.testing.assert_close(layer.tiles()[0].tile.weight.grad, wanted)
    torch.testing.assert_close(model[0].bias.grad, back.sum(0))


def gradients(model: nn.Module, use: Callable[[NetworkOnChip], Any]) -> list[Tensor]:
    network = NetworkOnChip(model, SimulatedChip(model, 3))
    for parameter in model.parameters():
        parameter.grad = None
    with network.computing():
        use(network)
    return [p.grad for n, p in model.named_parameters() if not n.endswith("analog_ctx")]


def cross_entropy(outputs: Tensor, targets: Tensor, _: Any) -> Tensor:
    return nn.functional.cross_entropy(outputs, targets)


def test_feedback_through_the_product_of_weights_is_backpropagation_where_all_is_linear() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 2, 3, bias=False), nn.AvgPool2d(2), nn.Flatten()]
    layers += [nn.Linear(8, 6), nn.Linear(6, 5), nn.Linear(5, 3)]
    model = analog(nn.Sequential(*layers))
    network = NetworkOnChip(model, SimulatedChip(model, 3))
    with network.computing():
        matrices = feedback_matrices(network, X[:5], "jacobian", 0)
    third, second, first = (nominal_weight(model[n]).detach() for n in (5, 4, 3))
    torch.testing.assert_close(matrices["5"], third)
    torch.testing.assert_close(matrices["4"], third @ second)
    torch.testing.assert_close(matrices["3"], third @ second @ first)
    found = gradients(model, lambda n: by_feedback(n, X, Y, cross_entropy, matrices))
    wanted = gradients(model, lambda _: cross_entropy(model(X), Y, None).backward())
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_random_feedback_has_the_size_of_weights_that_keep_a_signals() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 900), nn.Tanh(), nn.Linear(900, 10))
    model = analog(net)
    network = NetworkOnChip(model, SimulatedChip(model, 3))
    with network.computing():
        found = [feedback_matrices(network, torch.rand(2, 4), "random", s)["2"] for s in (0, 1)]
    assert found[0].shape == (10, 900) and not torch.equal(*found)
    assert float(found[0].std()) == pytest.approx(1 / 30, rel=0.05)


def test_feedback_to_a_single_layer_is_backpropagation_bit_for_bit() -> None:
    torch.manual_seed(0)
    model = analog(nn.Sequential(nn.Flatten(), nn.Linear(36, 3)))
    found = gradients(model, lambda n: by_feedback(n, X, Y, cross_entropy, {}))
    wanted = gradients(model, lambda _: cross_entropy(model(X), Y, None).backward())
    for ours, theirs in zip(found, wanted, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("random_target", [False, True])
def test_feedback_sends_the_error_or_the_labels_through_its_matrix(random_target: bool) -> None:
    torch.manual_seed(0)
    model = analog(nn.Sequential(nn.Flatten(), nn.Linear(36, 4), nn.Tanh(), nn.Linear(4, 3)))
    network = NetworkOnChip(model, SimulatedChip(model, 3))
    with network.computing():
        matrices = feedback_matrices(network, X[:5], "random", 7)
    hidden = torch.tanh(model[1](X.flatten(1))).detach()
    labels = nn.functional.one_hot(Y, 3) / 48
    error = (model[3](hidden).detach().softmax(1) / 48) - labels
    signal = -labels if random_target else error
    back = (signal @ matrices["3"]) * (1 - hidden**2)
    found = gradients(model, lambda n: by_feedback(n, X, Y, cross_entropy, matrices, random_target))
    wanted = [back.sum(0), back.T @ X.flatten(1), error.sum(0), error.T @ hidden]
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_the_mean_over_all_perturbations_of_a_quadratic_is_its_gradient() -> None:
    torch.manual_seed(0)
    a, b, theta = torch.randn(4, 4), torch.randn(4), nn.Parameter(torch.randn(4))
    a = a @ a.T

    def loss() -> Tensor:
        return 0.5 * theta @ a @ theta + b @ theta

    exact = a @ theta.detach() + b
    before, found = theta.detach().clone(), []
    for signs in itertools.product((-1.0, 1.0), repeat=4):
        theta.grad = None
        delta = torch.tensor(signs)
        mean = perturbation_gradient(loss, [theta], [delta], 0.1)
        torch.testing.assert_close(mean, loss().detach() + 0.005 * delta @ a @ delta)
        torch.testing.assert_close(theta.grad, (exact @ delta) * delta, rtol=1e-4, atol=1e-4)
        found.append(theta.grad)
    torch.testing.assert_close(torch.stack(found).mean(0), exact, rtol=1e-4, atol=1e-4)
    squares = torch.stack(found).square().mean(0)  # of each entry the squared length of all
    torch.testing.assert_close(squares, (exact @ exact).expand(4), rtol=1e-4, atol=1e-3)
    assert torch.equal(theta.detach(), before)


def test_angles() -> None:
    one = [torch.tensor([1.0, 0.0]), None]
    assert angle_between(one, [torch.tensor([1.0, 1.0]), None]) == pytest.approx(45.0)
    assert angle_between(one, [torch.tensor([-2.0, 0.0]), None]) == pytest.approx(180.0)
    assert angle_between(one, [torch.zeros(2), None]) is None


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.cuda, cuda])])
def test_angles_change_nothing_of_a_run(device: str, tmp_path: Path) -> None:
    """Layers that wait in software draw the same variation, however often gradients are taken."""
    found = []
    for angles in (False, True):
        model = analog().to(device)
        settings = replace(FEW, tune="progressive", epochs=1, angles=angles)
        tune_on_chip(model, SimulatedChip(model, 3), DATA, settings, tmp_path / str(angles))
        found.append(snapshot(model))
    assert all(torch.equal(tensor, found[1][name]) for name, tensor in found[0].items())


def test_writes_are_counted_exactly(tmp_path: Path) -> None:
    model = analog()
    chip = SimulatedChip(model, 3)
    settings = replace(FEW, write_every=4, angles=True)
    found = tune_on_chip(model, chip, DATA, settings, tmp_path / "all")
    assert found.writes_most == 1 + 2  # 6 steps: after the 4th and the last
    assert int(chip.cells.counts["6"].min()) == 3
    assert chip.cells.total == found.writes_total
    assert (found.steps, found.forwards) == (6, 2 * 48)
    for name in ("0", "4", "6"):
        assert torch.equal(chip.cells.weights[name], nominal_weight(model[int(name)]).detach())
    records = read_records(tmp_path / "all" / "epochs.jsonl")
    assert [r["writes_most"] for r in records] == [1, 3]
    assert all(0.0 < r["angle"] < 90.0 for r in records)
    assert records[-1]["score"] == found.score == score_on_chip(model, chip, (X[:20], Y[:20]))
    assert result_of(found.as_record()) == found
    digital = tune_on_chip(
        *(model, SimulatedChip(model, 3), DATA),
        *(replace(FEW, tune="digital", backward="perturbation"), tmp_path / "digital"),
    )
    assert (digital.writes_most, digital.writes_mean, digital.forwards) == (1, 1.0, 4 * 48)


def test_progressive_writes_each_cell_once_and_tunes_what_is_not_written(tmp_path: Path) -> None:
    model = analog()
    before = snapshot(model)
    chip = SimulatedChip(model, 3)
    found = tune_on_chip(model, chip, DATA, replace(FEW, tune="progressive"), tmp_path)
    assert (found.writes_most, found.writes_mean, found.before) == (1, 1.0, None)
    after = snapshot(model)
    assert torch.equal(after["0.weight"], before["0.weight"])
    assert not torch.equal(after["0.bias"], before["0.bias"])
    assert not torch.equal(after["4.weight"], before["4.weight"])
    assert torch.equal(chip.cells.weights["6"], nominal_weight(model[6]).detach())
    records = read_records(tmp_path / "epochs.jsonl")
    assert [(r["layer"], r["written"]) for r in records] == [
        *(("0", 1), ("0", 1), ("4", 2), ("4", 2), ("6", 3), ("6", 3))
    ]


def test_progressive_tuning_changes_nothing_on_a_perfect_chip(tmp_path: Path) -> None:
    model = analog(sigma=0.0)
    before = snapshot(model)
    settings = replace(FEW, tune="progressive", target="clean")
    tune_on_chip(model, SimulatedChip(model, 3), DATA, settings, tmp_path)
    for name, tensor in snapshot(model).items():
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize("backward", ["model", "feedback", "random_target"])
@pytest.mark.parametrize("tune", ["progressive", "all"])
def test_no_weight_of_the_chip_is_read(backward: str, tune: str, tmp_path: Path) -> None:
    model = analog()
    chip = ReadingRaises(model, 3)
    settings = replace(FEW, tune=tune, backward=backward, epochs=1)
    found = tune_on_chip(model, chip, DATA, settings, tmp_path)
    assert chip.writes == 3 * (4 if tune == "all" else 1)
    assert 0.0 <= found.score <= 1.0


def test_correctors_are_tuned_alone(tmp_path: Path) -> None:
    model = analog()
    compensate(model, Placement({"0": "size 2", "4": "size 2"}), LowRank(), 0)
    before = snapshot(model)
    chip = SimulatedChip(model, 3)
    found = tune_on_chip(model, chip, DATA, replace(FEW, tune="correctors"), tmp_path)
    changed = {n for n, t in snapshot(model).items() if not torch.equal(t, before[n])}
    assert len(changed) == len(compensation_parameters(model))
    assert all(".corrector" in name for name in changed)
    assert found.writes_most == 1


class Killed(Exception):
    pass


class Dying:
    """A simulated chip whose process is killed in its n-th call."""

    def __init__(self, chip: SimulatedChip, calls: int) -> None:
        self._chip, self._left = chip, calls

    def __getattr__(self, name: str) -> Any:
        return getattr(self._chip, name)

    def _call(self, name: str, *args: Any) -> Any:
        self._left -= 1
        if self._left < 0:
            raise Killed
        return getattr(self._chip, name)(*args)

    def write(self, layer: str, weight: Tensor) -> None:
        self._call("write", layer, weight)

    def forward(self, layer: str, x: Tensor, bias: Tensor | None) -> Tensor:
        return self._call("forward", layer, x, bias)


@pytest.mark.parametrize(
    "changes",
    [
        {"tune": "all", "write_every": 2},
        {"tune": "progressive"},
        {"tune": "all", "backward": "feedback", "target": "clean"},
        {"tune": "digital", "backward": "perturbation"},
    ],
    ids=str,
)
def test_a_killed_run_ends_the_same_bit_for_bit(changes: dict[str, Any], tmp_path: Path) -> None:
    settings = replace(FEW, **changes)
    model = analog()
    start = snapshot(model)

    def chip() -> SimulatedChip:
        return SimulatedChip(model, 3, rewrite_sigma=0.2)

    whole = chip()
    found = tune_on_chip(model, whole, DATA, settings, tmp_path / "whole")
    wanted = snapshot(model)
    kills = 0
    for calls in (2, 17, 26, 31, 40, 100_000):
        load_snapshot(model, start)
        dying = Dying(chip(), calls)
        try:
            again = tune_on_chip(model, dying, DATA, settings, tmp_path / "killed")
            break
        except Killed:
            kills += 1
    assert kills > 1
    assert replace(again, seconds=0.0) == replace(found, seconds=0.0)
    for name, tensor in snapshot(model).items():
        assert torch.equal(tensor, wanted[name])
    for name in ("0", "4", "6"):
        assert torch.equal(dying.weight(name), whole.weight(name))
        assert torch.equal(dying.cells.counts[name], whole.cells.counts[name])
    load_snapshot(model, start)
    loaded = chip()
    assert tune_on_chip(model, loaded, DATA, settings, tmp_path / "killed") == again
    assert torch.equal(loaded.weight("4"), whole.weight("4"))


def test_a_real_chip_is_written_again_and_its_cells_count_at_least_their_writes(
    tmp_path: Path,
) -> None:
    model = analog()
    start = snapshot(model)

    class Driver(OpaqueChip):
        left = 45

        def forward(self, layer: str, x: Tensor, bias: Tensor | None) -> Tensor:
            self.left -= 1
            if self.left == 0:
                raise Killed
            return super().forward(layer, x, bias)

    chip = Driver(model, 3)
    settings = replace(FEW, epochs=4)
    with pytest.raises(Killed):
        tune_on_chip(model, chip, DATA, settings, tmp_path)
    load_snapshot(model, start)
    found = tune_on_chip(model, chip, DATA, settings, tmp_path)
    counted = chip._chip.cells.counts["6"]
    assert found.writes_most >= int(counted.max())
    assert found.writes_most <= int(counted.max()) + 3


def test_endurance_is_checked_before_any_work(tmp_path: Path) -> None:
    model = analog()
    chip = SimulatedChip(model, 3)
    with pytest.raises(CnetError) as caught:
        tune_on_chip(model, chip, DATA, replace(FEW, max_writes=6), tmp_path / "a")
    assert (caught.value.key, caught.value.value, caught.value.expected) == ("max_writes", 7, 6)
    assert chip.cells.most == 0
    assert not (tmp_path / "a").exists()
    tune_on_chip(model, chip, DATA, replace(FEW, max_writes=7), tmp_path / "b")
    assert chip.cells.most == 7
    with pytest.raises(CnetError):  # the chip's life so far counts
        tune_on_chip(model, chip, DATA, replace(FEW, max_writes=12), tmp_path / "c")
    tune_on_chip(model, chip, DATA, replace(FEW, max_writes=13), tmp_path / "d")
    assert chip.cells.most == 13  # the first write of what it holds already wrote no cell


def test_cells_that_hold_their_weights_may_be_at_the_end_of_their_endurance(
    tmp_path: Path,
) -> None:
    model = analog()
    chip = SimulatedChip(model, 3, max_writes=1)
    digital = replace(FEW, tune="digital", max_writes=1)
    for folder in ("a", "b"):
        assert tune_on_chip(model, chip, DATA, digital, tmp_path / folder).writes_most == 1
    with torch.no_grad():
        model.get_submodule("4").set_weights(torch.zeros(8, 16))
    with pytest.raises(CnetError) as caught:
        tune_on_chip(model, chip, DATA, digital, tmp_path / "c")
    assert (caught.value.key, caught.value.value, caught.value.expected) == ("max_writes", 2, 1)
    assert chip.cells.most == 1


class Branched(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(36, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x.flatten(1))
        return self.last(torch.relu(x + self.second(torch.relu(x))))


class Twice(Branched):
    def forward(self, x: Tensor) -> Tensor:
        x = self.second(torch.relu(self.first(x.flatten(1))))
        return self.last(torch.relu(self.second(torch.relu(x))))


@pytest.mark.parametrize("kind", [Branched, Twice])
def test_feedback_needs_a_chain_and_other_rules_do_not(kind: type, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = analog(kind())
    with pytest.raises(CnetError) as caught:
        tune_on_chip(
            model, SimulatedChip(model, 3), DATA, replace(FEW, backward="feedback"), tmp_path / "a"
        )
    assert caught.value.key == "backward=feedback"
    settings = replace(FEW, tune="progressive", epochs=1)
    found = tune_on_chip(model, SimulatedChip(model, 3), DATA, settings, tmp_path / "b")
    assert found.writes_most == 1


def test_impossible_settings_are_refused(tmp_path: Path) -> None:
    for changes, key in (
        ({"tune": "some"}, "tuning.tune"),
        ({"backward": "magic"}, "tuning.backward"),
        ({"epochs": 0}, "tuning.epochs"),
        ({"lr": 0.0}, "tuning.lr"),
        ({"max_writes": 0}, "tuning.max_writes"),
        ({"backward": "perturbation"}, "tuning.tune"),
        ({"backward": "random_target", "target": "clean"}, "tuning.target"),
    ):
        with pytest.raises(CnetError) as caught:
            validate_tuning_settings(replace(FEW, **changes))
        assert caught.value.key == key
    model = analog()

    def refused(model: nn.Module, chip: Any, task: Any = None, **changes: Any) -> str | None:
        with pytest.raises(CnetError) as caught:
            tune_on_chip(model, chip, DATA, replace(FEW, **changes), tmp_path / "a", task=task)
        return caught.value.key

    opaque = OpaqueChip(model, 3)
    assert refused(model, opaque, backward="exact") == "backward"
    assert refused(model, opaque, angles=True) == "angles"
    assert refused(model, opaque, tune="correctors") == "tune"
    regression = Regression()
    assert refused(model, opaque, regression, backward="random_target") == "backward"
    tune_on_chip(model, SimulatedChip(model, 3), DATA, FEW, tmp_path / "a", task=Classification())
    model = analog()
    other = SimulatedChip(model, 4)
    assert refused(model, other) == "chip"
    assert refused(model, SimulatedChip(model, 3), lr=0.5) == "settings.lr"


def test_what_is_tuned_and_the_noise_of_software_belong_to_a_run(tmp_path: Path) -> None:
    """A driver of a real chip says nothing of itself, and the network's layers wait in software."""
    settings = replace(FEW, tune="progressive", epochs=1)

    def run(model: nn.Module) -> None:
        tune_on_chip(model, OpaqueChip(analog(), 3), DATA, settings, tmp_path)

    run(analog())
    run(analog())
    frozen = analog()
    frozen[0].bias.requires_grad_(False)
    for model, key in ((frozen, "trained"), (analog(sigma=0.6), "software")):
        with pytest.raises(CnetError) as caught:
            run(model)
        assert caught.value.key.partition(".")[0] == key


@pytest.mark.parametrize("changes", [{}, {"tune": "digital", "backward": "perturbation"}], ids=str)
def test_a_batch_in_which_no_target_counts_changes_nothing(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = analog(nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1)))
    settings = replace(FEW, batch_size=1, optimizer="sgd", lr=0.1, **changes)
    classes = torch.randint(3, (4, 6, 6))
    without = classes.clone()
    without[2] = 255
    none = torch.full_like(classes, 255)

    def tuned(name: str, targets: Tensor, **more: Any) -> tuple[bool, list[float]]:
        data, before = TrainingParts((X[:4], targets), (X[:4], classes)), snapshot(model)
        folder, chip = tmp_path / name, SimulatedChip(model, 3)
        asked = replace(settings, **more)
        tune_on_chip(model, chip, data, asked, folder, task=Segmentation())
        moved = any(not torch.equal(t, before[n]) for n, t in snapshot(model).items())
        return moved, [record["loss"] for record in read_records(folder / "epochs.jsonl")]

    moved, losses = tuned("some", without)
    assert moved and all(math.isfinite(loss) and loss > 0.0 for loss in losses)
    with pytest.raises(CnetError, match="none of the targets of the 4 samples counts"):
        tuned("none", none)
    assert tuned("unlabelled", none, target="clean")[0]


class Upsampled(nn.Module):
    """A transposed convolution whose stride leaves two sizes, of which the network asks for one."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(1, 3, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(3, 1, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(torch.relu(self.down(x)), output_size=x.shape[-2:]).flatten(1)


@pytest.mark.parametrize("tune", ["all", "progressive", "correctors"])
def test_a_transposed_convolution_gives_the_size_that_is_asked_for(
    tune: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    net = Upsampled()
    model, data = analog(net, 0.0), TrainingParts((X, X.flatten(1)), (X, X.flatten(1)))
    if tune == "correctors":
        compensate(model, Placement({"up": 1.0}), Affine())
    settings, chip = replace(FEW, tune=tune, lr=1e-9), SimulatedChip(model, 3)
    found = tune_on_chip(model, chip, data, settings, tmp_path, task=Regression())
    wanted = (net(X) - X.flatten(1)).square().mean().item()
    assert read_records(tmp_path / "epochs.jsonl")[-1]["loss"] == pytest.approx(wanted, rel=1e-4)
    assert score_on_chip(model, chip, data.val, task=Regression()) == pytest.approx(found.score)


def test_weights_that_diverged_are_not_written(tmp_path: Path) -> None:
    model = analog()
    chip = SimulatedChip(model, 3)
    with pytest.raises(CnetError) as caught:
        tune_on_chip(model, chip, DATA, replace(FEW, lr=1e38, optimizer="sgd"), tmp_path)
    assert caught.value.key == "tuning.lr"
    assert all(chip.weight(name).isfinite().all() for name in ("0", "4", "6"))


@pytest.mark.parametrize("backward", ["model", "feedback"])
def test_a_killed_run_with_noisy_readings_ends_the_same(backward: str, tmp_path: Path) -> None:
    """Whatever was drawn before the run, and before it was begun again."""
    noise = CompositeNoiseModel([LogNormalNoiseModel(0.4), ReadNoiseModel(0.05)])
    config = RRAMRPUConfig(noise_model=noise)
    config.forward.is_perfect, config.forward.out_noise = False, 0.1
    settings = replace(FEW, backward=backward, angles=True)

    def run(folder: str, seed: int, calls: int = 100_000) -> Any:
        model = convert_to_analog(plain(), config).eval()
        torch.manual_seed(seed)
        chip = Dying(SimulatedChip(model, 3, rewrite_sigma=0.2), calls)
        found = tune_on_chip(model, chip, DATA, settings, tmp_path / folder)
        return replace(found, seconds=0.0), snapshot(model)

    whole, weights = run("whole", 0)
    with pytest.raises(Killed):
        run("killed", 1, 45)
    assert (tmp_path / "killed" / "checkpoint.safetensors").exists()
    again, found = run("killed", 2)
    assert again == whole
    assert all(torch.equal(tensor, weights[name]) for name, tensor in found.items())


def test_files_of_a_finished_tuning_that_are_damaged_or_gone(tmp_path: Path) -> None:
    """Its course is kept in the checkpoint too; without that the weights are gone."""
    model = analog()
    found = tune_on_chip(model, SimulatedChip(model, 3), DATA, FEW, tmp_path)
    path = tmp_path / "epochs.jsonl"
    whole, text, number = read_records(path), path.read_bytes(), path.stat().st_ino
    again = analog()
    tune_on_chip(again, SimulatedChip(again, 3), DATA, FEW, tmp_path)
    assert path.stat().st_ino == number  # a folder that is whole may be read-only
    path.write_bytes(b"{}\n" + text[:30])
    again = analog()
    assert tune_on_chip(again, SimulatedChip(again, 3), DATA, FEW, tmp_path) == found
    assert read_records(path) == whole
    (tmp_path / "checkpoint.safetensors").unlink()
    with pytest.raises(CnetError) as error:
        again = analog()
        tune_on_chip(again, SimulatedChip(again, 3), DATA, FEW, tmp_path)
    assert error.value.key == str(tmp_path / "checkpoint.safetensors")
    assert str(tmp_path) in str(error.value.fix)


@pytest.mark.filterwarnings("ignore:pre_post.input_range")
@pytest.mark.parametrize("seen", [0, 5], ids=["learned", "not known yet"])
@pytest.mark.parametrize("tune", ["progressive", "all", "digital"])
def test_ranges_of_inputs_are_those_of_the_chip(tune: str, seen: int, tmp_path: Path) -> None:
    """A layer in software would have learned others, which its crossbar does not have."""
    config = RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.5))
    config.pre_post.input_range.enable = True
    config.pre_post.input_range.init_from_data = seen
    model = convert_to_analog(plain(), config).eval()
    before = snapshot(model)
    tune_on_chip(model, SimulatedChip(model, 3), DATA, replace(FEW, tune=tune), tmp_path)
    after = snapshot(model)
    ranges = [name for name in after if "input_range" in name]
    assert len(ranges) == 6
    assert all(torch.equal(after[name], before[name]) for name in ranges)
    assert config.pre_post.input_range.init_from_data == seen


@pytest.mark.parametrize("tune", ["progressive", "all", "digital"])
@pytest.mark.parametrize("backward", ["model", "exact", "feedback"])
def test_learned_scales_are_tuned_with_the_weights_that_are_written(
    tune: str, backward: str, tmp_path: Path
) -> None:
    """So what is on a chip without noise is what the network has, also after the tuning."""
    mapping = MappingParameter(
        weight_scaling_omega=1.0, learn_out_scaling=True, out_scaling_columnwise=True
    )
    config = RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.0), mapping=mapping)
    model = convert_to_analog(plain(), config).eval()
    before = snapshot(model)
    chip = SimulatedChip(model, 3)
    settings = replace(FEW, tune=tune, backward=backward)
    found = tune_on_chip(model, chip, DATA, settings, tmp_path)
    after = snapshot(model)
    tuned = [n for n in after if "alpha" in n and not torch.equal(after[n], before[n])]
    assert len(tuned) == {"progressive": 2, "all": 3, "digital": 0}[tune]
    for name in ("0", "4", "6"):
        nominal = nominal_weight(model[int(name)]).detach()
        torch.testing.assert_close(chip.weight(name), nominal, rtol=0.0, atol=1e-6)
    with torch.no_grad():
        accuracy = float((model(X[:20]).argmax(1) == Y[:20]).float().mean())
    assert found.score == pytest.approx(accuracy)


def test_charge_read_out_is_tuned_by_perturbations_alone(tmp_path: Path) -> None:
    """Other rules need the matrix product that such a layer does not compute."""
    config = RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.2), readout=Charge(test_steps=4))
    net = nn.Sequential(ClippedMLP((1, 6, 6), 3, (8,)), nn.BatchNorm1d(3))
    model = convert_to_analog(net, config).eval()
    chip = SimulatedChip(model, 3)
    digital = replace(FEW, tune="digital")
    blind = replace(digital, backward="perturbation")
    for settings, key in ((digital, "backward"), (replace(blind, angles=True), "angles")):
        with pytest.raises(CnetError) as error:
            tune_on_chip(model, chip, DATA, settings, tmp_path / key)
        assert (error.value.key, error.value.value) == (key, getattr(settings, key))
        assert not (tmp_path / key).exists()
    found = tune_on_chip(model, chip, DATA, blind, tmp_path / "blind")
    assert found.score == score_on_chip(model, chip, (X[:20], Y[:20]))
