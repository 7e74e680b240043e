"""The loop does what the settings say, against plain torch where there is an equal."""

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from aihwkit.simulator.parameters import (
    MappingParameter,
    WeightClipParameter,
    WeightRemapParameter,
)
from aihwkit.simulator.parameters.enums import WeightClipType, WeightRemapType
from torch import Tensor, nn

from cnet_aihw.evaluation import evaluate_chips, make_calibration, scan_layers, score
from cnet_aihw.rram import (
    GaussianAdditiveNoiseModel,
    LogNormalNoiseModel,
    PowerLawDriftNoiseModel,
    RRAMRPUConfig,
    VariationParameter,
    analog_layers,
    convert_to_analog,
    effective_weights,
    freeze_analog,
    is_programmed,
    nominal_weight,
    periphery,
    program,
    programmed,
    snapshot,
)
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.parts import TensorPart, as_part
from cnet_aihw.runtime.random_state import derive_seed
from cnet_aihw.runtime.records import read_records
from cnet_aihw.tasks import Classification, Regression
from cnet_aihw.training import (
    LipschitzPenalty,
    LipschitzSettings,
    TrainingParts,
    TrainingSettings,
    VariationSettings,
    learning_rate,
    lipschitz_lambda,
    load_checkpoint,
    train,
)
from cnet_aihw.training.lipschitz import following_batchnorms, spectral_norms

from .conftest import Data, analog_network, digital_network

PLAIN = TrainingSettings(epochs=3, batch_size=16, lr=0.05)
BOTH = replace(
    PLAIN,
    lipschitz=LipschitzSettings(enabled=True, beta=0.01),
    variation=VariationSettings(enabled=True),
)


def by_hand(
    model: nn.Module, data: Data, settings: TrainingSettings, lambda_: float | None = None
) -> list[dict[str, float]]:
    """The same training in a few lines of plain torch, for a network without randomness.

    Returns the means over the samples of each epoch.
    """
    means = []
    optimizer = torch.optim.SGD(
        model.parameters(), lr=1.0, momentum=settings.momentum, weight_decay=settings.weight_decay
    )
    model.train()
    for epoch in range(settings.epochs):
        seed = derive_seed(settings.seed, "order", epoch)
        order = torch.randperm(70, generator=torch.Generator().manual_seed(seed))
        sums: Counter[str] = Counter()
        for step, chosen in enumerate(order.split(16)):
            x, y = data.train.x[chosen], data.train.y[chosen]
            logits = model(x)
            loss = F.cross_entropy(logits, y, label_smoothing=settings.label_smoothing)
            sums["fit"] += len(y) * loss.item()
            sums["train_score"] += int((logits.argmax(1) == y).sum())
            if lambda_ is not None:
                for module in model:
                    if isinstance(module, nn.Conv2d | nn.Linear):
                        weight = module.weight.flatten(1)
                        gram = weight @ weight.T - lambda_**2 * torch.eye(len(weight))
                        loss = loss + settings.lipschitz.beta * gram.square().sum()
            optimizer.param_groups[0]["lr"] = learning_rate(settings, epoch * 5 + step, 5)
            optimizer.zero_grad()
            loss.backward()
            if settings.grad_clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), settings.grad_clip)
            optimizer.step()
            sums["loss"] += len(y) * loss.item()
        means.append({name: total / 70 for name, total in sums.items()})
    return means


SMOOTHED = {"label_smoothing": 0.1, "grad_clip": 0.5, "schedule": "onecycle"}


@pytest.mark.parametrize(
    ("analog", "changes", "penalty"),
    [
        (False, {}, False),
        (True, {}, False),
        (False, SMOOTHED, False),
        (True, SMOOTHED, False),
        (True, {}, True),
    ],
)
def test_training_is_plain_torch_training(
    data: Data, tmp_path: Path, analog: bool, changes: dict, penalty: bool
) -> None:
    settings = replace(PLAIN, select="last", **changes)
    lambda_ = None
    if penalty:
        settings.lipschitz = LipschitzSettings(enabled=True, beta=0.1)
        lambda_ = lipschitz_lambda(LogNormalNoiseModel(0.5))
    reference = digital_network()
    reference[3] = nn.Identity()  # dropout draws from a generator of its own
    means = by_hand(reference, data, settings, lambda_)
    model = analog_network() if analog else digital_network()
    model[3] = nn.Identity()
    result = train(model, data, settings, tmp_path)
    assert (result.epochs, result.best_epoch, result.lambda_) == (3, 2, lambda_)
    tensors = snapshot(model)
    for name, expected in reference.state_dict().items():
        torch.testing.assert_close(tensors[name].view_as(expected), expected, atol=1e-5, rtol=1e-4)
    for record, of in zip(read_records(tmp_path / "epochs.jsonl"), means, strict=True):
        assert {name: record[name] for name in of} == pytest.approx(dict(of), rel=1e-4)


def test_epoch_records_are_what_was_measured(data: Data, tmp_path: Path) -> None:
    model = analog_network()
    result = train(model, data, replace(BOTH, epochs=2, validate_every=3, select="last"), tmp_path)
    first, last = read_records(tmp_path / "epochs.jsonl")
    assert [first["epoch"], last["epoch"]] == [0, 1]
    assert first["chip_score"] is None and first["chip_std"] is None
    for record in (first, last):
        assert record["loss"] == pytest.approx(record["fit"] + 0.01 * record["penalty"])
        assert 0 <= record["train_score"] <= 1 and record["seconds"] > 0
    assert last["lr"] == learning_rate(replace(BOTH, epochs=2), 9, 5)
    chips = evaluate_chips(model, data.val, chips=5, seed=derive_seed(0, "validation"))
    assert (last["chip_score"], last["chip_std"]) == (chips.mean, chips.std)
    assert last["clean_score"] == chips.clean == score(model, data.val)
    assert (result.chip_score, result.clean_score) == (chips.mean, chips.clean)
    assert result.seconds == pytest.approx(first["seconds"] + last["seconds"])
    assert not model.training


def test_tensorboard_shows_all_curves_once(data: Data, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(analog_network(), data, BOTH, tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    records = read_records(tmp_path / "epochs.jsonl")
    for tag, name in {
        "loss/total": "loss",
        "loss/cross_entropy": "fit",
        "loss/penalty": "penalty",
        "accuracy/clean": "clean_score",
        "accuracy/chips": "chip_score",
        "lr": "lr",
    }.items():
        curve = events.Scalars(tag)
        assert [point.step for point in curve] == [0, 1, 2]
        expected = [record[name] for record in records]
        assert [point.value for point in curve] == pytest.approx(expected, rel=1e-6)
    lambda_ = lipschitz_lambda(LogNormalNoiseModel(0.5))
    assert events.Scalars("spectral_norm/lambda")[0].value == pytest.approx(lambda_)
    for name in ("0", "5"):
        curve = [point.value for point in events.Scalars(f"spectral_norm/{name}")]
        assert curve == pytest.approx([r["spectral_norms"][name] for r in records], rel=1e-6)


@pytest.mark.parametrize("select", ["chips", "clean", "last"])
def test_the_selected_epoch_is_in_the_model(data: Data, tmp_path: Path, select: str) -> None:
    settings = replace(PLAIN, epochs=6, lr=0.4, select=select, schedule="constant")
    model = analog_network()
    result = train(model, data, settings, tmp_path)
    records = read_records(tmp_path / "epochs.jsonl")
    key = "clean_score" if select == "clean" else "chip_score"
    values = [record[key] for record in records]
    expected = 5 if select == "last" else values.index(max(values))
    assert result.best_epoch == expected
    assert score(model, data.val) == records[expected]["clean_score"]
    stored = load_checkpoint(tmp_path / "best.safetensors").model
    assert all(torch.equal(stored[name], tensor) for name, tensor in snapshot(model).items())


def test_patience_stops_a_run_that_gets_no_better(data: Data, tmp_path: Path) -> None:
    settings = replace(PLAIN, epochs=50, lr=1e-9, patience=2)  # nothing moves but BatchNorm
    settings.freeze_batchnorm = True
    result = train(analog_network(), data, settings, tmp_path / "a")
    assert (result.epochs, result.best_epoch, result.stopped_early) == (3, 0, True)
    settings.validate_every = 3  # patience is only lost where chips were measured
    result = train(analog_network(), data, settings, tmp_path / "b")
    assert (result.epochs, result.best_epoch, result.stopped_early) == (6, 2, True)


@pytest.mark.parametrize("select", ["chips", "clean", "last"])
def test_without_epochs_the_weights_are_measured_as_they_are(
    data: Data, tmp_path: Path, select: str
) -> None:
    model = analog_network()
    before = snapshot(model)
    result = train(model, data, replace(PLAIN, epochs=0, select=select), tmp_path)
    assert (result.epochs, result.best_epoch) == (0, -1)
    assert result.clean_score == score(model, data.val)
    chips = evaluate_chips(model, data.val, chips=5, seed=derive_seed(0, "validation"))
    assert result.chip_score == chips.mean
    stored = load_checkpoint(tmp_path / "best.safetensors").model
    for name, tensor in before.items():
        assert torch.equal(tensor, stored[name]) and torch.equal(tensor, snapshot(model)[name])
    again = train(analog_network(), data, replace(PLAIN, epochs=0, select=select), tmp_path)
    assert again == result


def test_a_penalty_at_every_second_step_counts_twice(data: Data, tmp_path: Path) -> None:
    model = analog_network()
    settings = replace(PLAIN, epochs=1, lr=1e-12)  # five steps, weights as they were
    settings.lipschitz = LipschitzSettings(enabled=True, beta=0.1, every=2)
    train(model, data, settings, tmp_path)
    exact = LipschitzPenalty(model, lipschitz_lambda(LogNormalNoiseModel(0.5)))().item()
    (record,) = read_records(tmp_path / "epochs.jsonl")
    counted = [2, 0, 2, 0, 2]  # of 16, 16, 16, 16 and 6 samples
    mean = sum(n * samples for n, samples in zip(counted, (16, 16, 16, 16, 6), strict=True)) / 70
    assert record["penalty"] == pytest.approx(mean * exact, rel=1e-4)


def test_the_penalty_pulls_singular_values_down(data: Data, tmp_path: Path) -> None:
    settings = replace(BOTH, epochs=8, lr=0.02, select="last")
    settings.variation = VariationSettings()
    distances = []
    for beta in (0.0, 1.0):
        settings.lipschitz = LipschitzSettings(enabled=True, beta=beta, exclude=["0"])
        model = analog_network()
        train(model, data, settings, tmp_path / str(beta))
        layer = nominal_weight(analog_layers(model)["5"])
        values = torch.linalg.svdvals(layer.detach())
        distance = (values - lipschitz_lambda(LogNormalNoiseModel(0.5))).abs().max().item()
        distances.append(distance)
    assert distances[1] < distances[0] / 3


def test_validation_chips_are_as_old_as_those_of_the_training(data: Data, tmp_path: Path) -> None:
    drift, old = PowerLawDriftNoiseModel(0.3, 0.3), VariationParameter(t_inference=1e4)
    model = analog_network(noise_model=drift, variation=old)
    result = train(model, data, replace(PLAIN, epochs=0), tmp_path)
    chips = evaluate_chips(
        model, data.val, chips=5, seed=derive_seed(0, "validation"), t_inference=1e4
    )
    assert result.chip_score == chips.mean != result.clean_score


def test_recorded_norms_have_the_gain_that_the_penalty_counts(data: Data, tmp_path: Path) -> None:
    model, settings = analog_network(), replace(PLAIN, epochs=1)
    settings.lipschitz = LipschitzSettings(enabled=True, fold_batchnorm=True)
    train(model, data, settings, tmp_path)
    (record,) = read_records(tmp_path / "epochs.jsonl")
    folded = spectral_norms(model, following_batchnorms(model, data.train.x[:2]))
    assert record["spectral_norms"] == pytest.approx(folded)
    assert folded["0"] != pytest.approx(spectral_norms(model)["0"])


def test_lambda_is_in_proportion_to_k_and_that_of_the_chips_time(
    data: Data, tmp_path: Path
) -> None:
    def lambda_of(name: str, k: float, **config: Any) -> float | None:
        settings = replace(PLAIN, epochs=0, lipschitz=LipschitzSettings(enabled=True, k=k))
        return train(analog_network(**config), data, settings, tmp_path / name).lambda_

    half = 0.5 * lipschitz_lambda(LogNormalNoiseModel(0.5))
    assert lambda_of("half", 0.5) == pytest.approx(half)
    drift = PowerLawDriftNoiseModel(nu=0.1, nu_std=0.0)  # all weights alike, 1e4 ** -0.1 then
    late = lambda_of("late", 1.0, noise_model=drift, variation=VariationParameter(t_inference=1e4))
    assert late == pytest.approx(1e4**0.1, rel=1e-3)


@pytest.mark.parametrize("columnwise", [False, True])
def test_lambda_belongs_to_the_weights_of_the_network_and_not_to_their_mapping(
    data: Data, tmp_path: Path, columnwise: bool
) -> None:
    """Mean and spread of the weights over chips, by hand, where tiles and columns are scaled."""
    noise = GaussianAdditiveNoiseModel(0.1)
    scaled = MappingParameter(weight_scaling_omega=1.0, weight_scaling_columnwise=columnwise)
    network = digital_network()
    network[0].weight.data *= 20.0  # layers of different sizes
    network[5].weight.data[0] *= 5.0  # and columns
    model = convert_to_analog(network, RRAMRPUConfig(noise_model=noise, mapping=scaled))
    settings = replace(PLAIN, epochs=0, lipschitz=LipschitzSettings(enabled=True))
    found = train(model, data, settings, tmp_path).lambda_
    cross = square = noisy = 0.0
    nominal = effective_weights(model)
    for seed in range(100):
        with programmed(model, seed):
            for name, chip in effective_weights(model).items():
                cross += float((chip * nominal[name]).sum())
                square += float(nominal[name].square().sum())
                noisy += float(chip.square().sum())
    mean = cross / square
    assert found == pytest.approx(1 / (mean + 3 * math.sqrt(noisy / square - mean**2)), rel=0.05)


def test_only_what_requires_a_gradient_is_trained(data: Data, tmp_path: Path) -> None:
    model = analog_network()
    freeze_analog(model)
    before = snapshot(model)
    settings = replace(PLAIN, freeze_batchnorm=True, select="last")
    settings.variation = VariationSettings(enabled=True)
    train(model, data, settings, tmp_path)
    after = snapshot(model)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"1.weight", "1.bias"}


def test_augmentation_sees_each_batch_with_its_own_seed(tmp_path: Path) -> None:
    draws = []

    def augment(x: Tensor, generator: torch.Generator) -> Tensor:
        draws.append(torch.rand(1, generator=generator).item())
        return x + 0.1

    train(analog_network(), Data(augment=augment), replace(PLAIN, epochs=2), tmp_path)
    assert len(set(draws)) == len(draws) == 10
    seed = derive_seed(0, "augment", 1, 3)
    assert draws[8] == torch.rand(1, generator=torch.Generator().manual_seed(seed)).item()


def test_bf16_trains(data: Data, tmp_path: Path) -> None:
    model = analog_network()
    result = train(model, data, replace(BOTH, epochs=6, bf16=True), tmp_path)
    assert result.clean_score > 0.8
    assert all(t.dtype in (torch.float32, torch.int64) for t in snapshot(model).values())


@pytest.mark.parametrize("there", [False, True])
def test_slow_bf16_is_said_to_be(
    data: Data,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    recwarn: pytest.WarningsRecorder,
    there: bool,
) -> None:
    monkeypatch.setattr("cnet_aihw.training.loop.has_bf16", lambda _: there)
    for bf16 in (False, True):
        train(analog_network(), data, replace(PLAIN, epochs=1, bf16=bf16), tmp_path / str(bf16))
    said = [str(w.message) for w in recwarn if "no instructions for bfloat16" in str(w.message)]
    assert len(said) == (0 if there else 1)


def test_channels_last_reaches_the_network_and_changes_rounding_alone(
    data: Data, tmp_path: Path
) -> None:
    weights = []
    for wanted in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
        layouts: list[bool] = []

        def look(module: nn.Module, inputs: tuple[Tensor], seen: list[bool] = layouts) -> None:
            if torch.is_grad_enabled():  # a step; validation always has its channels last
                seen.append(inputs[0].stride(1) == 1)

        model[0].register_forward_pre_hook(look)
        settings = replace(PLAIN, channels_last=wanted)
        train(model, data, settings, tmp_path / str(wanted), device="cpu", progress=False)
        assert set(layouts) == {wanted}
        weights.append(model[0].weight.detach())
    torch.testing.assert_close(*weights, rtol=1e-3, atol=1e-4)


def test_a_last_batch_of_one_sample_is_skipped(data: Data, tmp_path: Path) -> None:
    sizes = []

    def objective(logits: Tensor, y: Tensor, x: Tensor) -> Tensor:
        sizes.append(len(x))
        return F.cross_entropy(logits, y)

    settings = replace(PLAIN, epochs=1, batch_size=23)
    train(analog_network(), data, settings, tmp_path, objective=objective)
    assert sizes == [23, 23, 23]
    (record,) = read_records(tmp_path / "epochs.jsonl")
    assert record["loss_name"] == "objective" and record["fit"] == record["loss"]


def test_a_digital_network_trains_and_has_no_chips(data: Data, tmp_path: Path) -> None:
    result = train(digital_network(), data, replace(PLAIN, epochs=5), tmp_path)
    assert result.chip_score is None and result.clean_score > 0.8
    records = read_records(tmp_path / "epochs.jsonl")
    values = [record["clean_score"] for record in records]
    assert result.best_epoch == values.index(max(values))
    assert json.loads((tmp_path / "result.json").read_text())["clean_score"] == max(values)


@pytest.mark.parametrize("name", ["batchnorm", "affine"])
def test_validation_is_calibrated_as_the_network_is_going_to_be_used(
    data: Data, tmp_path: Path, name: str
) -> None:
    """Epochs are selected by what evaluate_chips gives with the same calibration."""
    calibration = make_calibration(name, as_part(data.train), samples=32)
    settings = replace(PLAIN, epochs=2, select="last")
    model = analog_network()
    result = train(model, data, settings, tmp_path / "with", calibration=calibration)
    seed = derive_seed(0, "validation")
    chips = evaluate_chips(model, data.val, chips=5, seed=seed, calibration=calibration)
    assert (result.chip_score, result.chip_std) == (chips.mean, chips.std)
    plain = analog_network()
    without = train(plain, data, settings, tmp_path / "without")
    assert all(torch.equal(t, snapshot(plain)[name]) for name, t in snapshot(model).items())
    assert without.chip_score != result.chip_score
    assert without.clean_score == result.clean_score


def test_epochs_whose_chips_all_fail_are_not_compared(data: Data, tmp_path: Path) -> None:
    model = analog_network(noise_model=LogNormalNoiseModel(500.0))
    result = train(model, data, PLAIN, tmp_path)
    records = read_records(tmp_path / "epochs.jsonl")
    assert [record["chip_score"] for record in records] == [None] * 3
    assert (result.best_epoch, result.chip_score) == (2, None)
    assert result.clean_score == records[2]["clean_score"] == score(model, data.val)


def test_label_smoothing_is_a_setting_of_the_training_or_of_the_task(
    data: Data, tmp_path: Path
) -> None:
    settings, weights = replace(PLAIN, epochs=1, label_smoothing=0.1), []
    for name, task, given in (
        ("a", None, settings),
        ("b", Classification(), settings),
        ("c", Classification(0.1), replace(settings, label_smoothing=0.0)),
    ):
        model = analog_network()
        train(model, data, given, tmp_path / name, task=task)
        weights.append(snapshot(model))
    for other in weights[1:]:
        assert all(torch.equal(weights[0][name], t) for name, t in other.items())
    for task in (Classification(0.2), Regression()):
        with pytest.raises(CnetError) as error:
            train(analog_network(), data, settings, tmp_path / "d", task=task)
        assert error.value.key == "training.label_smoothing"


def test_a_chip_is_forgotten_and_not_trained(data: Data, tmp_path: Path) -> None:
    settings = replace(PLAIN, epochs=1)
    model, other = analog_network(), analog_network()
    program(other, 3)
    train(model, data, settings, tmp_path / "a")
    train(other, data, settings, tmp_path / "b")
    assert not is_programmed(other)
    assert all(torch.equal(t, snapshot(other)[name]) for name, t in snapshot(model).items())


def test_networks_with_several_inputs_are_trained(tmp_path: Path) -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 3)

        def forward(self, first: Tensor, second: Tensor) -> Tensor:
            return self.c(F.relu(self.a(first) + self.b(second)))

    x = torch.randn(60, 6, generator=torch.Generator().manual_seed(0))
    y = x[:, :3].argmax(1)
    results = []
    for name, inputs in (("tuple", (x, -x)), ("mapping", {"first": x, "second": -x})):
        torch.manual_seed(0)
        model = convert_to_analog(Sum(), RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.2)))
        data = TrainingParts(TensorPart(inputs, y), TensorPart(inputs, y))
        calibration = make_calibration("affine", data.train)
        result = train(
            model, data, replace(BOTH, epochs=5), tmp_path / name, calibration=calibration
        )
        scan = scan_layers(model, data.val, chips=2)
        results.append((result.clean_score, result.chip_score, scan))
    assert results[0] == results[1] and results[0][0] > 0.6


def test_the_model_comes_back_where_it_was(data: Data, tmp_path: Path) -> None:
    """The run's device is the model's for the run alone."""
    moves: list[str] = []

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = analog_network()

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x)

        def to(self, device: torch.device) -> "Watched":  # type: ignore[override]
            moves.append(str(device))
            return self

    model = Watched()
    with mock.patch("cnet_aihw.runtime.torch_device.device_of", lambda model: torch.device("meta")):
        train(model, data, replace(PLAIN, epochs=1), tmp_path, device="cpu")
    assert (moves[0], moves[-1]) == ("cpu", "meta")


def test_epochs_between_measurements_on_chips_change_nothing_else(
    data: Data, tmp_path: Path
) -> None:
    """Behind a noisy periphery too: clean scores, and all that training draws."""
    records, weights = [], []
    for every in (1, 2):
        model = analog_network(forward=periphery(out_noise=0.1))
        settings = replace(BOTH, epochs=2, validate_every=every, select="last")
        train(model, data, settings, tmp_path / str(every), progress=False)
        records.append(read_records(tmp_path / str(every) / "epochs.jsonl"))
        weights.append(snapshot(model))
    assert [r["clean_score"] for r in records[0]] == [r["clean_score"] for r in records[1]]
    assert records[1][0]["chip_score"] is None and records[0][0]["chip_score"] is not None
    for name, weight in weights[0].items():
        assert torch.equal(weight, weights[1][name]), name


def test_a_clean_score_that_is_no_number_ends_a_training(tmp_path: Path) -> None:
    """In words, and before it would be written; here R2 of targets that are all the same."""
    x, y = torch.randn(20, 4), torch.randn(20, 1)
    data = TrainingParts((x, y), (x, torch.ones(20, 1)))
    with pytest.raises(CnetError) as error:
        train(nn.Linear(4, 1), data, PLAIN, tmp_path, task=Regression(metric="R2"))
    assert error.value.key == "score"


def test_clipping_and_remapping_of_the_configuration_follow_each_step(
    data: Data, tmp_path: Path
) -> None:
    """As aihwkit's own optimizers have it; a folder of a run without it is another run's."""
    settings = replace(PLAIN, lr=0.2, select="last")
    clip = WeightClipParameter(type=WeightClipType.FIXED_VALUE, fixed_value=0.05)
    remap = WeightRemapParameter(type=WeightRemapType.CHANNELWISE_SYMMETRIC)
    columns = MappingParameter(weight_scaling_omega=1.0, weight_scaling_columnwise=True)
    free, clipped = analog_network(mapping=columns), analog_network(clip=clip)
    remapped = analog_network(mapping=columns, remap=remap)
    networks = {"free": free, "clipped": clipped, "remapped": remapped}
    for name, model in networks.items():
        train(model, data, settings, tmp_path / name, progress=False)
    largest = {
        name: [nominal_weight(a).abs().amax(1) for a in analog_layers(model).values()]
        for name, model in networks.items()
    }
    assert min(rows.max().item() for rows in largest["free"]) > 0.1
    assert [rows.max().item() for rows in largest["clipped"]] == pytest.approx([0.05, 0.05])
    for layer, rows in zip(analog_layers(remapped).values(), largest["remapped"], strict=True):
        (tile,) = layer.analog_tiles()
        torch.testing.assert_close(tile.mapping_scales, rows)
    with pytest.raises(CnetError, match="injected"):
        train(analog_network(), data, settings, tmp_path / "clipped", progress=False)
