"""job=kernel: records, table and page of kernel features on chips."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cnet_aihw.report import write_report
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.records import read_json, read_records

FEW = [
    *("job=kernel", "training=plain", "data=table", "data.path=wine"),
    *("evaluation.chips=2", "kernel.seeds=2"),
    *("kernel.log2_ratio=[1,2]", "kernel.kernel=[rbf,arc_cosine]", "progress=false"),
    *("kernel.kernel_samples=20", "rram.sigma=0.5", "run=run"),
]


@pytest.mark.slow
def test_kernels_are_measured_on_chips(cli: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnet_aihw.report.page.save_figure", lambda *_: "<svg></svg>")
    assert cli(*FEW).code == 0
    record = read_json(Path("run/kernels.json"))
    measured = record["measured"]
    assert [(r["kernel"], r["log2_ratio"], r["s"]) for r in measured] == [
        *(("rbf", 1.0, 26), ("rbf", 2.0, 52), ("arc_cosine", 1.0, 26), ("arc_cosine", 2.0, 52))
    ]
    for row in measured:
        of_seeds = [
            read_records(f"run/kernel/{row['kernel']}-rff-{row['log2_ratio']:g}-seed{seed}-digital"
                         ".jsonl")
            for seed in range(2)
        ]  # fmt: skip
        records = [r for found in of_seeds for r in found]
        assert [r["chip"] for r in records] == [0, 1, 0, 1]
        assert row["score_mean"] == pytest.approx(sum(r["score"] for r in records) / 4)
        error = sum(r["kernel_error"] for r in records) / 4
        assert row["kernel_error_mean"] == pytest.approx(error)
        assert (row["predicted_error"] is None) == (row["kernel"] == "arc_cosine")
    methods = [row["method"] for row in record["baselines"]]
    assert methods == [
        *("linear ridge", "KernelRidge", *("Nystroem", "RBFSampler") * 2, "KernelRidge")
    ]
    assert all(row["clean_mean"] > 0.8 for row in record["baselines"])
    assert len(record["rows"]) == 4 + 7
    page = write_report("run").read_text(encoding="utf-8")
    for title in ("Kernel features over their number", "Expected and measured kernel"):
        assert title in page
    for table in ("kernels", "kernel-pairs"):
        assert Path(f"run/report/{table}.csv").exists()
    # the same command measures nothing again, and more chips extend those there
    before = {path: path.read_bytes() for path in Path("run/kernel").glob("*.jsonl")}
    assert cli(*FEW).code == 0
    assert {path: path.read_bytes() for path in before} == before
    assert {**read_json(Path("run/kernels.json")), "command": ""} == {**record, "command": ""}
    assert cli(*FEW, "evaluation.chips=3", "kernel.log2_ratio=[1]").code == 0
    name = "rbf-rff-1-seed0-digital.jsonl"
    assert Path("run/kernel", name).read_bytes().startswith(before[Path("run/kernel", name)])
    assert [r["chip"] for r in read_records(f"run/kernel/{name}")] == [0, 1, 2]


@pytest.mark.slow
def test_the_match_and_read_outs_of_chips_have_records_of_their_own(cli: Callable) -> None:
    few = [*FEW, "kernel.kernel=[rbf]", "kernel.log2_ratio=[1]", "kernel.baselines=false"]
    assert cli(*few).code == 0
    bare = read_json(Path("run/kernels.json"))["measured"][0]
    assert cli(*few, "kernel.match=true", "kernel.readout=chip").code == 0
    matched = read_json(Path("run/kernels.json"))["measured"][0]
    assert Path("run/kernel/rbf-rff-1-seed0-matched-chip.jsonl").exists()
    assert matched["kernel_error_mean"] < bare["kernel_error_mean"]
    assert matched["clean_mean"] == pytest.approx(bare["clean_mean"], abs=0.04)
    assert matched["scale"] == pytest.approx(0.7788, abs=1e-4)


def test_impossible_kernels_are_refused(
    wrong: Callable[..., CnetError], error_of: Callable[..., CnetError]
) -> None:
    assert wrong("kernel.kernel=[linear]").key == "kernel.kernel"
    assert wrong("kernel.features=[]").key == "kernel.features"
    assert wrong("kernel.readout=both").key == "kernel.readout"
    assert wrong("kernel.log2_ratio=[1,1]").key == "kernel.log2_ratio"
    assert wrong("kernel.alpha=0").key == "kernel.alpha"
    assert wrong("kernel.gamma=-1").key == "kernel.gamma"
    assert wrong("kernel.seeds=0").key == "kernel.seeds"
    both = wrong("kernel.readout=chip", "kernel.readout_on_crossbar=true")
    assert both.key == "kernel.readout_on_crossbar"
    of_numbers = ["data.path=diabetes", "data.target=number", "task=regression"]
    steps = "job.steps=[cnet_aihw.jobs.steps.train,cnet_aihw.jobs.steps_kernel.kernel]"
    assert error_of(*FEW, *of_numbers, "model=mlp", steps).key == "task"
    assert not Path("run/plain").exists()
    assert error_of(*FEW, "rram=read_noise", "kernel.match=true").key == "match"
    for key, value in (("calibration", "affine"), ("t_inference", "[1.0,60.0]")):
        assert error_of(*FEW, f"evaluation.{key}={value}").key == f"evaluation.{key}"
    assert not Path("run/kernel").exists()
