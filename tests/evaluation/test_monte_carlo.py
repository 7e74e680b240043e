"""Monte Carlo over chips: right values, reproducible, extendable, and nothing left behind."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from aihwkit.inference import ReRamWan2022NoiseModel
from torch import Tensor, nn

from cnet_aihw.evaluation import ChipStatistics, accuracy, evaluate_chips, measure
from cnet_aihw.rram import (
    LogNormalNoiseModel,
    RRAMRPUConfig,
    convert_to_analog,
    convert_to_digital,
    periphery,
    program,
    restore,
    set_variation,
    snapshot,
)
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.locks import alone
from cnet_aihw.runtime.random_state import derive_seed
from cnet_aihw.runtime.records import read_records

Data = tuple[Tensor, Tensor]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    )


@pytest.fixture
def model() -> nn.Module:
    return convert_to_analog(network(), RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.8)))


@pytest.fixture
def data() -> Data:
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(90, 1, 6, 6, generator=generator),
        torch.randint(3, (90,), generator=generator),
    )


def plain_loss_and_accuracy(model: nn.Module, data: Data) -> tuple[float, float]:
    """The oracle: one batch of plain torch."""
    x, y = data
    with torch.no_grad():
        logits = model.eval()(x)
    loss = nn.functional.cross_entropy(logits, y).item()
    return loss, (logits.argmax(1) == y).float().mean().item()


@pytest.mark.parametrize("batch_size", [1, 7, 500])
def test_measure_is_plain_torch(data: Data, batch_size: int) -> None:
    digital = network().train()
    loss, correct = measure(digital, data, batch_size)
    assert digital.training and digital[1].training
    assert digital[1].num_batches_tracked == 0
    assert (loss, correct) == pytest.approx(plain_loss_and_accuracy(digital, data), abs=1e-6)
    assert accuracy(digital.eval(), data, batch_size) == correct
    assert not digital.training


def test_each_chip_is_the_programmed_network_measured(
    model: nn.Module, data: Data, tmp_path: Path
) -> None:
    path = tmp_path / "chips.jsonl"
    result = evaluate_chips(model, data, chips=4, seed=3, batch_size=40, records=path)
    assert result.clean == pytest.approx(plain_loss_and_accuracy(model, data)[1], abs=1e-6)
    records = read_records(path)
    assert [record["chip"] for record in records] == [0, 1, 2, 3]
    for chip, record in enumerate(records):
        assert record["seed"] == derive_seed(3, chip)
        program(model, record["seed"])
        twin = convert_to_digital(model)
        restore(model)
        expected = plain_loss_and_accuracy(twin, data)
        assert (record["loss"], record["accuracy"]) == pytest.approx(expected, abs=1e-5)
        assert record["seconds"] > 0
        assert "t_inference" not in record
    assert result.accuracies == tuple(record["accuracy"] for record in records)
    assert len(set(result.accuracies)) > 1


def test_more_chips_extend_fewer(model: nn.Module, data: Data, tmp_path: Path) -> None:
    path = tmp_path / "chips.jsonl"
    whole = evaluate_chips(model, data, chips=7)
    assert evaluate_chips(model, data, chips=3, records=path).accuracies == whole.accuracies[:3]
    first = path.read_text()
    assert evaluate_chips(model, data, chips=7, records=path) == whole
    assert path.read_text().startswith(first)
    assert len(read_records(path)) == 7
    again = path.read_text()
    assert evaluate_chips(model, data, chips=5, records=path).accuracies == whole.accuracies[:5]
    assert path.read_text() == again


def test_a_killed_evaluation_goes_on(model: nn.Module, data: Data, tmp_path: Path) -> None:
    """A missing chip in the middle and a torn last line are measured again, to the same values."""
    path = tmp_path / "chips.jsonl"
    whole = evaluate_chips(model, data, chips=5, records=path)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], lines[2], lines[3][:20]]))
    assert evaluate_chips(model, data, chips=5, records=path) == whole
    assert sorted(record["chip"] for record in read_records(path)) == [0, 1, 2, 3, 4]


def test_records_have_one_writer_at_a_time_and_any_readers(
    model: nn.Module, data: Data, tmp_path: Path
) -> None:
    path = tmp_path / "chips.jsonl"
    whole = evaluate_chips(model, data, chips=2, records=path)
    written = path.read_text()
    with alone(tmp_path, "chips.jsonl", "another measurement"):
        assert evaluate_chips(model, data, chips=2, records=path) == whole
        with pytest.raises(CnetError, match=r"measurement for chips.jsonl runs in .* already"):
            evaluate_chips(model, data, chips=3, records=path)
    assert path.read_text() == written


class Interrupting(nn.Module):
    """Raises at its n-th forward pass."""

    def __init__(self, error: BaseException, at: int) -> None:
        super().__init__()
        self.error, self.left = error, at

    def forward(self, x: Tensor) -> Tensor:
        self.left -= 1
        if self.left == 0:
            raise self.error
        return x


@pytest.mark.parametrize("error", [None, RuntimeError("boom"), KeyboardInterrupt()])
def test_nothing_is_left_behind(data: Data, error: BaseException | None) -> None:
    digital = network()
    if error is not None:
        digital.append(Interrupting(error, at=6))  # in the second chip
    model = convert_to_analog(digital, RRAMRPUConfig())
    model.train()
    model[1].eval()
    before, modes = snapshot(model), [m.training for m in model.modules()]
    random_state = torch.get_rng_state()
    if error is None:
        evaluate_chips(model, data, chips=3, batch_size=45)
    else:
        with pytest.raises(type(error)):
            evaluate_chips(model, data, chips=3, batch_size=45)
    after = snapshot(model)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random_state)


def test_read_noise_is_the_chips_own(data: Data) -> None:
    """With a noisy periphery results repeat, and do not depend on what was drawn before."""
    config = RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.0), forward=periphery(out_noise=0.3))
    model = convert_to_analog(network(), config)
    torch.manual_seed(5)
    whole = evaluate_chips(model, data, chips=5)
    state = torch.get_rng_state()
    assert len(set(whole.accuracies)) > 1  # sigma is 0: only read noise tells chips apart
    torch.manual_seed(6)
    assert evaluate_chips(model, data, chips=2).accuracies == whole.accuracies[:2]
    torch.manual_seed(5)
    assert torch.equal(torch.get_rng_state(), state)


def test_drift_times_are_records_of_one_chip(data: Data, tmp_path: Path) -> None:
    path = tmp_path / "chips.jsonl"
    config = RRAMRPUConfig(noise_model=ReRamWan2022NoiseModel(g_max=40.0))
    model = convert_to_analog(network(), config)
    day = 86400.0
    both = evaluate_chips(model, data, chips=3, t_inference=[1.0, day], records=path)
    assert [(r["chip"], r["t_inference"]) for r in read_records(path)] == [
        (chip, t) for chip in range(3) for t in (1.0, day)
    ]
    assert list(both) == [1.0, day]
    late = evaluate_chips(model, data, chips=3, t_inference=day)
    assert isinstance(late, ChipStatistics)
    assert late == both[day] and late.t_inference == day
    assert both[1.0].accuracies != both[day].accuracies
    more = evaluate_chips(model, data, chips=3, t_inference=[day, 2 * day], records=path)
    assert more[day] == both[day]
    assert len(read_records(path)) == 9


def test_another_noise_model_for_the_chips_only(model: nn.Module, data: Data) -> None:
    own = evaluate_chips(model, data, chips=3)
    exact = evaluate_chips(model, data, chips=3, noise_model=LogNormalNoiseModel(0.0))
    assert exact.accuracies == (exact.clean,) * 3
    assert evaluate_chips(model, data, chips=3) == own


def change_weights(model: nn.Module, data: Data) -> dict:
    with torch.no_grad():
        next(p for p in model.parameters() if p.shape == (3,)).add_(1.0)
    return {}


def change_data(model: nn.Module, data: Data) -> dict:
    data[1][0] = (data[1][0] + 1) % 3
    return {}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (change_weights, "weights"),
        (change_data, "data"),
        (lambda m, d: {"seed": 1}, "seed"),
        (lambda m, d: {"noise_model": LogNormalNoiseModel(0.1)}, "noise model"),
    ],
)
def test_records_are_not_mixed(
    model: nn.Module, data: Data, tmp_path: Path, change: Callable, named: str
) -> None:
    path = tmp_path / "chips.jsonl"
    evaluate_chips(model, data, chips=2, records=path)
    set_variation(model, enabled=False)  # what training injects does not matter to a chip
    evaluate_chips(model, data, chips=2, batch_size=11, records=path)
    arguments = change(model, data)
    with pytest.raises(CnetError, match=rf"chips.jsonl line 1 was measured with another {named};"):
        evaluate_chips(model, data, chips=3, records=path, **arguments)
    assert len(read_records(path)) == 2


def test_foreign_records_are_refused(model: nn.Module, data: Data, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"epoch": 1}\n')
    with pytest.raises(CnetError, match="another kind of measurement"):
        evaluate_chips(model, data, chips=1, records=path)


def test_statistics_take_threshold_and_reference(model: nn.Module, data: Data) -> None:
    result = evaluate_chips(model, data, chips=4, threshold=0.3, reference=0.5)
    assert result.yield_ == sum(a >= 0.3 for a in result.accuracies) / 4
    assert result.recovery == pytest.approx(result.mean / 0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"chips": 0}, "chips is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"threshold": 95}, "threshold is 95"),
        ({"reference": 0}, "reference is 0"),
        ({"t_inference": -1.0}, "t_inference has -1.0"),
        ({"t_inference": "1h"}, "t_inference has '1h'; give seconds since programming as numbers"),
        ({"t_inference": [1.0, None]}, "t_inference has None; give seconds"),
        ({"t_inference": True}, "t_inference has True; give seconds"),
        ({"t_inference": {"a": 1}}, "t_inference has {'a': 1}; give seconds"),
        ({"chips": 2.5}, "chips is 2.5; give a whole number"),
        ({"chips": True}, "chips is True; give a whole number"),
        ({"batch_size": 2.5}, "batch_size is 2.5; give a whole number"),
        ({"seed": None}, "seed is None; give a whole number"),
        ({"threshold": "0.9"}, "threshold is '0.9'; give an accuracy"),
        ({"device": "gpu"}, "device is 'gpu'"),
    ],
)
def test_mistakes_in_arguments(model: nn.Module, data: Data, arguments: dict, message: str) -> None:
    with pytest.raises(CnetError, match=message):
        evaluate_chips(model, data, **{"chips": 1, **arguments})


def test_mistakes_in_model_and_data(model: nn.Module, data: Data) -> None:
    x, y = data
    with pytest.raises(CnetError, match="convert"):
        evaluate_chips(network(), data, chips=1)
    with pytest.raises(CnetError, match="no samples"):
        evaluate_chips(model, (x[:0], y[:0]), chips=1)
    with pytest.raises(CnetError, match="90 samples but labels of shape"):
        evaluate_chips(model, (x, y[:5]), chips=1)
    with pytest.raises(CnetError, match="labels go from 0 to 5 but the network has 3 classes"):
        evaluate_chips(model, (x, y * 0 + torch.arange(90) % 6), chips=1)
    program(model, 1)
    with pytest.raises(CnetError, match="restore"):
        evaluate_chips(model, data, chips=1)


def test_a_chip_without_finite_outputs_is_named(
    model: nn.Module, data: Data, tmp_path: Path
) -> None:
    path = tmp_path / "chips.jsonl"
    x = data[0].clone()
    x[3] = float("nan")
    with pytest.raises(CnetError, match=rf"Chip 0 \(seed {derive_seed(0, 0)}\) .* not finite"):
        evaluate_chips(model, (x, data[1]), chips=2, records=path)
    assert read_records(path) == []
