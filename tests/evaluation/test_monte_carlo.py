"""Monte Carlo over chips: right values, reproducible, extendable, and nothing left behind."""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from aihwkit.inference import GlobalDriftCompensation, ReRamWan2022NoiseModel
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from cnet_aihw.evaluation import (
    AffineCorrection,
    AllChipsFailed,
    ChipStatistics,
    Score,
    evaluate_chips,
    measure,
    measured_chips,
    scan_layers,
    score,
)
from cnet_aihw.evaluation.chip_identity import chip_provenance, describe_network
from cnet_aihw.rram import (
    Charge,
    CrossbarMapping,
    LogNormalNoiseModel,
    ReadNoiseModel,
    RRAMRPUConfig,
    Wan2022NoiseModel,
    clear_chip,
    convert_to_analog,
    convert_to_digital,
    effective_weights,
    is_programmed,
    periphery,
    program,
    programmed,
    set_variation,
    snapshot,
)
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.locks import alone
from cnet_aihw.runtime.parts import LoaderPart, Part, TensorPart
from cnet_aihw.runtime.random_state import derive_seed
from cnet_aihw.runtime.records import read_records
from cnet_aihw.tasks import Classification, Regression

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
    assert score(digital.eval(), data, batch_size) == correct
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
        clear_chip(model)
        expected = plain_loss_and_accuracy(twin, data)
        assert (record["loss"], record["score"]) == pytest.approx(expected, abs=1e-5)
        assert record["seconds"] > 0
        assert "t_inference" not in record
    assert result.scores == tuple(record["score"] for record in records)
    assert len(set(result.scores)) > 1


def test_more_chips_extend_fewer(model: nn.Module, data: Data, tmp_path: Path) -> None:
    path = tmp_path / "chips.jsonl"
    whole = evaluate_chips(model, data, chips=7)
    assert evaluate_chips(model, data, chips=3, records=path).scores == whole.scores[:3]
    first = path.read_text()
    assert evaluate_chips(model, data, chips=7, records=path) == whole
    assert path.read_text().startswith(first)
    assert len(read_records(path)) == 7
    again = path.read_text()
    assert evaluate_chips(model, data, chips=5, records=path).scores == whole.scores[:5]
    assert path.read_text() == again


def test_a_killed_evaluation_goes_on(model: nn.Module, data: Data, tmp_path: Path) -> None:
    """A missing chip in the middle and a torn last line are measured again, to the same values."""
    path = tmp_path / "chips.jsonl"
    whole = evaluate_chips(model, data, chips=5, records=path)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:2], lines[3], lines[4][:20]]))  # a header, then chips
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
        with pytest.raises(CnetError) as error:
            evaluate_chips(model, data, chips=3, records=path)
        assert error.value.key == "chips.jsonl"
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
    assert len(set(whole.scores)) > 1  # sigma is 0: only read noise tells chips apart
    torch.manual_seed(6)
    assert evaluate_chips(model, data, chips=2).scores == whole.scores[:2]
    torch.manual_seed(5)
    assert torch.equal(torch.get_rng_state(), state)


class Drawing(AffineCorrection):
    """Changes nothing, but draws random numbers on each chip."""

    def __init__(self) -> None:
        super().__init__(torch.zeros(2, 1, 6, 6))
        self.drawn: list[float] = []

    @contextmanager
    def __call__(self, model: nn.Module) -> Iterator[None]:
        self.drawn.append(float(torch.rand(())))
        yield


def test_draws_of_a_calibration_are_the_chips_own_and_not_those_of_its_noise(data: Data) -> None:
    config = RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.0), forward=periphery(out_noise=0.3))
    model, drawing = convert_to_analog(network(), config), Drawing()
    plain = evaluate_chips(model, data, chips=3)
    torch.manual_seed(5)
    assert evaluate_chips(model, data, chips=3, calibration=drawing).scores == plain.scores
    torch.manual_seed(6)
    evaluate_chips(model, data, chips=2, calibration=drawing)
    assert drawing.drawn[3:] == drawing.drawn[:2] and len(set(drawing.drawn)) == 3


def test_numbers_of_numpy_are_the_same_numbers(data: Data, tmp_path: Path) -> None:
    config = RRAMRPUConfig(noise_model=ReRamWan2022NoiseModel(g_max=40.0))
    model = convert_to_analog(network(), config)
    expected = evaluate_chips(
        model, data, chips=2, seed=3, t_inference=86400, threshold=0.25, reference=0.5
    )
    given: dict[str, Any] = {
        "chips": np.int64(2), "seed": np.int64(3), "t_inference": np.int64(86400),
        "threshold": np.float32(0.25), "reference": np.float32(0.5), "batch_size": np.int32(250),
    }  # fmt: skip
    found = evaluate_chips(model, data, **given, records=tmp_path / "chips.jsonl")
    assert found == expected
    json.dumps(found.as_record())
    again = evaluate_chips(model, data, **given, records=tmp_path / "chips.jsonl")
    assert again == found and len(read_records(tmp_path / "chips.jsonl")) == 2


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
    assert both[1.0].scores != both[day].scores
    more = evaluate_chips(model, data, chips=3, t_inference=[day, 2 * day], records=path)
    assert more[day] == both[day]
    assert len(read_records(path)) == 9


def test_times_at_which_devices_are_the_same_are_said_to_be(
    model: nn.Module, data: Data, recwarn: pytest.WarningsRecorder
) -> None:
    with pytest.warns(UserWarning, match=r"do not change with time.*the same at all 2 times"):
        found = evaluate_chips(model, data, chips=2, t_inference=[1.0, 86400.0])
    assert found[1.0].scores == found[86400.0].scores
    recwarn.clear()
    evaluate_chips(model, data, chips=2, t_inference=1.0)
    wan = ReRamWan2022NoiseModel(g_max=40.0)  # of aihwkit: it drifts
    evaluate_chips(model, data, chips=2, t_inference=[1.0, 86400.0], noise_model=wan)
    assert not [w for w in recwarn if "change with time" in str(w.message)]


def test_another_noise_model_for_the_chips_only(model: nn.Module, data: Data) -> None:
    own = evaluate_chips(model, data, chips=3)
    exact = evaluate_chips(model, data, chips=3, noise_model=LogNormalNoiseModel(0.0))
    assert exact.scores == (exact.clean,) * 3
    assert evaluate_chips(model, data, chips=3) == own


def test_a_time_that_the_chips_own_noise_model_does_not_know_is_refused_first(
    model: nn.Module, data: Data, tmp_path: Path
) -> None:
    path = tmp_path / "records" / "chips.jsonl"
    with pytest.raises(CnetError) as error:
        evaluate_chips(model, data, noise_model=Wan2022NoiseModel(), t_inference=1e6, records=path)
    assert (error.value.key, path.parent.exists()) == ("t_inference", False)


def change_weights(model: nn.Module, data: Data) -> dict:
    with torch.no_grad():
        next(p for p in model.parameters() if p.shape == (3,)).add_(1.0)
    return {}


def change_network(model: nn.Module, data: Data) -> dict:
    model[2] = nn.Tanh()
    return {}


def change_data(model: nn.Module, data: Data) -> dict:
    data[1][0] = (data[1][0] + 1) % 3
    return {}


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (change_weights, "weights"),
        (change_network, "network"),
        (change_data, "data"),
        (lambda m, d: {"seed": 1}, "seed"),
        (lambda m, d: {"noise_model": LogNormalNoiseModel(0.1)}, "noise_model"),
        (lambda m, d: {"task": Classification(0.1)}, "measurement.label_smoothing"),
    ],
)
def test_records_are_not_mixed(
    model: nn.Module, data: Data, tmp_path: Path, change: Callable, key: str
) -> None:
    path = tmp_path / "chips.jsonl"
    evaluate_chips(model, data, chips=2, records=path)
    set_variation(model, enabled=False)  # what training injects does not matter to a chip
    evaluate_chips(model, data, chips=2, batch_size=11, records=path)
    arguments = change(model, data)
    with pytest.raises(CnetError) as error:
        evaluate_chips(model, data, chips=3, records=path, **arguments)
    assert error.value.key == key and "chips.jsonl" in str(error.value)
    assert len(read_records(path)) == 2


def encoder(activation: str = "relu", norm_first: bool = False) -> nn.Module:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(4, 1, 8, 0.0, activation, norm_first=norm_first)
    return convert_to_analog(layer, RRAMRPUConfig())


def test_functions_and_flags_of_a_module_are_part_of_the_network() -> None:
    plain, again = describe_network(encoder()), describe_network(encoder().eval())
    gelu, first = (
        describe_network(encoder("gelu")),
        describe_network(encoder(norm_first=True)),
    )
    assert plain == again
    assert len({tuple(lines) for lines in (plain, gelu, first)}) == 3
    assert any("activation=torch.nn.functional.relu" in line for line in plain)


def of_chips(config: RRAMRPUConfig, noise_model: Any = None) -> dict[str, Any]:
    torch.manual_seed(0)
    model = convert_to_analog(nn.Sequential(nn.Linear(4, 3)), config)
    part = TensorPart(torch.zeros(2, 4), torch.zeros(2).long())
    return chip_provenance(
        *(model, part, Score()), noise_model=noise_model, calibration=None, seed=0, batch_size=40,
        device=torch.device("cpu"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"forward": periphery(out_noise=0.1)}, "periphery"),
        ({"mapping": CrossbarMapping(weight_scaling="tile").as_parameter(True)}, "periphery"),
        ({"drift_compensation": GlobalDriftCompensation()}, "periphery"),
        ({"readout": Charge(spike_noise=0.0)}, "periphery"),
        ({"noise_model": LogNormalNoiseModel(0.1)}, "noise_model"),
    ],
)
def test_what_chips_are_made_of_tells_them_apart(change: dict[str, Any], key: str) -> None:
    plain = {"noise_model": LogNormalNoiseModel(0.3), "drift_compensation": None}
    before, after = of_chips(RRAMRPUConfig(**plain)), of_chips(RRAMRPUConfig(**{**plain, **change}))
    assert before[key] != after[key]


def test_the_batch_size_counts_where_noise_is_drawn_batch_by_batch() -> None:
    lasting, read = LogNormalNoiseModel(0.3), ReadNoiseModel(0.1)
    for wanted, noise_model, config in (
        (None, None, RRAMRPUConfig(noise_model=lasting)),
        (None, lasting, RRAMRPUConfig(noise_model=read)),
        (None, None, RRAMRPUConfig(noise_model=lasting, readout=Charge(spike_noise=0.0))),
        (40, None, RRAMRPUConfig(noise_model=lasting, readout=Charge(spike_noise=0.1))),
        (40, None, RRAMRPUConfig(noise_model=lasting, forward=periphery(out_noise=0.1))),
        (40, None, RRAMRPUConfig(noise_model=read)),
        (40, read, RRAMRPUConfig(noise_model=lasting)),
    ):
        assert of_chips(config, noise_model)["batch_size"] == wanted


def test_records_of_another_kind_of_device_are_another_thing(
    model: nn.Module, data: Data, tmp_path: Path
) -> None:
    path = tmp_path / "chips.jsonl"
    evaluate_chips(model, data, chips=1, records=path)
    header, *lines = path.read_text().splitlines(keepends=True)
    for key, other in (("device", "cuda"), ("tf32", True)):
        made = json.loads(header)
        made["provenance"][key] = other
        path.write_text("".join([json.dumps(made) + "\n", *lines]))
        with pytest.raises(CnetError) as error:
            evaluate_chips(model, data, chips=1, records=path)
        assert (error.value.key, error.value.expected) == (key, other)


def test_foreign_and_older_records_are_refused(
    model: nn.Module, data: Data, tmp_path: Path
) -> None:
    path = tmp_path / "x.jsonl"
    old = '{"chip": 0, "seed": 1, "accuracy": 0.5, "loss": 1.0, "key": "weights=12;seed=0"}\n'
    for text in ('{"epoch": 1}\n', old):
        path.write_text(text)
        with pytest.raises(CnetError) as error:
            evaluate_chips(model, data, chips=1, records=path)
        assert (error.value.key, error.value.value, error.value.expected) == ("format", 1, 2)
        assert len(read_records(path)) == 1  # but they can be read


def test_statistics_take_threshold_and_reference(model: nn.Module, data: Data) -> None:
    result = evaluate_chips(model, data, chips=4, seed=2, threshold=0.3, reference=0.5)
    assert result.seed == 2
    assert result.yield_ == sum(a >= 0.3 for a in result.scores) / 4
    assert result.recovery == pytest.approx(result.mean / 0.5)
    assert (result.metric, result.higher_is_better, result.failed) == ("accuracy", True, 0)


@pytest.mark.parametrize(
    ("arguments", "key", "value"),
    [
        ({"chips": 0}, "evaluation.chips", 0),
        ({"chips": 2.5}, "chips", 2.5),
        ({"chips": True}, "chips", True),
        ({"batch_size": 0}, "evaluation.batch_size", 0),
        ({"batch_size": 2.5}, "batch_size", 2.5),
        ({"seed": None}, "seed", None),
        ({"threshold": 95}, "threshold", 95),
        ({"threshold": "0.9"}, "threshold", "0.9"),
        ({"reference": 0}, "reference", 0),
        ({"reference": 98.0}, "reference", 98.0),
        ({"t_inference": -1.0}, "t_inference", -1.0),
        ({"t_inference": "1h"}, "t_inference", "1h"),
        ({"t_inference": [1.0, None]}, "t_inference", [1.0, None]),
        ({"t_inference": True}, "t_inference", True),
        ({"t_inference": {"a": 1}}, "t_inference", {"a": 1}),
        ({"device": "gpu"}, "device", "gpu"),
        ({"device": "mps"}, "device", "mps"),
    ],
)
def test_mistakes_in_arguments(
    model: nn.Module, data: Data, arguments: dict, key: str, value: object
) -> None:
    with pytest.raises(CnetError) as error:
        evaluate_chips(model, data, **{"chips": 1, **arguments})
    assert (error.value.key, error.value.value) == (key, value)


@pytest.mark.parametrize(
    ("change", "key", "value"),
    [
        (lambda x, y: (x[:0], y[:0]), "x", 0),
        (lambda x, y: (x, y[:5]), "x", 90),
        (lambda x, y: (x, torch.arange(90) % 6), "targets", (0, 5)),
        (lambda x, y: (x, y.float()), "targets", ("torch.float32", (90,))),
        (lambda x, y: [x, y], "data", "list"),
    ],
)
def test_mistakes_in_data(
    model: nn.Module, data: Data, change: Callable, key: str, value: object
) -> None:
    with pytest.raises(CnetError) as error:
        evaluate_chips(model, change(*data), chips=1)
    assert (error.value.key, error.value.value) == (key, value)


def test_a_digital_model_has_no_chips(data: Data) -> None:
    with pytest.raises(CnetError, check=lambda e: e.key == "model"):
        evaluate_chips(network(), data, chips=1)


def test_a_chip_that_is_programmed_changes_nothing_and_stays(model: nn.Module, data: Data) -> None:
    expected = evaluate_chips(model, data, chips=2)
    program(model, 7)
    chip = effective_weights(model)
    assert evaluate_chips(model, data, chips=2) == expected
    assert is_programmed(model)
    assert all(torch.equal(w, chip[name]) for name, w in effective_weights(model).items())


class SometimesInfinite(LogNormalNoiseModel):
    """Every other chip has weights that are not finite."""

    def __init__(self) -> None:
        super().__init__(0.5)

    def sample_factor(self, weights: Tensor) -> Tensor:
        bad = torch.rand(1).item() < 0.3  # on either of two layers: about half of the chips
        return super().sample_factor(weights) * (math.inf if bad else 1.0)


def test_a_chip_without_finite_outputs_is_a_failed_record(
    model: nn.Module, data: Data, tmp_path: Path
) -> None:
    path = tmp_path / "chips.jsonl"
    noise = SometimesInfinite()
    result = evaluate_chips(model, data, chips=12, noise_model=noise, records=path, threshold=0.0)
    records = read_records(path)
    failed = [record for record in records if record.get("failed")]
    assert result.failed == len(failed) and 0 < result.failed < 12
    assert all(record["score"] is None and record["loss"] is None for record in failed)
    assert result.scores == tuple(record["score"] for record in records)
    kept = [score for score in result.scores if score is not None]
    assert result.mean == pytest.approx(sum(kept) / len(kept))
    assert result.yield_ == len(kept) / 12  # a failed chip reaches no threshold
    again = evaluate_chips(model, data, chips=12, noise_model=noise, records=path, threshold=0.0)
    assert again == result and read_records(path) == records


def test_where_all_chips_fail_there_are_records_and_no_statistics(
    model: nn.Module, data: Data, tmp_path: Path
) -> None:
    path = tmp_path / "chips.jsonl"
    with pytest.raises(AllChipsFailed) as error:
        evaluate_chips(model, data, chips=2, noise_model=LogNormalNoiseModel(500.0), records=path)
    assert error.value.value == 2 and len(read_records(path)) == 2


def test_a_clean_network_without_finite_outputs_is_an_error(model: nn.Module, data: Data) -> None:
    x = data[0].clone()
    x[3] = float("nan")
    with pytest.raises(CnetError) as error:
        evaluate_chips(model, (x, data[1]), chips=2)
    assert error.value.key == "loss"


class LargestOutput:
    """A measurement of one's own, beside the score."""

    name = "largest output"

    def __call__(self, model: nn.Module, part: Part, batch_size: int) -> dict[str, float]:
        with torch.no_grad():
            largest = max(model(x).max().item() for x, _ in part.batches(batch_size))
        return {**Score()(model, part, batch_size), "largest": largest}

    def describe(self) -> dict[str, Any]:
        return {}


def test_the_task_is_that_of_the_measurement() -> None:
    """So that the bad end of its scores is at the right side."""
    torch.manual_seed(0)
    model = convert_to_analog(nn.Sequential(nn.Linear(4, 1)))
    x = torch.randn(30, 4)
    data, task = (x, x.sum(1, keepdim=True)), Regression("m")
    result = evaluate_chips(model, data, measurement=Score(task), chips=3)
    assert (result.metric, result.higher_is_better) == ("RMSE", False)
    assert result == evaluate_chips(model, data, task=task, chips=3)
    assert result.q05 > result.mean


def test_a_measurement_of_ones_own(model: nn.Module, data: Data, tmp_path: Path) -> None:
    path = tmp_path / "chips.jsonl"
    result = evaluate_chips(model, data, measurement=LargestOutput(), chips=2, records=path)
    assert result == evaluate_chips(model, data, chips=2)
    for record in read_records(path):
        with torch.no_grad(), programmed(model.eval(), record["seed"]):
            assert record["largest"] == pytest.approx(model(data[0]).max().item(), abs=1e-5)
    with pytest.raises(CnetError) as error:
        evaluate_chips(model, data, chips=2, records=path)
    assert error.value.key == "measurement.name"


def test_the_loop_over_chips_is_public(model: nn.Module, data: Data) -> None:
    result = evaluate_chips(model, data, chips=3, seed=5)
    found = list(measured_chips(model, data, Score(), 3, seed=5))
    assert [one.values["score"] for one in found] == list(result.scores)
    assert [one.seed for one in found] == [derive_seed(5, chip) for chip in range(3)]


class Unlike(Score):
    """A measurement without a loss."""

    def __call__(self, model: nn.Module, part: Part, batch_size: int) -> dict[str, float]:
        return {"score": 1.0}


def test_statistics_need_score_and_loss(model: nn.Module, data: Data) -> None:
    with pytest.raises(CnetError) as error:
        evaluate_chips(model, data, measurement=Unlike(), chips=1)
    assert (error.value.key, error.value.value) == ("measurement", ["score"])


@pytest.mark.parametrize("kind", ["loader", "stream", "object", "part"])
def test_every_kind_of_data_gives_the_same_scores(
    model: nn.Module, data: Data, tmp_path: Path, kind: str
) -> None:
    x, y = data
    loader = DataLoader(TensorDataset(x, y), batch_size=13, shuffle=True)
    forms = {
        "loader": loader,
        "stream": LoaderPart(list(DataLoader(TensorDataset(x, y), batch_size=13))),
        "object": SimpleNamespace(x=x, y=y),
        "part": TensorPart(x, y),
    }
    path = tmp_path / "chips.jsonl"
    expected = evaluate_chips(model, data, chips=2, batch_size=40)
    assert evaluate_chips(model, forms[kind], chips=2, batch_size=40, records=path) == expected
    assert scan_layers(model, forms[kind], chips=1, batch_size=40) == scan_layers(
        model, data, chips=1, batch_size=40
    )
