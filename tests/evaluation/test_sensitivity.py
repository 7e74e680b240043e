"""Scans over layers: against plain torch, the same with and without replay, and the candidates."""

import copy
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from aihwkit.inference import ReRamWan2022NoiseModel
from aihwkit.nn import AnalogLinear
from aihwkit.simulator.configs import InferenceRPUConfig, IOParameters
from torch import Tensor, nn

from cnet_aihw.evaluation import (
    LayerRow,
    LayerScan,
    candidate_layers,
    evaluate_chips,
    scan_layers,
    score,
)
from cnet_aihw.evaluation.activation_cache import ActivationCache, trace_calls
from cnet_aihw.rram import (
    LayerWrapper,
    LogNormalNoiseModel,
    RRAMConv2d,
    RRAMLinear,
    RRAMRPUConfig,
    analog_layers,
    convert_to_analog,
    effective_weights,
    periphery,
    program,
    programmed,
    snapshot,
)
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.locks import alone
from cnet_aihw.runtime.random_state import derive_seed
from cnet_aihw.runtime.records import read_records

Data = tuple[Tensor, Tensor]
ORDER = ["stem", "branch", "twice", "late", "fc"]


class Net(nn.Module):
    """Branches, changes in place, a layer called twice, one never; registered out of order."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(64, 3)
        self.unused = nn.Linear(3, 3)
        self.twice = nn.Conv2d(4, 4, 3, padding=1)
        self.late = nn.Conv2d(4, 4, 3, padding=1)
        self.branch = nn.Conv2d(4, 4, 1)
        self.norm = nn.BatchNorm2d(4)
        self.stem = nn.Conv2d(1, 4, 3)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        stem = self.act(self.stem(x))
        side = self.branch(stem)
        y = self.act(self.norm(self.twice(stem)))
        y = self.twice(y).add_(side)
        y = self.act(self.late(y)) + stem
        return self.fc(y.flatten(1))


@pytest.fixture
def digital() -> nn.Module:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture
def model(digital: nn.Module) -> nn.Module:
    return convert_to_analog(digital, RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.8)))


@pytest.fixture
def data(digital: nn.Module) -> Data:
    x = torch.randn(90, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return x, digital(x).argmax(1)


@contextmanager
def computations() -> Iterator[Counter]:
    """Count real computations of analog layers, by the number of their weights."""
    counts: Counter = Counter()
    with pytest.MonkeyPatch.context() as patch:
        for kind in (RRAMConv2d, RRAMLinear, AnalogLinear):

            def counted(self, x, forward=kind.forward):
                counts[id(self)] += 1
                return forward(self, x)

            patch.setattr(kind, "forward", counted)
        yield counts


@pytest.mark.parametrize("mode", ["suffix", "single"])
def test_each_row_is_plain_torch_with_chip_weights_in_those_layers(
    digital: nn.Module, model: nn.Module, data: Data, mode: str
) -> None:
    scan = scan_layers(model, data, mode=mode, chips=3, seed=4, batch_size=40)
    assert [row.name for row in scan.rows] == ORDER
    assert [row.index for row in scan.rows] == [0, 1, 2, 3, 4]
    assert scan.clean == score(digital, data) == 1.0
    nominal = {name: p.clone() for name, p in digital.state_dict().items()}
    for index, row in enumerate(scan.rows):
        varied = ORDER[index:] if mode == "suffix" else [row.name]
        for chip in range(3):
            with programmed(model, derive_seed(4, chip)):
                weights = effective_weights(model)
            digital.load_state_dict(nominal)
            with torch.no_grad():
                for name in varied:
                    weight = digital.get_submodule(name).weight
                    weight.copy_(weights[name].view_as(weight))
            assert row.scores[chip] == pytest.approx(score(digital, data), abs=1e-6)
    assert len({row.scores for row in scan.rows}) == len(ORDER)


@pytest.mark.parametrize("forward", [periphery(), periphery(out_noise=0.3), periphery(adc_bits=6)])
def test_first_row_of_a_suffix_scan_is_the_evaluation_of_chips(
    digital: nn.Module, data: Data, forward: object
) -> None:
    config = RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.8), forward=forward)
    model = convert_to_analog(digital, config)
    result = evaluate_chips(model, data, chips=4, seed=2, batch_size=40)
    scan = scan_layers(model, data, chips=4, seed=2, batch_size=40)
    first = scan.rows[0]
    assert first.scores == result.scores
    assert (first.mean, first.std, first.ci95) == (result.mean, result.std, result.ci95)
    assert scan.clean == result.clean and first.chips == 4
    assert first.relative == result.mean / result.clean


def losses(path: Path) -> list[tuple]:
    return [(r["layer"], r["chip"], r["score"], r["loss"]) for r in read_records(path)]


@pytest.mark.parametrize("mode", ["suffix", "single"])
@pytest.mark.parametrize(
    "forward",
    [periphery(), periphery(out_noise=0.3), periphery(dac_bits=7, adc_bits=7)],
    ids=["perfect", "noisy", "quantised"],
)
def test_replay_changes_nothing(
    digital: nn.Module, data: Data, tmp_path: Path, mode: str, forward: object
) -> None:
    """Also not the last bit of a loss, whatever part of the outputs the memory holds."""
    config = RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.8), forward=forward)
    model = convert_to_analog(digital, config)
    measured, counts = [], []
    for memory in (0, 30_000, 60_000, 2**30):
        path = tmp_path / f"{memory}.jsonl"
        with computations() as counted:
            scan_layers(
                model, data, mode=mode, chips=2, batch_size=40, cache_bytes=memory, records=path
            )
        measured.append(losses(path))
        counts.append(counted.total())
    assert len(measured[0]) == 10 and all(m == measured[0] for m in measured)
    noisy = not forward.is_perfect and forward.out_noise > 0
    assert counts == sorted(counts, reverse=True)
    assert len(set(counts)) == (1 if noisy else 4)


@pytest.mark.parametrize("mode", ["suffix", "single"])
def test_clean_layers_are_not_computed_again(model: nn.Module, data: Data, mode: str) -> None:
    chips, batches = 3, 3
    with computations() as counts:
        scan_layers(model, data, mode=mode, chips=chips, batch_size=40)
    layers = analog_layers(model)
    # calls of each layer in a measurement that begins with the first call of another
    calls = {"stem": 1, "branch": 1, "twice": 2, "late": 1, "fc": 1}
    expected = {}
    for index, name in enumerate(ORDER):
        measurements = chips * (index + 1)  # those whose first varied layer is not behind this one
        expected[name] = calls[name] * (1 + batches + batches * measurements)
    assert {name: counts[id(layers[name])] for name in ORDER} == expected
    assert counts[id(layers["unused"])] == 0


def test_calls_after_the_first_varied_layer_are_computed(digital: nn.Module, data: Data) -> None:
    """A layer that comes again behind a varied one gets other inputs there."""

    class Again(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.fc = nn.Linear(36, 36), nn.Linear(36, 36), nn.Linear(36, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.a(F.relu(self.b(F.relu(self.a(x.flatten(1)))))))

    model = convert_to_analog(Again(), RRAMRPUConfig())
    with computations() as counts:
        fast = scan_layers(model, data, mode="single", chips=2)
    # trace, clean, and of 2 chips: a varied 2 x 2 calls, b varied 1 call, fc varied none
    assert counts[id(model.a)] == 2 + 2 + 2 * (2 + 1 + 0)
    assert scan_layers(model, data, mode="single", chips=2, cache_bytes=0) == fast


def test_scan_extends_and_goes_on_after_a_kill(
    model: nn.Module, data: Data, tmp_path: Path
) -> None:
    path = tmp_path / "scan.jsonl"
    whole = scan_layers(model, data, chips=4)
    scan_layers(model, data, chips=2, records=path)
    first = path.read_text()
    assert scan_layers(model, data, chips=4, records=path) == whole
    assert path.read_text().startswith(first) and len(read_records(path)) == 20
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:4], *lines[8:19], lines[19][:30]]))  # with the header
    assert scan_layers(model, data, chips=4, records=path) == whole
    assert {(r["layer"], r["chip"]) for r in read_records(path)} == {
        (name, chip) for name in ORDER for chip in range(4)
    }
    assert len(read_records(path)) == 20
    with computations() as counts:  # nothing but the trace and the clean pass is left to do
        assert scan_layers(model, data, chips=4, records=path) == whole
    assert counts[id(model.fc)] == 2
    record = read_records(path)[0]
    assert record["layer"] == "fc" and record["index"] == 4  # the last layers come first
    assert record["seed"] == derive_seed(0, 0) and record["seconds"] > 0


def test_records_of_a_scan_have_one_writer_at_a_time(
    model: nn.Module, data: Data, tmp_path: Path
) -> None:
    path = tmp_path / "scan.jsonl"
    with (
        alone(tmp_path, "scan.jsonl", "another measurement"),
        pytest.raises(CnetError) as error,
    ):
        scan_layers(model, data, chips=1, records=path)
    assert error.value.key == "scan.jsonl" and not path.exists()


def test_records_are_not_mixed(model: nn.Module, data: Data, tmp_path: Path) -> None:
    path = tmp_path / "scan.jsonl"
    scan_layers(model, data, chips=1, records=path)
    for arguments, named in (
        ({"mode": "single"}, "scan.mode"),
        ({"seed": 1}, "seed"),
        ({"noise_model": LogNormalNoiseModel(0.1)}, "noise_model"),
    ):
        with pytest.raises(CnetError) as error:
            scan_layers(model, data, chips=2, records=path, **arguments)
        assert error.value.key == named
    with pytest.raises(CnetError) as error:
        evaluate_chips(model, data, chips=1, records=path)
    assert error.value.key == "scan"
    assert len(read_records(path)) == 5


def test_drift_time_is_kept_apart(digital: nn.Module, data: Data, tmp_path: Path) -> None:
    path = tmp_path / "scan.jsonl"
    noise = ReRamWan2022NoiseModel(g_max=40.0)
    model = convert_to_analog(digital, RRAMRPUConfig(noise_model=noise))
    scan = scan_layers(model, data, chips=2, t_inference=86400, records=path)
    assert scan.rows[0].scores == (evaluate_chips(model, data, chips=2, t_inference=86400.0).scores)
    assert scan_layers(model, data, chips=2, t_inference=86400.0, records=path) == scan
    scan_layers(model, data, chips=2, t_inference=1.0, records=path)
    assert len(read_records(path)) == 20 and scan.t_inference == 86400.0


class Interrupting(nn.Module):
    """Raises at its n-th forward pass."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.left = at

    def forward(self, x: Tensor) -> Tensor:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return x


@pytest.mark.parametrize("at", [1, 2, 4, 10_000])  # tracing, clean pass, a chip, never
def test_nothing_is_left_behind(digital: nn.Module, data: Data, at: int) -> None:
    network = nn.Sequential(digital, Interrupting(at))
    model = convert_to_analog(network, RRAMRPUConfig())
    layers = analog_layers(model)
    own = layers["0.fc"].__dict__["forward"] = layers["0.fc"].forward  # one that a user has put in
    model.train()
    layers["0.stem"].eval()
    before, modes = snapshot(model), [m.training for m in model.modules()]
    random_state = torch.get_rng_state()
    if at < 100:
        with pytest.raises(KeyboardInterrupt):
            scan_layers(model, data, chips=2)
    else:
        scan_layers(model, data, chips=2)
    after = snapshot(model)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random_state)
    for name, layer in layers.items():
        assert layer.__dict__.get("forward") is (own if name == "0.fc" else None)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


class Wrapper(LayerWrapper):
    """Something digital behind the layer, in place."""

    def forward(self, x: Tensor) -> Tensor:
        return self.base_layer(x).tanh_()


def test_wrapped_layers_keep_their_names_and_are_replayed(model: nn.Module, data: Data) -> None:
    model.stem, model.late = Wrapper(model.stem), Wrapper(model.late)
    with computations() as counts:
        fast = scan_layers(model, data, chips=2)
    assert [row.name for row in fast.rows] == ORDER
    assert counts[id(model.late.base_layer)] == 2 + 2 * 4
    assert scan_layers(model, data, chips=2, cache_bytes=0) == fast


def test_a_model_that_is_one_layer() -> None:
    model = convert_to_analog(nn.Sequential(nn.Linear(4, 2)), RRAMRPUConfig())[0]
    x = torch.randn(10, 4)
    scan = scan_layers(model, (x, torch.arange(10) % 2), chips=2, batch_size=4)
    assert [row.name for row in scan.rows] == [""]


def test_noise_of_the_simulators_own_tiles_is_not_replayed(data: Data) -> None:
    """Torch's random state does not know of it."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, 3))
    for forward, replayed in ((IOParameters(is_perfect=True), 2), (IOParameters(), 0)):
        config = InferenceRPUConfig(forward=forward, noise_model=LogNormalNoiseModel(0.5))
        model = convert_to_analog(copy.deepcopy(net), config)
        with computations() as counts:
            scan_layers(model, data, chips=2)
        assert counts[id(model[1])] == 2 + 4 - replayed  # trace, clean, 2 chips of 2 measurements


def test_kept_outputs_are_as_many_batches_as_the_memory_allows() -> None:
    model = convert_to_analog(nn.Sequential(nn.Linear(36, 36), nn.Linear(36, 36)), RRAMRPUConfig())
    x = torch.randn(10, 36)
    calls, size = trace_calls(model, x), 10 * 36 * 4
    cache = ActivationCache(calls, {0: 1, 1: 2}, batches=3, limit=5 * size - 1)
    with cache.recorded(model), torch.no_grad():
        for _ in range(3):
            model(x)
    kept = sorted((call, batch) for batch, call in cache._kept)
    assert kept == [(0, 0), (1, 0), (1, 1), (1, 2)]
    assert all(output.nbytes == size for _, output in cache._kept.values())


def test_a_random_digital_part_is_not_replayed(data: Data) -> None:
    """Outputs behind something random differ from pass to pass, and what drew before it does."""

    class Dither(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.randn_like(x)

    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(36, 8), Dither(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)
    )
    model = convert_to_analog(net, RRAMRPUConfig())
    with computations() as counts:
        fast = scan_layers(model, data, chips=2)
    assert counts[id(model[1])] == 2 + 2  # in front of it: replayed
    assert counts[id(model[3])] == 2 + 6  # behind it: computed
    assert scan_layers(model, data, chips=2, cache_bytes=0) == fast


def test_rows_are_ready_to_plot(model: nn.Module, data: Data) -> None:
    scan = scan_layers(model, data, chips=3, seed=1)
    rows = json.loads(json.dumps(scan.as_rows(), allow_nan=False))
    assert [row["layer"] for row in rows] == ORDER
    for row, source in zip(rows, scan.rows, strict=True):
        assert (row["ci95_low"], row["ci95_high"]) == source.ci95
        assert row["ci95_low"] < row["mean"] < row["ci95_high"]
        assert (row["mode"], row["chips"], row["seed"], row["clean"]) == ("suffix", 3, 1, 1.0)
        assert row["relative"] == row["mean"] == source.mean and row["std"] == source.std
    one = scan_layers(model, data, chips=1).as_rows()[0]
    assert one["std"] is None and one["ci95_low"] is None


def made(mode: str, means: list[float], clean: float) -> LayerScan:
    rows = [
        LayerRow(f"l{i}", i, (mean,), 1, mean, None, None, mean / clean)
        for i, mean in enumerate(means)
    ]
    return LayerScan(mode, clean, tuple(rows), 0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mode", "means", "threshold", "expected"),
    [
        ("suffix", [0.2, 0.5, 0.7, 0.79], 0.95, ["l0", "l1", "l2"]),
        ("suffix", [0.2, 0.5, 0.7, 0.79], 0.8, ["l0", "l1"]),
        ("suffix", [0.2, 0.78, 0.7, 0.79], 0.95, ["l0", "l1", "l2"]),  # not monotonic
        ("suffix", [0.78, 0.78, 0.78, 0.79], 0.95, []),
        ("suffix", [0.1, 0.1, 0.1, 0.1], 0.95, ["l0", "l1", "l2", "l3"]),
        ("suffix", [0.75, 0.8, 0.8, 0.8], 0.9375, []),  # at the threshold is not under it
        ("single", [0.7, 0.78, 0.5, 0.79], 0.95, ["l0", "l2"]),
        ("single", [0.8, 0.8], 0.95, []),
    ],
)
def test_candidates(mode: str, means: list[float], threshold: float, expected: list[str]) -> None:
    assert candidate_layers(made(mode, means, clean=0.8), threshold) == tuple(expected)


@pytest.mark.parametrize("threshold", [0.0, 1.5, -1.0, 95])
def test_impossible_thresholds(threshold: float) -> None:
    with pytest.raises(CnetError) as error:
        candidate_layers(made("single", [0.5], 1.0), threshold)
    assert (error.value.key, error.value.value) == ("threshold", threshold)


def test_sensitivity_is_what_the_score_loses() -> None:
    scan = made("single", [0.7, 0.5], clean=0.8)
    assert scan.sensitivity() == pytest.approx({"l0": 0.1, "l1": 0.3})
    errors = replace(scan, metric="RMSE", higher_is_better=False, clean=0.4)
    assert errors.sensitivity() == pytest.approx({"l0": 0.3, "l1": 0.1})


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"mode": "prefix"}, "mode"),
        ({"chips": 0}, "evaluation.chips"),
        ({"t_inference": [1.0, 2.0]}, "t_inference"),
        ({"cache_bytes": -1}, "cache_bytes"),
    ],
)
def test_mistakes(model: nn.Module, data: Data, arguments: dict, key: str) -> None:
    with pytest.raises(CnetError) as error:
        scan_layers(model, data, **{"chips": 1, **arguments})
    assert error.value.key == key


def test_a_chip_that_is_programmed_changes_nothing(
    digital: nn.Module, model: nn.Module, data: Data
) -> None:
    with pytest.raises(CnetError, check=lambda e: e.key == "model"):
        scan_layers(digital, data, chips=1)
    expected = scan_layers(model, data, chips=1)
    program(model, 1)
    chip = effective_weights(model)
    assert scan_layers(model, data, chips=1) == expected
    assert all(torch.equal(w, chip[name]) for name, w in effective_weights(model).items())
