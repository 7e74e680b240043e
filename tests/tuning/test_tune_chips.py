"""Tuning on several chips: the same chips as evaluations, correctors beside, resuming."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from cnet_aihw.compensation import LowRank, PerChipFit, Placement, WithCompensation
from cnet_aihw.evaluation import evaluate_chips
from cnet_aihw.rram import (
    LogNormalNoiseModel,
    PowerLawDriftNoiseModel,
    RRAMRPUConfig,
    convert_to_analog,
    snapshot,
)
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.records import read_records
from cnet_aihw.tasks import Regression
from cnet_aihw.training import TrainingParts
from cnet_aihw.tuning import (
    SimulatedChip,
    TuningSettings,
    score_on_chip,
    tune_chips,
    write_all,
)
from cnet_aihw.tuning.statistics import statistics_over_chips, tuning_statistics_of

X = torch.rand(60, 8, generator=torch.Generator().manual_seed(1))
Y = (X[:, :3] * 1.0).argmax(1)
DATA = TrainingParts((X[:40], Y[:40]), (X[40:], Y[40:]))
SETTINGS = TuningSettings(tune="all", epochs=1, batch_size=20)


def network() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))
    return convert_to_analog(net, RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.8)))


def correctors() -> WithCompensation:
    placement = Placement({"0": "size 1", "2": "size 1"})
    return WithCompensation(placement, LowRank(), PerChipFit(X[:40]))


def test_chips_are_those_of_an_evaluation_without_and_with_correctors(tmp_path: Path) -> None:
    model, fit = network(), correctors()
    before = snapshot(model)
    given = {"chips": 2, "seed": 4, "others": 1, "calibration": fit, "device": "cpu"}
    found = tune_chips(model, DATA, SETTINGS, tmp_path, **given)
    for calibration, mean in ((None, found.before), (fit, found.per_chip)):
        wanted = evaluate_chips(
            model, DATA.val, chips=2, seed=4, calibration=calibration, device="cpu"
        )
        assert mean == pytest.approx(wanted.mean)
    assert (found.chips, found.writes_most, found.steps, found.forwards) == (2, 3, 2, 40.0)
    assert found.digital_weights == fit.cost(model)
    assert found.overhead == pytest.approx(fit.cost(model) / (8 * 6 + 6 + 6 * 3 + 3))
    for name, tensor in snapshot(model).items():
        assert torch.equal(tensor, before[name])
    assert tuning_statistics_of(found.as_record()) == found
    again = tune_chips(model, DATA, SETTINGS, tmp_path, **{**given, "chips": 3})
    records = read_records(tmp_path / "chips.jsonl")
    assert [record["chip"] for record in records] == [0, 1, 2]
    assert again.score == pytest.approx(sum(record["score"] for record in records) / 3)
    assert any(record["others"] != record["score"] for record in records)
    with pytest.raises(CnetError):
        tune_chips(model, DATA, replace(SETTINGS, lr=0.1), tmp_path, **given)


def test_chips_are_measured_on_the_test_part_at_the_time_after_their_writes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = RRAMRPUConfig(noise_model=PowerLawDriftNoiseModel(0.3, 0.3))
    model = convert_to_analog(nn.Sequential(nn.Linear(8, 3)), config)
    data = TrainingParts((X[:40], X[:40, :3]), (X[40:], X[40:, :3]))
    at = {"chips": 2, "seed": 4, "t_inference": 1e4, "task": Regression(), "device": "cpu"}
    found = tune_chips(model, data, SETTINGS, tmp_path, test=data.train, **at)
    wanted = evaluate_chips(model, data.train, **at)
    assert found.before == pytest.approx(wanted.mean) != wanted.clean
    for record in read_records(tmp_path / "chips.jsonl"):
        assert record["score"] != record["validation"] == record["epochs"][-1]["score"]


def test_statistics_over_chips_are_those_by_hand() -> None:
    one = {"tune": "all", "backward": "model", "steps": 2, "epochs": []}
    one |= {"score": 0.5, "writes_most": 3, "writes_mean": 2.0}
    other = one | {"score": 0.7, "writes_most": 5, "writes_mean": 3.0}
    found = statistics_over_chips([one, other], 0.1, 0, 0.0)
    assert (found.writes_most, found.writes_mean, found.min, found.max) == (5, 2.5, 0.5, 0.7)
    assert (found.score, found.std) == (pytest.approx(0.6), pytest.approx(0.02**0.5))


def test_correctors_begin_where_the_fit_to_the_chip_ends(tmp_path: Path) -> None:
    model, fit = network(), correctors()
    given = {"chips": 1, "seed": 4, "calibration": fit, "device": "cpu"}
    still = replace(SETTINGS, tune="correctors", lr=1e-12)
    found = tune_chips(model, DATA, still, tmp_path / "a", **given)
    assert found.score == found.per_chip
    assert (found.tuned_per_chip, found.writes_most) == (None, 1)
    with pytest.raises(CnetError) as caught:
        tune_chips(model, DATA, still, tmp_path / "b", **{**given, "calibration": None})
    assert caught.value.key == "tune"


class Shifted:
    """A calibration that draws: it moves biases at random."""

    def __call__(self, model: nn.Module) -> AbstractContextManager[None]:
        return self._shifted(model[2].bias)

    @contextmanager
    def _shifted(self, bias: torch.Tensor) -> Iterator[None]:
        before = bias.detach().clone()
        bias.data += torch.randn(len(bias))
        try:
            yield
        finally:
            bias.data.copy_(before)

    def label(self) -> str:
        return "shifted"

    def fingerprint(self) -> str:
        return "shifted"

    def cost(self, model: nn.Module) -> int:
        return 0


def noisy_network() -> nn.Module:
    torch.manual_seed(0)
    config = RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.5))
    config.forward.is_perfect, config.forward.out_noise = False, 0.3
    return convert_to_analog(nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3)), config)


@pytest.mark.parametrize("backward", ["model", "feedback"])
def test_noise_belongs_to_the_chip_whatever_was_drawn_and_done_before(
    backward: str, tmp_path: Path
) -> None:
    found = []
    settings = replace(SETTINGS, backward=backward)
    given = {"seed": 4, "others": 1, "calibration": Shifted(), "device": "cpu"}
    for name, all_chips in (("a", [2]), ("b", [2]), ("c", [1, 2])):
        model = noisy_network()
        torch.manual_seed(len(found))
        state = torch.random.get_rng_state()
        for chips in all_chips:
            tune_chips(model, DATA, settings, tmp_path / name, chips=chips, **given)
        assert torch.equal(torch.random.get_rng_state(), state)
        records = read_records(tmp_path / name / "chips.jsonl")
        timed = [[{**e, "seconds": 0} for e in record.pop("epochs")] for record in records]
        found.append(([{**record, "seconds": 0} for record in records], timed))
    assert found[0] == found[1] == found[2]
    for calibration, name in ((None, "before"), (Shifted(), "per_chip")):
        wanted = evaluate_chips(
            noisy_network(), DATA.val, chips=2, seed=4, calibration=calibration, device="cpu"
        )
        assert [r[name] for r in found[0][0]] == pytest.approx([*wanted.scores])


def test_a_score_on_a_chip_belongs_to_its_seed_and_leaves_the_random_state(tmp_path: Path) -> None:
    model = noisy_network()
    chip = SimulatedChip(model, 1)
    write_all(model, chip)
    state = torch.random.get_rng_state()
    given = {"batch_size": 7, "task": Regression()}
    scores = [score_on_chip(model, chip, (X, X[:, :3]), seed=s, **given) for s in (0, 0, 1)]
    assert scores[0] == scores[1] != scores[2]
    assert torch.equal(torch.random.get_rng_state(), state)
    with pytest.raises(CnetError) as caught:
        score_on_chip(model, chip, DATA.val, batch_size=0)
    assert caught.value.key == "batch_size"


def test_other_data_and_devices_are_another_measurement(tmp_path: Path) -> None:
    given = {"data": DATA, "chips": 1, "device": "cpu", "test": DATA.val}
    tune_chips(network(), settings=SETTINGS, folder=tmp_path, **given)
    train, val = DATA.train, DATA.val
    for key, changes in (
        ("val", {"data": TrainingParts(train, (X[30:50], Y[30:50]))}),
        ("train", {"data": TrainingParts((X[1:40], Y[1:40]), val)}),
        *(("rewrite_sigma", {"rewrite_sigma": 0.1}), ("others", {"others": 3})),
        ("t_inference", {"t_inference": 1.0}),
    ):
        with pytest.raises(CnetError) as caught:
            tune_chips(network(), settings=SETTINGS, folder=tmp_path, **{**given, **changes})
        assert caught.value.key == key


def test_outputs_that_are_not_finite_have_no_score(tmp_path: Path) -> None:
    model = network()
    chip = SimulatedChip(model, 1)
    write_all(model, chip)
    model[2].bias.data[0] = float("nan")
    with pytest.raises(CnetError) as caught:
        score_on_chip(model, chip, DATA.val)
    assert caught.value.key == "chip"
    with pytest.raises(CnetError) as caught:
        tune_chips(model, DATA, SETTINGS, tmp_path, chips=1, device="cpu")
    assert caught.value.key == "chip"
    assert not read_records(tmp_path / "chips.jsonl")


@pytest.mark.parametrize(
    ("second", "label"),
    [
        ("digital", "digital at 2 layers"),
        ("size 1", "low rank of xy at 1 layers, digital at 1 layers"),
        (0.0, "digital at 1 layers"),
    ],
)
def test_digital_layers_are_called_so_and_are_not_correctors_to_tune(
    tmp_path: Path, second: str | float, label: str
) -> None:
    fit = WithCompensation(Placement({"0": "digital", "2": second}), LowRank(), PerChipFit(X[:40]))
    assert fit.label() == f"{label}, {fit.fit.label()}"
    settings = replace(SETTINGS, tune="correctors")
    given = {"chips": 1, "others": 0, "calibration": fit, "device": "cpu"}
    if second == "size 1":
        found = tune_chips(network(), DATA, settings, tmp_path, **given)
        assert found.writes_most == 1
        return
    with pytest.raises(CnetError) as error:
        tune_chips(network(), DATA, settings, tmp_path, **given)
    assert (error.value.key, error.value.value) == ("tune", "correctors")
