"""The study of kernels: killed and resumed, its baselines, its refusals."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.kernel_ridge import KernelRidge

from cnet_aihw.kernels import KernelSettings, kernel_ridge_accuracy, measure_kernels
from cnet_aihw.rram import LogNormalNoiseModel, ReadNoiseModel, RRAMRPUConfig, periphery
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.records import read_records


def part(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(n, 4, generator=torch.Generator().manual_seed(seed))
    return x, (x[:, 0] * x[:, 1] > 0).long()


TRAIN, TEST = part(80, 0), part(40, 1)


def study(folder: Path, config: Any = None, **given: Any) -> dict[str, Any]:
    settings = KernelSettings(**{"log2_ratio": [2.0], "seeds": 2, "kernel_samples": 20, **given})
    config = config or RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.5))
    return measure_kernels(TRAIN, TEST, 2, settings, config, folder, chips=2, device="cpu")


def records(folder: Path) -> dict[str, Any]:
    return {
        path.name: [{k: v for k, v in r.items() if k != "seconds"} for r in read_records(path)]
        for path in folder.glob("*.jsonl")
    }


def test_a_killed_study_ends_as_an_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = study(tmp_path / "whole")
    fsync, runs = os.fsync, 0
    while runs < 40:
        runs, left = runs + 1, [2]  # each run is stopped at its third write

        def stopped(descriptor: int, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", stopped)
        try:
            found = study(tmp_path / "killed")
            break
        except KeyboardInterrupt:
            monkeypatch.setattr(os, "fsync", fsync)
            path = max((tmp_path / "killed").glob("*.jsonl"), key=lambda p: p.stat().st_mtime_ns)
            with path.open("ab") as file:  # a line that was being written
                file.write(b'{"chip": 1, "sco')
    assert runs > 3
    assert found == wanted
    assert records(tmp_path / "killed") == records(tmp_path / "whole")


def test_records_of_other_settings_are_refused(tmp_path: Path) -> None:
    study(tmp_path, baselines=False)
    with pytest.raises(CnetError) as caught:
        study(tmp_path, baselines=False, alpha=2.0)
    assert caught.value.key == "weights"


def test_a_study_of_two_projections_is_the_mean_of_theirs(tmp_path: Path) -> None:
    rows = [
        study(tmp_path / f"{seeds} {seed}", baselines=False, seeds=seeds, seed=seed)["rows"][0]
        for seeds, seed in ((2, 3), (1, 3), (1, 4))
    ]
    for name in ("clean_mean", "clean_error_mean", "score_mean", "kernel_error_mean"):
        both, first, second = (row[name] for row in rows)
        assert both == pytest.approx((first + second) / 2, rel=1e-12)
        assert first != second or "error" not in name


def test_kernel_ridge_is_scikit_learns() -> None:
    model = KernelRidge(alpha=0.5, kernel="rbf", gamma=0.3)
    labels = 2.0 * TRAIN[1] - 1.0  # of two classes, centred as the one-hot targets are
    mean = float(labels.mean())
    model.fit(TRAIN[0].double().numpy(), labels.double().numpy() - mean)
    right = (model.predict(TEST[0].double().numpy()) + mean > 0) == TEST[1].numpy()
    assert kernel_ridge_accuracy("rbf", 0.3, TRAIN, TEST, 2) == pytest.approx(right.mean())


def test_adc_ranges_are_found_and_read_outs_can_lie_on_crossbars(tmp_path: Path) -> None:
    forward = periphery(adc_bits=8, dac_bits=8, adc_range=None)
    config = RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.0), forward=forward)
    (row,) = study(tmp_path, config, baselines=False, readout_on_crossbar=True)["rows"]
    assert 0.0 < abs(row["kernel_error_mean"] - row["clean_error_mean"]) < 0.05


def test_what_has_no_closed_form_is_left_empty_or_refused(tmp_path: Path) -> None:
    config = RRAMRPUConfig(noise_model=ReadNoiseModel(0.02))
    found = study(tmp_path, config, baselines=False)
    assert found["rows"][0]["predicted_error"] is None
    assert {pair["expected"] for pair in found["pairs"]} == {None}
    with pytest.raises(CnetError) as caught:
        study(tmp_path / "matched", config, match=True)
    assert caught.value.key == "match"
    with pytest.raises(CnetError) as caught:
        measure_kernels(
            (TRAIN[0], TRAIN[0][:, :1]), TEST, 2, KernelSettings(), config, tmp_path / "numbers"
        )
    assert caught.value.key == "data"


def test_chips_that_fail_are_counted_and_left_out(tmp_path: Path) -> None:
    config = RRAMRPUConfig(noise_model=LogNormalNoiseModel(40.0))  # to inf on some chips
    (row,) = study(tmp_path, config, baselines=False)["rows"]
    scores = [r["score"] for of in records(tmp_path).values() for r in of]
    counted = [score for score in scores if score is not None]
    assert 0 < row["failed"] == len(scores) - len(counted) < 4
    assert row["score_mean"] == pytest.approx(sum(counted) / len(counted))


def test_values_of_the_kernel_on_noisy_chips_do_not_hang_on_what_was_drawn(tmp_path: Path) -> None:
    config = RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.5))
    config.forward.is_perfect, config.forward.out_noise = False, 0.3
    found = []
    for seed in range(2):
        torch.manual_seed(seed)
        found.append(study(tmp_path / str(seed), config, seeds=1, baselines=False))
    assert found[0] == found[1]


def test_data_in_double_precision_are_measured_in_it(tmp_path: Path) -> None:
    double = [(x.double(), y) for x, y in (TRAIN, TEST)]
    settings = KernelSettings(log2_ratio=[2.0], seeds=1, kernel_samples=20, baselines=False)
    config = RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.5))
    given = {"chips": 1, "device": "cpu"}
    found = measure_kernels(*double, 2, settings, config, tmp_path / "a", **given)
    single = measure_kernels(TRAIN, TEST, 2, settings, config, tmp_path / "b", **given)
    assert found["rows"][0]["clean_error_mean"] == pytest.approx(
        single["rows"][0]["clean_error_mean"], rel=1e-4
    )
    for data in ((TRAIN, double[1]), ((TRAIN[0].half(), TRAIN[1]), TEST)):
        with pytest.raises(CnetError) as error:
            measure_kernels(*data, 2, settings, config, tmp_path / "c", **given)
        assert error.value.key == "data"
