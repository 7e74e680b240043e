"""A run killed at any moment goes on and ends as if it had not been killed."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from aihwkit.inference import ReRamWan2022NoiseModel
from aihwkit.simulator.parameters import (
    MappingParameter,
    WeightModifierParameter,
    WeightRemapParameter,
)
from aihwkit.simulator.parameters.enums import WeightModifierType, WeightRemapType
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from cnet_aihw.compensation import load_compensation
from cnet_aihw.evaluation import AffineCorrection
from cnet_aihw.evaluation.chip_identity import describe_network
from cnet_aihw.rram import (
    CompositeNoiseModel,
    LogNormalNoiseModel,
    ReadNoiseModel,
    VariationParameter,
    convert_to_analog,
    snapshot,
)
from cnet_aihw.runtime.epochs import read_epochs
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.parts import LoaderPart, as_part
from cnet_aihw.runtime.records import read_json, read_records, write_json_atomic
from cnet_aihw.tasks import Classification
from cnet_aihw.training import (
    LipschitzSettings,
    TrainingParts,
    TrainingSettings,
    VariationSettings,
    journal,
    load_checkpoint,
    train,
)
from cnet_aihw.training.begun import check_begun
from cnet_aihw.training.run_identity import run_provenance
from cnet_aihw.zoo.augment import CropFlip

from .conftest import Data, analog_network, digital_network

SETTINGS = TrainingSettings(
    epochs=3,
    batch_size=16,
    checkpoint_seconds=0.0,
    validation_chips=2,
    lipschitz=LipschitzSettings(enabled=True, beta=0.01),
    variation=VariationSettings(enabled=True),
)


def outcome(folder: Path) -> tuple:
    """All that must not depend on kills: tensors, and records without times."""
    records = [{**r, "seconds": None} for r in read_records(folder / "epochs.jsonl")]
    files = {
        name: load_checkpoint(folder / f"{name}.safetensors") for name in ("best", "checkpoint")
    }
    state = files["checkpoint"].meta["state"]
    return (
        records,
        {**state, "seconds": None, "sums": None},
        files["best"].meta,
        {
            f"{name}/{group}/{key}": tensor
            for name, checkpoint in files.items()
            for group in ("model", "optimizer", "rng")
            for key, tensor in getattr(checkpoint, group).items()
        },
    )


def assert_same_outcome(folder: Path, other: Path) -> None:
    *plain, tensors = outcome(folder)
    *other_plain, other_tensors = outcome(other)
    assert plain == other_plain
    assert tensors.keys() == other_tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(tensor, other_tensors[name]), name
    assert (folder / "best.safetensors").read_bytes() == (other / "best.safetensors").read_bytes()


class Killed(BaseException):
    """Stands for a kill in the middle of a step."""


def run_with_kills(
    make: Callable[[], nn.Module],
    settings: TrainingSettings,
    folder: Path,
    every: int,
    data: Callable[[], Any] = Data,
) -> int:
    """Train, killed at every so many steps; each start builds the network from scratch."""
    kills = 0
    while True:
        left = every

        def augment(x: Tensor, generator: torch.Generator) -> Tensor:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return x + 0.01 * torch.randn(x.shape, generator=generator)

        try:
            train(make(), replace(data(), augment=augment), settings, folder)
            return kills
        except Killed:
            kills += 1


def additive_network() -> nn.Module:
    return analog_network(noise_model=ReRamWan2022NoiseModel(g_max=40.0))


def read_network() -> nn.Module:
    models = [LogNormalNoiseModel(0.3), ReadNoiseModel(0.05)]
    return analog_network(noise_model=CompositeNoiseModel(models))


def pair_network() -> nn.Module:
    """Each weight has a factor for either sign, and some change it while a chip is held."""
    network = analog_network(noise_model=LogNormalNoiseModel(0.5, per_conductance=True))
    with torch.no_grad():
        for tile in network.analog_tiles():
            tile.tile.weight *= 0.01
    return network


def remapped_network() -> nn.Module:
    """Scales of columns follow the weights after each step."""
    remap = WeightRemapParameter(type=WeightRemapType.CHANNELWISE_SYMMETRIC)
    columns = MappingParameter(weight_scaling_omega=1.0, weight_scaling_columnwise=True)
    return analog_network(remap=remap, mapping=columns)


@pytest.mark.parametrize(
    ("make", "changes"),
    [
        (analog_network, {}),
        (digital_network, {"lipschitz": LipschitzSettings(), "variation": VariationSettings()}),
        (analog_network, {"optimizer": "adam", "lr": 1e-3, "schedule": "onecycle"}),
        (analog_network, {"variation": VariationSettings(enabled=True, steps_per_chip=4)}),
        (analog_network, {"variation": VariationSettings(enabled=True, ramp_epochs=2.3)}),
        (analog_network, {"variation": VariationSettings(enabled=True, least_share=0.1)}),
        (additive_network, {"variation": VariationSettings(enabled=True, steps_per_chip=4)}),
        (read_network, {"variation": VariationSettings(enabled=True, steps_per_chip=4)}),
        (pair_network, {"variation": VariationSettings(enabled=True, steps_per_chip=4)}),
        (remapped_network, {}),
        (analog_network, {"select": "last", "patience": 1, "lr": 1e-9}),
        (analog_network, {"lipschitz": LipschitzSettings(enabled=True, fold_batchnorm=True)}),
    ],
)
def test_kills_at_many_steps_change_nothing(
    tmp_path: Path, make: Callable[[], nn.Module], changes: dict
) -> None:
    settings = replace(SETTINGS, **changes)
    assert run_with_kills(make, settings, tmp_path / "whole", every=1000) == 0
    assert run_with_kills(make, settings, tmp_path / "killed", every=3) >= 3
    assert_same_outcome(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.parametrize("kind", ["loader", "stream"])
def test_kills_of_a_run_on_loaders_change_nothing(tmp_path: Path, kind: str) -> None:
    """An epoch is resumed with the batch that comes next, whatever the samples come from."""

    def data() -> TrainingParts:
        parts = []
        for part in (Data().train, Data().val):
            loader = DataLoader(TensorDataset(part.x, part.y), batch_size=9)
            parts.append(LoaderPart(loader if kind == "loader" else list(loader)))
        return TrainingParts(*parts)

    settings = replace(SETTINGS, epochs=2)
    run_with_kills(analog_network, settings, tmp_path / "whole", every=1000, data=data)
    assert run_with_kills(analog_network, settings, tmp_path / "killed", every=3, data=data) == 3
    assert_same_outcome(tmp_path / "whole", tmp_path / "killed")
    if kind == "loader":  # and all is as with tensors
        run_with_kills(analog_network, settings, tmp_path / "tensors", every=1000)
        assert_same_outcome(tmp_path / "whole", tmp_path / "tensors")


def test_steps_since_the_last_checkpoint_are_done_again(tmp_path: Path) -> None:
    """Checkpoints at epoch ends only; kills two steps later."""
    settings = replace(SETTINGS, checkpoint_seconds=1e9)
    run_with_kills(analog_network, settings, tmp_path / "whole", every=1000)
    assert run_with_kills(analog_network, settings, tmp_path / "killed", every=7) == 2
    assert_same_outcome(tmp_path / "whole", tmp_path / "killed")


def kill(*_: object, **__: object) -> None:
    raise Killed


@pytest.mark.parametrize(
    "moment",
    [
        "trainer.Trainer.start",  # run.json is there, no checkpoint yet
        "trainer.epoch_record",  # after the best weights, before the record
        "trainer.Trainer._standing",  # between two steps
        "journal.append_record",  # after the curves, before the record
        "trainer.EpochSums",  # after the record, before the checkpoint
        "loop.TrainingResult.as_record",  # all epochs done, no result yet
    ],
)
def test_kills_between_two_writes_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    train(analog_network(), Data(), SETTINGS, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(f"cnet_aihw.training.{moment}", kill)
        with pytest.raises(Killed):
            train(analog_network(), Data(), SETTINGS, tmp_path / "killed")
    assert not (tmp_path / "killed" / "result.json").exists()
    train(analog_network(), Data(), SETTINGS, tmp_path / "killed")
    assert_same_outcome(tmp_path / "whole", tmp_path / "killed")


def test_curves_have_no_duplicates_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with monkeypatch.context() as patch:  # the second epoch's curves are there, its record is not
        real, calls, now = journal.append_record, [], time.time()
        # TensorBoard reads files in the order of their seconds
        patch.setattr("tensorboard.summary.writer.event_file_writer.time.time", lambda: now - 9)

        def kill_the_second(*arguments: object) -> None:
            calls.append(arguments)
            if len(calls) == 2:
                raise Killed
            real(*arguments)

        patch.setattr(journal, "append_record", kill_the_second)
        with pytest.raises(Killed):
            train(analog_network(), Data(), SETTINGS, tmp_path)
    train(analog_network(), Data(), SETTINGS, tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    for tag in ("loss/total", "accuracy/chips", "spectral_norm/5"):
        assert [point.step for point in events.Scalars(tag)] == [0, 1, 2]


LONG = replace(SETTINGS, epochs=40, checkpoint_seconds=0.02)
LONG.variation = VariationSettings(enabled=True, steps_per_chip=3)
CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.training.test_resume import LONG, Data, analog_network, train
train(analog_network(), Data(), LONG, Path({folder!r}))
"""


def start(folder: Path) -> subprocess.Popen:
    script = CHILD.format(root=str(Path(__file__).parents[2]), folder=str(folder))
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    return subprocess.Popen([sys.executable, "-c", script], env={**os.environ, **threads})


def test_kill_minus_nine_at_random_moments(tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    checkpoint = folder / "checkpoint.safetensors"
    seed = random.randrange(2**32)
    print("moments from seed", seed)  # shown where the test fails
    moments = random.Random(seed)
    for _ in range(2):
        known = checkpoint.stat().st_mtime_ns if checkpoint.exists() else None
        process = start(folder)
        while not checkpoint.exists() or checkpoint.stat().st_mtime_ns == known:
            assert process.poll() is None
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert not (folder / "result.json").exists()
    train(analog_network(), Data(), LONG, folder)
    train(analog_network(), Data(), LONG, tmp_path / "whole")
    assert_same_outcome(tmp_path / "whole", folder)


def test_two_trainings_at_once_in_one_folder_are_refused(tmp_path: Path) -> None:
    other: list[pytest.ExceptionInfo[CnetError]] = []
    twin = analog_network()

    def augment(x: Tensor, generator: torch.Generator) -> Tensor:
        if not other:  # in the middle of the first training
            with pytest.raises(CnetError) as error:
                train(twin, data, SETTINGS, tmp_path / "a")
            other.append(error.value.key)
        return x

    data = Data(augment=augment)
    train(analog_network(), data, SETTINGS, tmp_path / "a")
    train(analog_network(), data, SETTINGS, tmp_path / "b")
    assert other == ["training"]
    assert_same_outcome(tmp_path / "a", tmp_path / "b")


def test_a_complete_run_is_only_loaded(tmp_path: Path) -> None:
    data, model = Data(), analog_network()
    first = train(model, data, SETTINGS, tmp_path)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    fresh = analog_network()
    assert train(fresh, data, SETTINGS, tmp_path) == first
    assert all(torch.equal(snapshot(model)[name], t) for name, t in snapshot(fresh).items())
    assert not fresh.training
    assert train(model, data, SETTINGS, tmp_path) == first  # with its own result in the model
    assert train(model, data, replace(SETTINGS, checkpoint_seconds=9.0), tmp_path) == first
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == files


def test_after_an_interruption_the_same_model_goes_on(tmp_path: Path) -> None:
    model, stop = analog_network(), [7]

    def augment(x: Tensor, generator: torch.Generator) -> Tensor:
        stop[0] -= 1
        if stop[0] == 0:
            raise KeyboardInterrupt
        return x

    data = Data(augment=augment)
    with pytest.raises(KeyboardInterrupt):
        train(model, data, SETTINGS, tmp_path / "a")
    checkpoint = load_checkpoint(tmp_path / "a" / "checkpoint.safetensors")
    assert all(torch.equal(t, checkpoint.model[name]) for name, t in snapshot(model).items())
    assert not model.training
    train(model, data, SETTINGS, tmp_path / "a")
    train(analog_network(), data, SETTINGS, tmp_path / "b")
    assert_same_outcome(tmp_path / "a", tmp_path / "b")


def other_weights() -> nn.Module:
    model = analog_network()
    with torch.no_grad():
        model[1].weight.add_(0.1)
    return model


def other_network() -> nn.Module:
    model = analog_network()
    model[3] = nn.Identity()
    return model


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"settings": replace(SETTINGS, epochs=4)}, "training.epochs"),
        ({"settings": replace(SETTINGS, lr=0.01)}, "training.lr"),
        (
            {"settings": replace(SETTINGS, variation=VariationSettings())},
            "training.variation.enabled",
        ),
        (
            {"settings": replace(SETTINGS, variation=VariationSettings(True, ramp_epochs=1.0))},
            "training.variation.ramp_epochs",
        ),
        ({"data": Data(fingerprint="other")}, "data.fingerprint"),
        ({"data": Data(augment=lambda x, g: x)}, "data.augment"),
        ({"data": Data(augment=CropFlip([0.0], crop=1))}, "data.augment"),
        ({"objective": lambda logits, y, x: logits.square().mean()}, "objective"),
        (
            {"model": analog_network(variation=VariationParameter(t_inference=60.0))},
            "model.injected",
        ),
        ({"model": other_network()}, "model.network"),
        ({"model": additive_network()}, "model.hardware"),
        ({"model": other_weights()}, "initial_weights"),
        ({"task": Classification(0.1)}, "task.label_smoothing"),
        ({"calibration": AffineCorrection(Data().train.x[:8])}, "calibration"),
    ],
)
def test_a_folder_of_another_run_is_refused(tmp_path: Path, change: dict, named: str) -> None:
    train(analog_network(), Data(), SETTINGS, tmp_path)
    arguments = {"model": analog_network(), "data": Data(), "settings": SETTINGS, **change}
    with pytest.raises(CnetError) as error:
        train(**arguments, folder=tmp_path)
    assert error.value.key == named


def test_what_is_trained_on_what_under_which_noise_belongs_to_a_run(tmp_path: Path) -> None:
    frozen, data, settings = analog_network(), Data(), replace(SETTINGS, epochs=1)
    frozen[1].requires_grad_(False)
    train(analog_network(), data, settings, tmp_path)
    scaled = replace(data, train=replace(data.train, x=2.0 * data.train.x))
    noise = replace(settings.variation, noise_model=LogNormalNoiseModel(0.1))
    for change, named in (
        ({"model": frozen}, "model.trained_parameters"),
        ({"data": scaled}, "data.normalization"),
        ({"settings": replace(settings, variation=noise)}, "training.variation.noise_model"),
    ):
        arguments = {"model": analog_network(), "data": data, "settings": settings, **change}
        with pytest.raises(CnetError) as error:
            train(**arguments, folder=tmp_path)
        assert error.value.key == named


def test_other_settings_of_an_augmentation_or_a_modifier_are_another_run(tmp_path: Path) -> None:
    modified = {
        std: WeightModifierParameter(type=WeightModifierType.ADD_NORMAL, std_dev=std)
        for std in (0.01, 5.0)
    }
    data = {crop: Data(augment=CropFlip([0.0], crop=crop)) for crop in (1, 2)}
    train(analog_network(modifier=modified[0.01]), data[1], SETTINGS, tmp_path)
    with pytest.raises(CnetError) as error:
        train(analog_network(modifier=modified[0.01]), data[2], SETTINGS, tmp_path)
    assert error.value.key == "data.augment"
    with pytest.raises(CnetError) as error:
        train(analog_network(modifier=modified[5.0]), data[1], SETTINGS, tmp_path)
    assert error.value.key == "model.injected"
    train(analog_network(modifier=modified[0.01]), data[1], SETTINGS, tmp_path)


def shifted(x: Tensor, generator: torch.Generator, by: float = 0.0) -> Tensor:
    return x + by


class Shift:
    def __init__(self, by: float) -> None:
        self.by = by

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return x + self.by

    def shifted(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return x + self.by


class Each:
    def __init__(self, *parts: Any) -> None:
        self.parts = parts


@pytest.mark.parametrize(
    "make",
    [
        lambda by: partial(shifted, by=by),
        lambda by: partial(shifted, Shift(by), by=3),
        lambda by: Shift(by).shifted,
        lambda by: Each(shifted, Shift(by)),
        lambda by: Each([Each({"a": partial(shifted, by=by)})]),
    ],
)
def test_an_augmentation_is_known_by_all_that_it_is_made_of(make: Callable[[float], Any]) -> None:
    """And by nothing that another process would change, such as a place in memory."""

    def known(by: float) -> str:
        data = Data(augment=make(by))
        described = run_provenance(
            digital_network(), data, {"val": as_part(data.val)}, SETTINGS, task=Classification(),
            calibration=None, objective=make(by), device=torch.device("cpu"), analog=False,
        )  # fmt: skip
        assert described["objective"] == described["data"]["augment"]
        return described["objective"]

    assert known(1.0) == known(1.0) != known(2.0)
    assert "0x" not in known(1.0)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (nn.MultiheadAttention, {"dropout": 0.5}),
        (nn.MultiheadAttention, {"batch_first": True}),
        (nn.MultiheadAttention, {"add_zero_attn": True}),
        (nn.LSTM, {"num_layers": 2, "dropout": 0.5}),
        (nn.GRU, {"num_layers": 2, "batch_first": True}),
        (nn.RNN, {"num_layers": 2, "nonlinearity": "relu"}),
    ],
)
def test_networks_taken_apart_are_known_by_settings_without_weights(
    kind: Any, changes: dict[str, Any]
) -> None:
    given = {"num_layers": 2} if "num_layers" in changes else {}
    texts = [
        describe_network(convert_to_analog(nn.Sequential(kind(4, 2, **one))))
        for one in (given, given, changes)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_a_run_of_another_format_is_refused(tmp_path: Path) -> None:
    train(analog_network(), Data(), SETTINGS, tmp_path)
    kept = read_json(tmp_path / "run.json")
    old = {"identity": kept["provenance"], **{n: kept[n] for n in ("initial_weights", "lambda")}}
    for content in (old, {**kept, "format": 3}):
        write_json_atomic(tmp_path / "run.json", content)
        with pytest.raises(CnetError) as error:
            train(analog_network(), Data(), SETTINGS, tmp_path)
        assert (error.value.key, error.value.expected) == ("format", 2)


def test_a_run_on_another_kind_of_device_is_another_run(tmp_path: Path) -> None:
    train(analog_network(), Data(), SETTINGS, tmp_path)
    kept = read_json(tmp_path / "run.json")
    for key, other in (("device", "cuda"), ("tf32", True)):
        changed = {**kept, "provenance": {**kept["provenance"], key: other}}
        write_json_atomic(tmp_path / "run.json", changed)
        with pytest.raises(CnetError) as error:
            train(analog_network(), Data(), SETTINGS, tmp_path)
        assert (error.value.key, error.value.expected) == (key, other)


def test_files_of_unknown_origin_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "epochs.jsonl").write_text('{"epoch": 0}\n')
    with pytest.raises(CnetError) as error:
        train(analog_network(), Data(), SETTINGS, tmp_path)
    assert (error.value.key, error.value.value) == ("folder", "epochs.jsonl")
    assert (tmp_path / "epochs.jsonl").read_text() == '{"epoch": 0}\n'


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    for read in (load_checkpoint, lambda path: load_compensation(analog_network(), path)):
        with pytest.raises(CnetError, match="does not exist") as error:
            read(path)
        assert error.value.key == str(path)


@pytest.mark.parametrize("content", [b"", b"garbage", b"torn"])
def test_a_damaged_checkpoint_is_said_so(tmp_path: Path, content: bytes) -> None:
    run = replace(SETTINGS, epochs=1)
    train(analog_network(), Data(), run, tmp_path)
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:5000] if content == b"torn" else content)
    (tmp_path / "result.json").unlink()
    with pytest.raises(CnetError) as error:
        train(analog_network(), Data(), run, tmp_path)
    assert error.value.key == str(path)


DAMAGES = {
    "no JSON": lambda lines: [lines[0], b"garbage\n", lines[2]],
    "no epoch": lambda lines: [lines[0], b"{}\n", lines[2]],
    "no loss": lambda lines: [lines[0], b'{"epoch": 1}\n', lines[2]],
    "a line missing": lambda lines: [lines[0], lines[2]],
    "a line twice": lambda lines: [lines[0], lines[1], lines[1], lines[2]],
    "the last line torn": lambda lines: [*lines[:2], lines[2][:20]],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_course_of_a_finished_run_is_noticed(tmp_path: Path, damage: str) -> None:
    """And following the advice works: without the file, or with a training from scratch."""
    result = train(analog_network(), Data(), SETTINGS, tmp_path / "run")
    path = tmp_path / "run" / "epochs.jsonl"
    whole = path.read_bytes()
    path.write_bytes(b"".join(DAMAGES[damage](whole.splitlines(keepends=True))))
    with pytest.raises(CnetError) as error:
        train(analog_network(), Data(), SETTINGS, tmp_path / "run")
    assert error.value.key == str(path) and error.value.fix
    path.unlink()
    assert train(analog_network(), Data(), SETTINGS, tmp_path / "run") == result


def test_a_result_without_its_values_is_damaged(tmp_path: Path) -> None:
    result = train(analog_network(), Data(), SETTINGS, tmp_path / "run")
    (tmp_path / "run" / "result.json").write_text("{}\n")
    with pytest.raises(CnetError, match=r"^result\.json in .* is damaged: .* delete the folder"):
        train(analog_network(), Data(), SETTINGS, tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
    again = train(analog_network(), Data(), SETTINGS, tmp_path / "run")
    assert replace(again, seconds=result.seconds) == result


def test_a_damaged_course_is_noticed_before_a_killed_run_resumes(tmp_path: Path) -> None:
    train(analog_network(), Data(), SETTINGS, tmp_path)
    (tmp_path / "result.json").unlink()
    path = tmp_path / "epochs.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[2])
    kept = path.read_bytes()
    given = analog_network(), Data(), SETTINGS, tmp_path
    rest: dict[str, Any] = {"task": Classification(), "calibration": None, "processes": 1}
    with pytest.raises(CnetError) as early:  # as a job does before its first step
        check_begun(*given, **rest, device="cpu")
    with pytest.raises(CnetError) as error:
        train(*given)
    assert early.value.key == error.value.key == str(path)
    assert path.read_bytes() == kept


def test_a_course_that_was_deleted_on_the_way_may_begin_with_the_epoch_that_was_killed(
    tmp_path: Path,
) -> None:
    path = tmp_path / "epochs.jsonl"
    line = '{"epoch": %d, "loss": 0.5}\n'
    path.write_text(line % 2)
    assert read_epochs(path, 2) == []
    path.write_text(line % 2 + line % 3)
    assert [record["epoch"] for record in read_epochs(path, 3)] == [2]
    for epochs in (1, 5):  # one is missing, before or behind
        with pytest.raises(CnetError):
            read_epochs(path, epochs)


@pytest.mark.parametrize("finished", [True, False])
def test_selected_weights_that_are_gone_are_said_so_with_a_fix(
    tmp_path: Path, finished: bool
) -> None:
    folder = tmp_path / "run"
    train(analog_network(), Data(), SETTINGS, folder)
    best = (folder / "best.safetensors").read_bytes()
    (folder / "best.safetensors").unlink()
    if not finished:
        (folder / "result.json").unlink()
    with pytest.raises(CnetError) as error:
        train(analog_network(), Data(), SETTINGS, folder)
    assert error.value.key == str(folder / "best.safetensors")
    assert str(folder) in str(error.value.fix)  # which is to be deleted
    shutil.rmtree(folder)
    train(analog_network(), Data(), SETTINGS, folder)
    assert (folder / "best.safetensors").read_bytes() == best
