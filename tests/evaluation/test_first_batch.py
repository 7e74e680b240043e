"""The check of the first batch: networks that do not compute what is reported, and misfits."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cnet_aihw.evaluation import (
    Score,
    ceiling,
    error_growth,
    evaluate_chips,
    measured_chips,
    scan_layers,
)
from cnet_aihw.evaluation.first_batch import check_first_batch
from cnet_aihw.rram import RRAMRPUConfig, convert_to_analog, periphery, snapshot
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.parts import TensorPart, as_part
from cnet_aihw.tasks import Classification, MultiLabel, Regression
from cnet_aihw.training import TrainingSettings, train
from cnet_aihw.zoo import from_samples

X = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(8) % 4


class Net(nn.Module):
    """Layers of which one is called, or none, and outputs of several kinds."""

    def __init__(self, kind: str = "tensor") -> None:
        super().__init__()
        self.kind = kind
        self.a, self.aux = nn.Linear(8, 4), nn.Linear(8, 4)
        self.own = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> object:
        if self.kind == "none called":
            return x[:, :4] * self.own
        y = self.a(x)
        if self.training:
            y = y + self.aux(x)
        if self.kind == "dict" or (self.kind == "dict in training" and self.training):
            return {"scores": y}
        return y


def measured(model: nn.Module, data: object = (X, Y)) -> None:
    evaluate_chips(model, data, chips=1, device="cpu")


def scanned(model: nn.Module, data: object = (X, Y)) -> None:
    scan_layers(model, data, chips=1, device="cpu")


def grown(model: nn.Module, data: object = (X, Y)) -> None:
    error_growth(model, as_part(data).first(8).x, chips=1, device="cpu")


def walked(model: nn.Module, data: object = (X, Y)) -> None:
    measured_chips(model, data, Score(), 1)  # checked at the call


@pytest.mark.parametrize("verb", [measured, scanned, grown, walked])
def test_a_network_that_calls_none_of_its_analog_layers_is_refused(verb):
    with pytest.raises(CnetError, check=lambda e: e.value == ["a", "aux"]):
        verb(convert_to_analog(Net("none called")))


@pytest.mark.parametrize("verb", [measured, scanned, grown, walked])
def test_analog_layers_that_are_not_called_are_named(verb):
    with pytest.warns(UserWarning, match=r"1 of 2 analog layers.*on no chip: aux\.$"):
        verb(convert_to_analog(Net()))


def test_outputs_of_more_classes_than_the_data_have_are_named(tmp_path):
    model = convert_to_analog(nn.Sequential(nn.Linear(8, 5)))
    data = from_samples("mine", (X, Y), (X, Y), (X, Y))
    with pytest.warns(UserWarning, match="5 outputs and the data set 4 classes"):
        train(model, data, TrainingSettings(epochs=0), folder=tmp_path / "a", device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_first_batch(model, as_part((X, Y)), Classification(), classes=5)
        check_first_batch(model, as_part((X, Y)), Classification())  # a part may lack a class


@pytest.mark.parametrize("verb", [measured, scanned, walked])
@pytest.mark.filterwarnings("ignore:the forward calls")
def test_outputs_that_are_no_tensor_are_refused_with_the_fix(verb):
    with pytest.raises(CnetError, check=lambda e: e.key == "outputs" and e.value == "dict"):
        verb(convert_to_analog(Net("dict")))


@pytest.mark.parametrize("verb", [measured, scanned, grown, walked])
@pytest.mark.parametrize("x", [X[:, :5], X.byte(), X.double()])
def test_data_that_the_network_does_not_take_are_refused(verb, x):
    kind = str(x.dtype).removeprefix("torch.")
    with pytest.raises(CnetError, check=lambda e: e.key == "data" and e.value.endswith(kind)):
        verb(convert_to_analog(nn.Sequential(nn.Linear(8, 4))), (x, Y))


def test_the_layer_that_does_not_take_its_inputs_is_named():
    model = convert_to_analog(nn.Sequential(nn.Linear(8, 4), nn.Sequential(nn.Linear(5, 4))))
    with pytest.raises(CnetError, match=r"at layer '1\.0' \(RRAMLinear\)"):
        measured(model, (X, Y))


@pytest.mark.parametrize("y", [Y.int(), Y.float(), Y[:, None], Y + 4])
def test_labels_of_another_kind_are_refused(y):
    for verb in (measured, scanned, walked):
        with pytest.raises(CnetError, check=lambda e: e.key == "targets"):
            verb(convert_to_analog(nn.Sequential(nn.Linear(8, 4))), (X, y))


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ((X.tolist(), Y), "x"),
        ((X, Y.tolist()), "y"),
        ((np.array(["a", "b"]), Y[:2]), "x"),
        ({"x": X, "y": Y}, "data"),
        ([X, Y], "data"),
        (None, "data"),
    ],
)
def test_data_in_other_forms_are_refused(data, key):
    with pytest.raises(CnetError, check=lambda e: e.key == key):
        as_part(data)


def test_numpy_arrays_are_taken_as_tensors():
    part = as_part(({"a": X.numpy(), "b": X}, Y.numpy()))
    assert isinstance(part, TensorPart) and torch.equal(part.x["a"], X)
    assert part.fingerprint == as_part(({"a": X, "b": X}, Y)).fingerprint


def test_a_ceiling_checks_the_data_too():
    model = convert_to_analog(nn.Sequential(nn.Linear(8, 4)))
    with pytest.raises(CnetError, check=lambda e: e.key == "data"):
        ceiling(model, (X[:, :5], Y), ["0"], device="cpu")


@pytest.mark.parametrize("chips", [0, -1, [(-1, None)], [(0, -1.0)], [0], iter([(0, None, 1)])])
def test_chips_that_cannot_be_are_refused_at_the_call(chips):
    model = convert_to_analog(nn.Sequential(nn.Linear(8, 4)))
    with pytest.raises(CnetError, check=lambda e: e.key == "chips"):
        measured_chips(model, (X, Y), Score(), chips)


def test_a_check_leaves_everything_as_it_was():
    net = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 4))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    state = torch.get_rng_state()
    part = as_part((X, Y))
    net.train()[0].eval()
    check_first_batch(net, part, Classification(), training=True)
    check_first_batch(net, part, Classification())
    assert all(torch.equal(before[n], t) for n, t in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in net] == [False, True, True, True]


def test_a_check_in_training_mode_leaves_input_ranges() -> None:
    config = RRAMRPUConfig(forward=periphery(dac_bits=8))
    config.pre_post.input_range.enable = True
    config.pre_post.input_range.init_from_data = 5
    model = convert_to_analog(nn.Sequential(nn.Linear(8, 4)), config).train()
    before = snapshot(model)
    check_first_batch(model, as_part((X, Y)), Classification(), training=True)
    assert all(torch.equal(tensor, before[name]) for name, tensor in snapshot(model).items())
    model(X)
    assert not torch.equal(snapshot(model)["0.input_range"], before["0.input_range"])


def test_outputs_in_training_mode_alone_are_checked_there():
    net, part = Net("dict in training").train(), as_part((X, Y))
    check_first_batch(net, part, Classification())
    with pytest.raises(CnetError, match="in training mode", check=lambda e: e.key == "outputs"):
        check_first_batch(net, part, Classification(), training=True)


@pytest.mark.parametrize("inner", [False, True])
def test_compiled_networks_are_scanned_as_they_are_written(inner):
    torch.manual_seed(0)
    model = convert_to_analog(
        nn.Sequential(nn.Sequential(nn.Linear(8, 8), nn.ReLU()), nn.Linear(8, 4))
    )
    wanted = scan_layers(model, (X, Y), chips=2, device="cpu")
    if inner:
        model[0] = torch.compile(model[0], backend="eager")
    compiled = model if inner else torch.compile(model, backend="eager")
    assert scan_layers(compiled, (X, Y), chips=2, device="cpu").rows == wanted.rows
    assert error_growth(compiled, X, chips=1, device="cpu") == error_growth(
        model, X, chips=1, device="cpu"
    )


def test_the_targets_of_each_part_that_is_measured_are_checked() -> None:
    model, measurement, x = nn.Linear(4, 3), Score(), torch.zeros(6, 4)
    parts = [TensorPart(x, torch.full((6,), label)) for label in (2, 3)]
    assert measurement(model, parts[0], 4)["loss"] > 0.0
    with pytest.raises(CnetError) as error:
        measurement(model, parts[1], 4)
    assert error.value.key == "targets"


class NoLoss(Classification):
    loss = None  # type: ignore[assignment]


class LossOfEach(Classification):
    def loss(self, outputs: Any, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets, reduction="none")


class LossAsNumber(Classification):
    def loss(self, outputs: Any, targets: Tensor) -> Any:
        return float(super().loss(outputs, targets).detach())


class NoMetric(Classification):
    def new_metric(self) -> Any:
        return None


class ScoreOfEach(Classification):
    def new_metric(self) -> Any:
        return self

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        self.right = (outputs.argmax(1) == targets).float()

    def compute(self) -> Tensor:
        return self.right


class NumberAsText(Classification):
    def format(self, score: float) -> Any:
        return score


class RecoveryAsText(Classification):
    def recovery(self, score: float, reference: float) -> Any:
        return f"{score / reference:.0%}"


class CheckFails(Classification):
    def check(self, outputs: Any, targets: Tensor) -> None:
        raise ValueError("outputs must be something else")


@pytest.mark.parametrize(
    "task",
    [
        *(NoLoss, LossOfEach, LossAsNumber, NoMetric, ScoreOfEach),
        *(NumberAsText, RecoveryAsText, CheckFails),
    ],
)
def test_a_task_that_does_not_work_is_refused(task: Any) -> None:
    model = convert_to_analog(nn.Linear(8, 4), RRAMRPUConfig())
    with pytest.raises(CnetError) as error:
        check_first_batch(model, as_part((X, Y)), task())
    assert (error.value.key, error.value.value) == ("task", task.__name__)


@pytest.mark.parametrize("samples", [1, 2, 8])
@pytest.mark.parametrize(
    ("task", "targets"),
    [
        (Classification(), Y),
        (Regression("R2"), X[:, :4]),
        (MultiLabel("mAP"), torch.zeros(8, 4, dtype=torch.long)),
        (MultiLabel("F1"), torch.zeros(8, 4, dtype=torch.long)),
    ],
)
def test_the_trial_of_a_task_takes_few_samples_and_no_chance(
    task: Any, targets: Tensor, samples: int
) -> None:
    model = convert_to_analog(nn.Sequential(nn.Linear(8, 4)), RRAMRPUConfig())
    state = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_first_batch(model, as_part((X[:samples], targets[:samples])), task)
    assert torch.equal(torch.get_rng_state(), state)
