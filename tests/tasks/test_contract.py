"""One contract for all tasks, ours and a stranger's: values, then the package's work with them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from cnet_aihw.compensation import LowRank, PerChipFit, Placement, WithCompensation
from cnet_aihw.evaluation import candidate_layers, evaluate_chips, measure, scan_layers
from cnet_aihw.rram import (
    LogNormalNoiseModel,
    RRAMRPUConfig,
    convert_to_analog,
    programmed,
    snapshot,
)
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.parts import TensorPart
from cnet_aihw.runtime.random_state import derive_seed
from cnet_aihw.runtime.records import read_records
from cnet_aihw.tasks import (
    Classification,
    LanguageModelling,
    MultiLabel,
    Regression,
    Segmentation,
    describe_task,
)
from cnet_aihw.training import TrainingParts, TrainingSettings, VariationSettings, train
from cnet_aihw.training.step import backward

from .own import MultiLabel as Own


def vectors(count: int, seed: int, *shape: int) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


class Steps(nn.Module):
    """The same layers at every step of a sequence, [N, T, 4] -> [N, T, 2]."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.first(x)))


class One(nn.Module):
    """One number for each sample, [N, 4] -> [N]."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.first(x)))[:, 0]


class Pixels(nn.Module):
    """A class for each pixel, [N, 4, H, W] -> [N, 2, H, W]."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(4, 8, 1), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.first(x)))


def dense(outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, outputs))


def linear_targets(x: Tensor, outputs: int) -> Tensor:
    return x @ vectors(4, 9, outputs)


CASES: dict[str, tuple[Any, Callable[[], nn.Module], tuple[int, ...], Callable]] = {
    "classification": (
        Classification(), lambda: dense(3), (4,), lambda x: linear_targets(x, 3).argmax(1)
    ),
    "regression of one number": (
        Regression("kWh"), One, (4,), lambda x: linear_targets(x, 1)[:, 0]
    ),
    "regression of two numbers": (
        Regression(), lambda: dense(2), (4,), lambda x: linear_targets(x, 2)
    ),
    "regression of sequences": (Regression(), Steps, (5, 4), lambda x: linear_targets(x, 2)),
    "mean absolute error": (
        Regression(metric="MAE"), lambda: dense(2), (4,), lambda x: linear_targets(x, 2)
    ),
    "determination": (
        Regression(metric="R2"), lambda: dense(2), (4,), lambda x: linear_targets(x, 2)
    ),
    "tokens": (
        LanguageModelling(), Steps, (5, 4), lambda x: (linear_targets(x, 1)[..., 0] > 0).long()
    ),
    "pixels": (Segmentation(), Pixels, (4, 6, 6), lambda x: (x.sum(1) > 0).long()),
    "pixels, Dice": (Segmentation("Dice"), Pixels, (4, 6, 6), lambda x: (x.sum(1) > 0).long()),
    "several labels": (
        MultiLabel(), lambda: dense(3), (4,), lambda x: (linear_targets(x, 3) > 0).float()
    ),
    "several labels, F1": (
        MultiLabel("F1"), lambda: dense(3), (4,), lambda x: (linear_targets(x, 3) > 0).long()
    ),
    "a stranger's": (
        Own(), lambda: dense(3), (4,), lambda x: (linear_targets(x, 3) > 0).float()
    ),
}  # fmt: skip
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def made(case: tuple, samples: int, seed: int) -> tuple[Tensor, Tensor]:
    x = vectors(samples, seed, *case[2])
    return x, case[3](x)


def network(case: tuple) -> nn.Module:
    torch.manual_seed(0)
    return convert_to_analog(case[1](), RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.3)))


@each_case
def test_a_task_describes_itself_in_plain_values(case: tuple) -> None:
    task = case[0]
    described = describe_task(task)
    assert json.loads(json.dumps(described)) == described
    assert described["task"].endswith(type(task).__name__)
    assert all(isinstance(getattr(task, n), str) for n in ("name", "metric", "loss_name"))


class Weighted(Classification):
    """A task with a function and an object among its settings."""

    def __init__(self, power: float) -> None:
        super().__init__()
        self.weight = partial(math.pow, power)
        self.holder = [Holder(power)]


class Holder:
    def __init__(self, power: float) -> None:
        self.power = power


def test_settings_that_are_objects_are_described_by_theirs() -> None:
    """And not by where they lie in memory, which is another place in each process."""
    described = describe_task(Weighted(2.0))
    assert described == describe_task(Weighted(2.0))
    other = describe_task(Weighted(3.0))
    assert described["weight"] != other["weight"] and described["holder"] != other["holder"]
    assert "0x" not in str(described)


@each_case
def test_loss_and_metric_over_batches_are_those_of_one_batch(case: tuple) -> None:
    torch.manual_seed(0)
    task, model = case[0], case[1]()
    x, y = made(case, 30, 1)
    outputs = model(x)
    task.check(outputs, y)
    loss = task.loss(outputs, y)
    assert loss.dim() == 0
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())
    whole, parts = task.new_metric(), task.new_metric()
    with torch.no_grad():
        whole.update(outputs, y)
        for some, targets in zip(outputs.split(7), y.split(7), strict=True):
            parts.update(some, targets)
    assert float(parts.compute()) == pytest.approx(float(whole.compute()), rel=1e-6)
    measured = measure(model, (x, y), batch_size=7, task=task)
    assert measured == pytest.approx((loss.item(), float(whole.compute())), rel=1e-5)
    assert isinstance(task.format(measured[1]), str)


@each_case
def test_recovery_is_one_where_all_is_kept_and_less_where_it_is_worse(case: tuple) -> None:
    task = case[0]
    assert task.recovery(0.5, 0.5) == 1.0
    worse = 0.4 if task.higher_is_better else 0.6
    kept = task.recovery(worse, 0.5)
    assert kept is not None and 0.0 < kept < 1.0
    assert task.recovery(0.5, 0.0) is None


@each_case
def test_targets_that_do_not_fit_are_an_error(case: tuple) -> None:
    x, _ = made(case, 10, 1)
    with pytest.raises(CnetError) as error:
        evaluate_chips(network(case), (x, torch.zeros(10, 7, 7)), task=case[0], chips=1)
    assert error.value.key == "targets"


@each_case
def test_chips_are_measured_scanned_and_trained_for(case: tuple, tmp_path: Path) -> None:
    task, model = case[0], network(case)
    data = TrainingParts(made(case, 150, 1), made(case, 40, 2))
    before = evaluate_chips(model, data.val, task=task, chips=2)
    settings = TrainingSettings(
        epochs=8, batch_size=16, optimizer="adam", lr=0.02, validation_chips=2,
        variation=VariationSettings(enabled=True),
    )  # fmt: skip
    result = train(model, data, settings, tmp_path / "run", task=task, progress=False)
    sign = 1 if task.higher_is_better else -1
    assert before.clean is not None
    assert sign * (result.clean_score - before.clean) > 0
    epochs = read_records(tmp_path / "run" / "epochs.jsonl")
    assert {r["loss_name"] for r in epochs} == {task.loss_name}
    assert {r["metric"] for r in epochs} == {task.metric} == {result.metric}
    chosen = max(epochs, key=lambda r: (sign * r["chip_score"], -r["epoch"]))
    assert (chosen["epoch"], chosen["chip_score"]) == (result.best_epoch, result.chip_score)

    path = tmp_path / "chips.jsonl"
    chips = evaluate_chips(model, data.val, task=task, chips=4, reference=result.clean_score,
                           records=path)  # fmt: skip
    assert chips.clean == result.clean_score
    assert (chips.metric, chips.higher_is_better) == (task.metric, task.higher_is_better)
    assert chips.recovery == task.recovery(chips.mean, result.clean_score)
    assert [r["score"] for r in read_records(path)] == list(chips.scores)
    scan = scan_layers(model, data.val, task=task, chips=4)
    assert scan.rows[0].scores == chips.scores
    assert set(candidate_layers(scan, 1.0)) <= {row.name for row in scan.rows}
    other = Regression("m") if isinstance(task, Classification) else Classification()
    with pytest.raises(CnetError):
        evaluate_chips(model, data.val, task=other, chips=4, records=path)


@pytest.mark.parametrize(
    "settings",
    [{}, {"weighting": "loss"}, {"target": "mean_over_chips"}, {"refine_steps": 20}],
    ids=lambda given: "".join(given) or "closed form",
)
@each_case
def test_correctors_bring_each_task_back_on_each_chip(case: tuple, settings: dict) -> None:
    """Full size, so that what is wrong with a chip of two layers can be corrected."""
    task = case[0]
    x, _ = made(case, 200, 1)
    model = network(case).eval()
    fit = PerChipFit(x, task=task, **settings)
    calibration = WithCompensation(Placement({"0": 1.0, "2": 1.0}), LowRank(), fit)
    if not isinstance(model, nn.Sequential):
        calibration = WithCompensation(Placement({"first": 1.0, "last": 1.0}), LowRank(), fit)
    with torch.no_grad():
        wanted = model(x)
        with programmed(model, 3):
            before = (model(x) - wanted).square().mean()
            with calibration(model):
                after = (model(x) - wanted).square().mean()
    assert after < 0.5 * before


@each_case
def test_loaders_train_to_the_same_weights_as_tensors(case: tuple, tmp_path: Path) -> None:
    """Bit for bit: the order of samples belongs to the seed, whatever holds them."""
    train_data, val = made(case, 50, 1), made(case, 20, 2)
    settings = TrainingSettings(epochs=2, batch_size=16, lr=0.01, validation_chips=2)
    results, weights = [], []
    for name in ("tensors", "loaders"):
        model = network(case)
        parts = [train_data, val]
        if name == "loaders":
            parts = [DataLoader(TensorDataset(*part), batch_size=7, shuffle=True) for part in parts]
        result = train(
            model, TrainingParts(*parts), settings, tmp_path / name, task=case[0], progress=False
        )
        results.append(replace(result, folder=tmp_path, seconds=0.0))
        weights.append(snapshot(model))
    assert results[0] == results[1]
    assert all(torch.equal(weights[0][name], tensor) for name, tensor in weights[1].items())


def test_classification_in_closed_form() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
    labels = torch.tensor([0, 1, 1])
    metric = Classification().new_metric()
    assert math.isnan(metric.compute())
    metric.update(logits, labels)
    assert float(metric.compute()) == 2 / 3
    expected = sum(math.log1p(math.exp(d)) for d in (-2.0, -1.0, 3.0)) / 3
    assert Classification().loss(logits, labels).item() == pytest.approx(expected, rel=1e-6)
    assert Classification().format(0.9342) == "93.42 %"
    with pytest.raises(CnetError) as error:
        Classification(1.0)
    assert error.value.key == "label_smoothing"


def test_regression_in_closed_form() -> None:
    outputs, targets = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1.0, 4.0, 3.0, 0.0])
    metric = Regression().new_metric()
    assert math.isnan(metric.compute())
    metric.update(outputs, targets)
    assert float(metric.compute()) == math.sqrt(20 / 4)
    assert Regression().loss(outputs, targets).item() == 5.0
    assert Regression("kWh").format(0.12345) == "0.1235 kWh"
    assert Regression().recovery(0.4, 0.2) == 0.5
    assert Regression().recovery(0.0, 0.2) is None


@pytest.mark.parametrize(
    ("outputs", "targets", "key"),
    [
        (torch.zeros(3, 2), torch.zeros(3), "targets"),
        (torch.zeros(3, 2), torch.zeros(3, 2, dtype=torch.int64), "targets"),
        (torch.zeros(3, 2, 2, 2), torch.zeros(3, 2, 2, 2), "outputs"),
        ((torch.zeros(3),), torch.zeros(3), "outputs"),
    ],
)
def test_what_regression_cannot_take(outputs: Any, targets: Tensor, key: str) -> None:
    with pytest.raises(CnetError) as error:
        Regression().check(outputs, targets)
    assert error.value.key == key


@pytest.mark.parametrize(("outputs", "targets"), [((5, 1), (5,)), ((5,), (5, 1))])
def test_one_number_in_another_shape_is_refused_with_what_mends_it(
    outputs: tuple[int, ...], targets: tuple[int, ...]
) -> None:
    made, y = torch.zeros(outputs), torch.zeros(targets)
    with pytest.raises(CnetError) as error:
        Regression().check(made, y)
    said = str(error.value.fix).removeprefix("give targets")
    assert eval(f"y{said}.shape", {"y": y}) == made.shape


def test_other_scores_of_regression_in_closed_form() -> None:
    outputs, targets = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1.0, 4.0, 3.0, 0.0])
    for metric, wanted in (("MAE", 6 / 4), ("R2", 1 - 20 / 10)):
        found = Regression(metric=metric).new_metric()
        for part in (slice(0, 3), slice(3, 4)):
            found.update(outputs[part], targets[part])
        assert float(found.compute()) == pytest.approx(wanted, rel=1e-12)
    r2 = Regression(metric="R2")
    assert (r2.higher_is_better, r2.recovery(0.4, 0.8), r2.format(0.81234)) == (True, 0.5, "0.8123")


def test_language_modelling_in_closed_form() -> None:
    task = LanguageModelling(ignored=-1)
    logits = torch.zeros(1, 3, 4)
    logits[0, 1, 2] = math.log(5.0)  # probability 5 / 8
    targets = torch.tensor([[0, 2, -1]])
    mean = (math.log(4.0) + math.log(8 / 5)) / 2
    assert task.loss(logits, targets).item() == pytest.approx(mean, rel=1e-6)
    metric = task.new_metric()
    metric.update(logits, targets)
    assert float(metric.compute()) == pytest.approx(math.exp(mean), rel=1e-6)
    assert task.recovery(5.0, 4.0) == 0.8
    assert task.constant_loss(torch.tensor([[0, 0, 1, 1], [-1, -1, -1, -1]])) == math.log(2.0)
    uniform = torch.zeros(1, 3, 4)
    expected = (5 / 8 * math.log(5 / 8 * 4) + 3 / 8 * math.log(1 / 8 * 4)) / 3
    assert task.divergence(uniform, logits, 1.0).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("task", "shape", "classes"),
    [
        (Classification(), (3,), 1),
        (Segmentation(), (3, 4, 6), 1),
        (LanguageModelling(), (4, 3), 2),
    ],
)
def test_the_divergence_is_a_mean_over_what_is_classified_times_temperature_squared(
    task: Any, shape: tuple[int, ...], classes: int
) -> None:
    outputs, wanted = vectors(5, 0, *shape), vectors(5, 1, *shape)
    q, p = (torch.softmax(logits / 3.0, classes) for logits in (outputs, wanted))
    expected = 9.0 * (p * (p / q).log()).sum(classes).mean()
    torch.testing.assert_close(task.divergence(outputs, wanted, 3.0), expected)


@pytest.mark.parametrize(
    ("task", "shape"),
    [
        (Classification(), (1, 3)),
        (LanguageModelling(), (1, 4, 3)),
        (Segmentation(), (1, 3, 2, 2)),
        (MultiLabel(), (1, 3)),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_targets_are_drawn_from_what_the_outputs_say(task: Any, shape: tuple[int, ...]) -> None:
    """The mean squared gradient is the Fisher information of logits, p (1 - p)."""
    torch.manual_seed(0)
    logits = vectors(1, 3, *shape[1:]).expand(20000, *shape[1:]).clone().requires_grad_()
    (gradient,) = torch.autograd.grad(task.drawn_loss(logits), logits)
    classes = 2 if isinstance(task, LanguageModelling) else 1
    row = logits[:1].detach()
    p = row.sigmoid() if isinstance(task, MultiLabel) else row.softmax(classes)
    found = gradient.square().mean(0, keepdim=True)
    torch.testing.assert_close(found, p * (1 - p), rtol=0.05, atol=0.003)


def test_segmentation_by_counting() -> None:
    targets = torch.tensor([[[0, 0, 1], [1, 1, 255]]])
    predicted = torch.tensor([[[0, 1, 1], [1, 0, 2]]])
    logits = torch.nn.functional.one_hot(predicted, 4).permute(0, 3, 1, 2).float()
    # class 0: 1 of 3 in either; class 1: 2 of 4; classes 2 and 3: nowhere that counts
    for metric, wanted in (("mIoU", (1 / 3 + 2 / 4) / 2), ("Dice", (2 / 4 + 4 / 6) / 2)):
        found = Segmentation(metric).new_metric()
        found.update(logits, targets)
        assert float(found.compute()) == pytest.approx(wanted, rel=1e-6)
    entropy = -(2 / 5 * math.log(2 / 5) + 3 / 5 * math.log(3 / 5))
    assert Segmentation().constant_loss(targets) == pytest.approx(entropy, rel=1e-12)


def test_several_labels_by_counting() -> None:
    logits = torch.tensor([[2.0, -1.0], [1.0, 3.0], [-1.0, 1.0], [-2.0, -3.0]])
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    # label 0: found at ranks 1 and 3; label 1: at rank 1
    average_precision = ((1 + 2 / 3) / 2 + 1) / 2
    f1 = (2 * 1 / (2 + 2) + 2 * 1 / (2 + 1)) / 2
    for metric, wanted in (("mAP", average_precision), ("F1", f1)):
        for scale in (1.0, 0.2):  # logits of a sample, or of all, may look like probabilities
            found = MultiLabel(metric).new_metric()
            for row in range(4):
                found.update(scale * logits[row : row + 1], targets[row : row + 1])
            assert float(found.compute()) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("metric", ["mAP", "F1"])
def test_a_label_without_any_sample_does_not_count(metric: str) -> None:
    logits = torch.tensor([[2.0, -1.0], [-1.0, -3.0], [3.0, -2.0]])
    targets = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    found = MultiLabel(metric).new_metric()
    assert math.isnan(found.compute())
    for row in range(3):
        found.update(logits[row : row + 1], targets[row : row + 1])
    assert float(found.compute()) == 1.0  # label 0 is found, label 1 is nowhere
    nothing = MultiLabel(metric).new_metric()
    nothing.update(logits, torch.zeros(3, 2))
    assert math.isnan(nothing.compute())


@pytest.mark.parametrize(
    ("task", "outputs", "targets", "key"),
    [
        (LanguageModelling(), (2, 3), torch.zeros(2, 3, dtype=torch.int64), "outputs"),
        (LanguageModelling(), (2, 3, 4), torch.full((2, 3), 4), "targets"),
        (Segmentation(), (2, 3, 4, 4), torch.zeros(2, 4, 5, dtype=torch.int64), "targets"),
        (Segmentation(), (2, 3, 4, 4), torch.full((2, 4, 4), 3), "targets"),
        (MultiLabel(), (2, 3), torch.full((2, 3), 0.5), "targets"),
    ],
)
def test_what_other_tasks_cannot_take(
    task: Any, outputs: tuple[int, ...], targets: Tensor, key: str
) -> None:
    with pytest.raises(CnetError) as error:
        task.check(torch.zeros(outputs), targets)
    assert error.value.key == key


@pytest.mark.parametrize("kind", [Segmentation, MultiLabel, lambda m: Regression(metric=m)])
def test_a_score_that_there_is_not_is_refused(kind: Any) -> None:
    with pytest.raises(CnetError) as error:
        kind("accuracy")
    assert (error.value.key, error.value.value) == ("metric", "accuracy")


class Lookup(nn.Module):
    """Logits of each token by itself, [N, T] -> [N, T, 3]."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.last = nn.Embedding(3, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.table(x))


def some_ignored() -> tuple[Tensor, Tensor]:
    """Six texts of four tokens: three whole ones, one of a single token, two of none."""
    x = torch.randint(3, (6, 4), generator=torch.Generator().manual_seed(0))
    y = x.roll(1, 0).contiguous()
    y[3, 1:], y[4:] = -100, -100
    return x, y


@pytest.mark.parametrize("batch_size", [1, 2, 4, 6])
def test_the_mean_loss_is_over_targets_that_count(batch_size: int) -> None:
    """However they are divided; also where in a batch none counts."""
    torch.manual_seed(0)
    model, (x, y) = Lookup(), some_ignored()
    shares = model(x).log_softmax(-1)[y != -100]
    expected = -shares.gather(1, y[y != -100].unsqueeze(1)).mean().item()
    loss, score = measure(model, (x, y), batch_size, LanguageModelling())
    assert loss == pytest.approx(expected, rel=1e-6)
    assert score == pytest.approx(math.exp(expected), rel=1e-6)


def test_a_batch_divided_among_chips_has_the_gradient_of_the_whole() -> None:
    torch.manual_seed(0)
    task, model, (x, y) = LanguageModelling(), Lookup(), some_ignored()
    grads = []
    for chips in (1, 3):
        settings = TrainingSettings(variation=VariationSettings(enabled=True, chips_per_step=chips))
        model.zero_grad()
        loss, _ = backward(
            model, x, y, settings, 0, lambda out, wanted, _: task.loss(out, wanted),
            lambda *_: None, None, task.counted,
        )  # fmt: skip
        grads.append([loss, *(p.grad for p in model.parameters())])
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("task", "make", "targets"),
    [
        (Regression(metric="R2"), lambda: dense(1), torch.ones(12, 1)),
        (MultiLabel(), lambda: dense(1), torch.zeros(12, 1)),
        (LanguageModelling(), Lookup, torch.full((12, 4), -100)),
    ],
)
def test_batches_without_a_score_do_not_end_a_training(
    task: Any, make: Callable[[], nn.Module], targets: Tensor, tmp_path: Path
) -> None:
    """Of four batches one at least has a score, and one has none, which the mean leaves out."""
    torch.manual_seed(0)
    whole = torch.tensor([[0.0], [1.0], [1.0], [0.0]])
    x = vectors(16, 1, 4)
    if isinstance(task, LanguageModelling):
        x, whole = torch.arange(64).view(16, 4) % 3, torch.arange(16).view(4, 4) % 3
    y = torch.cat([whole, targets])
    data = TrainingParts((x, y), (x[:4], y[:4]))
    settings = TrainingSettings(epochs=1, batch_size=4, lr=1e-12)
    model, scores = make(), []
    for inputs, wanted in TensorPart(x, y).shuffled(4, derive_seed(0, "order", 0)):
        metric = task.new_metric()
        metric.update(model(inputs).detach(), wanted)
        scores.append(float(metric.compute()))
    train(model, data, settings, tmp_path, task=task, progress=False)
    (record,) = read_records(tmp_path / "epochs.jsonl")
    finite = [score for score in scores if math.isfinite(score)]
    assert 0 < len(finite) < 4 and math.isfinite(record["fit"])
    assert record["train_score"] == pytest.approx(sum(finite) / len(finite), rel=1e-4)


@pytest.mark.parametrize(
    ("task", "make", "x", "ignored"),
    [
        (LanguageModelling(), Lookup, torch.ones(8, 4, dtype=torch.long), -100),
        (Segmentation("mIoU"), lambda: nn.Conv2d(1, 3, 1), torch.ones(8, 1, 4, 4), 255),
        (Segmentation("Dice"), lambda: nn.Conv2d(1, 3, 1), torch.ones(8, 1, 4, 4), 255),
    ],
    ids=lambda value: getattr(value, "metric", None),
)
def test_targets_of_which_none_counts_are_refused(
    task: Any, make: Callable[[], nn.Module], x: Tensor, ignored: int, tmp_path: Path
) -> None:
    """A score over nothing would be 0 for one metric, and not a number for another."""
    y = torch.full((8, 4), ignored) if x.dim() == 2 else torch.full((8, 4, 4), ignored)
    good = y.clone()
    good[0] = 1
    on_chips = convert_to_analog(make(), RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.3)))
    settings = TrainingSettings(epochs=1, batch_size=4, lr=1e-3)
    for measured in (
        lambda: measure(make(), (x, y), task=task),
        lambda: evaluate_chips(on_chips, (x, y), task=task, chips=1, seed=0),
        lambda: train(make(), TrainingParts((x, good), (x, y)), settings, tmp_path, task=task),
    ):
        with pytest.raises(CnetError, match="none of the targets of the 8 samples counts") as error:
            measured()
        assert (error.value.key, error.value.value) == ("data", 8)
    assert not list(tmp_path.glob("epochs.jsonl"))
    assert math.isfinite(measure(make(), (x, good), task=task)[1])
