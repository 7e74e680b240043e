"""Chips on workers: the same records as in one process, whatever their order."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from aihwkit.simulator.configs import InferenceRPUConfig
from torch import Tensor, nn

from cnet_aihw.cluster import RaySettings
from cnet_aihw.compensation import LowRank, PerChipFit, Placement, WithCompensation
from cnet_aihw.evaluation import BatchNormReestimation, evaluate_chips, scan_layers
from cnet_aihw.evaluation.chip_run import measuring
from cnet_aihw.rram import LogNormalNoiseModel, RRAMRPUConfig, convert_to_analog, periphery
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.records import read_records

from ..cluster.pretended import Shuffled

Data = tuple[Tensor, Tensor]
TWO = RaySettings(workers=2)
DEVICE = LogNormalNoiseModel(0.6)


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch) -> list[Shuffled]:
    monkeypatch.setattr("cnet_aihw.cluster.workers.Workers", Shuffled)
    monkeypatch.setattr(Shuffled, "started", [])
    return Shuffled.started


def network(config: InferenceRPUConfig) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)]
    return convert_to_analog(nn.Sequential(*layers), config)


@pytest.fixture
def data() -> Data:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(60, 1, 6, 6, generator=generator)
    return x, torch.randint(3, (60,), generator=generator)


def records_of(path: Path) -> list[dict[str, Any]]:
    """Records without what a clock says, in the order of layers and chips."""
    found = [
        {**{k: v for k, v in record.items() if k != "seconds"}, "calibration_cost": None}
        for record in read_records(path)
    ]
    key = ("index", "chip", "t_inference")
    return sorted(found, key=lambda record: [record.get(name) or 0 for name in key])


def fitted(x: Tensor) -> WithCompensation:
    return WithCompensation(Placement({"0": "size 1", "4": "size 1"}), LowRank(), PerChipFit(x))


@pytest.mark.parametrize(
    ("forward", "calibrate"),
    [
        (None, lambda x: None),
        (periphery(out_noise=0.2), lambda x: None),
        (None, BatchNormReestimation),
        (None, fitted),
    ],
    ids=["plain", "noisy periphery", "batchnorm", "per-chip fit"],
)
def test_workers_measure_the_same_bit_for_bit(
    data: Data, tmp_path: Path, started: list[Shuffled], forward: Any, calibrate: Callable[..., Any]
) -> None:
    config = RRAMRPUConfig(noise_model=DEVICE, **({} if forward is None else {"forward": forward}))
    model, calibration = network(config), calibrate(data[0][:32])
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    given = {"chips": 5, "batch_size": 25, "calibration": calibration, "device": "cpu"}
    before = torch.get_rng_state()
    alone = evaluate_chips(model, data, records=one, **given)
    assert evaluate_chips(model, data, records=two, ray=TWO, **given) == alone
    assert records_of(one) == records_of(two)
    assert [record["chip"] for record in read_records(two)] != [0, 1, 2, 3, 4]
    assert torch.equal(torch.get_rng_state(), before)
    assert [pool.settings.workers for pool in started] == [2]


def test_one_file_is_extended_by_either(
    data: Data, tmp_path: Path, started: list[Shuffled]
) -> None:
    model, path = network(RRAMRPUConfig(noise_model=DEVICE)), tmp_path / "chips.jsonl"
    whole = evaluate_chips(model, data, chips=6, device="cpu")
    evaluate_chips(model, data, chips=3, device="cpu", records=path, ray=TWO)
    evaluate_chips(model, data, chips=4, device="cpu", records=path, ray=TWO)  # one more: here
    assert len(started) == 1
    evaluate_chips(model, data, chips=5, device="cpu", records=path)
    assert evaluate_chips(model, data, chips=6, device="cpu", records=path, ray=TWO) == whole
    assert evaluate_chips(model, data, chips=6, device="cpu", records=path, ray=TWO) == whole
    assert len(started) == 1 and len(read_records(path)) == 6


@pytest.mark.parametrize("mode", ["suffix", "single"])
@pytest.mark.parametrize("cache_bytes", [0, 2**30])
def test_workers_scan_the_same_bit_for_bit(
    data: Data, tmp_path: Path, started: list[Shuffled], mode: Any, cache_bytes: int
) -> None:
    model = network(RRAMRPUConfig(noise_model=DEVICE))
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    given: dict[str, Any] = {"mode": mode, "chips": 3, "batch_size": 25, "device": "cpu"}
    alone = scan_layers(model, data, records=one, **given)
    spread = scan_layers(model, data, records=two, ray=TWO, cache_bytes=cache_bytes, **given)
    assert spread == alone
    assert records_of(one) == records_of(two)
    assert [pool.name for pool in started] == [f"scan-{mode}"]


def test_what_is_sent_is_what_is_measured(data: Data, started: list[Shuffled]) -> None:
    """Inside another measurement's block the model has moved; workers get it nevertheless."""
    model = network(RRAMRPUConfig(noise_model=DEVICE))
    with measuring(model, torch.device("cpu")):
        found = evaluate_chips(model, data, chips=3, device="cpu", ray=TWO)
    assert found == evaluate_chips(model, data, chips=3, device="cpu")


@pytest.mark.parametrize(
    ("ray", "key"),
    [(RaySettings(workers=-1), "ray.workers"), (RaySettings(cpus_per_worker=0), "ray.cpus_per_w")],
)
def test_impossible_settings_are_refused_before_any_work(
    data: Data, started: list[Shuffled], ray: RaySettings, key: str
) -> None:
    model = network(RRAMRPUConfig(noise_model=DEVICE))
    for measure in (evaluate_chips, scan_layers):
        with pytest.raises(CnetError) as error:
            measure(model, data, chips=2, device="cpu", ray=ray)  # type: ignore[operator]
        assert str(error.value.key).startswith(key)
    assert started == []
