"""`cnet-aihw doctor` says what works, and works itself where libraries do not."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from cnet_aihw.doctor import checks as doctor_checks
from cnet_aihw.doctor import command as doctor
from cnet_aihw.doctor.checks import FAULT, OK, WARNING, Finding


def run_doctor(cwd: Path | str, *words: str, path: Path | None = None) -> tuple[int, list[str]]:
    """Exit code and the lines of the table; modules in ``path`` go before those installed."""
    environment = os.environ | {"COLUMNS": "400"} | ({"PYTHONPATH": str(path)} if path else {})
    done = subprocess.run(
        [sys.executable, "-m", "cnet_aihw.jobs.cli", "doctor", *words],
        capture_output=True, text=True, cwd=cwd, env=environment,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.returncode, [" ".join(line.split()) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_where_all_works_there_is_no_fault(tmp_path: Path) -> None:
    code, lines = run_doctor(tmp_path)
    assert code == 0
    for line in ("ok torch tile", "ok C++ tile", "ok Ray", "ok this folder", "faults: 0"):
        assert any(found.startswith(line) for found in lines), lines
    assert any("aihwkit 1.2" in line for line in lines)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("raise ImportError('libtorch_cpu.so: undefined symbol')", "undefined symbol"),
        ("import os; os.abort()", "crashed (SIGABRT)"),
    ],
)
def test_a_torch_that_does_not_import_is_a_fault_with_advice(
    tmp_path: Path, broken: str, reason: str
) -> None:
    (tmp_path / "libraries").mkdir()
    for name, code in (("torch", broken), ("ray", "raise ImportError('no ray here')")):
        (tmp_path / "libraries" / f"{name}.py").write_text(code)
    code, lines = run_doctor(tmp_path, path=tmp_path / "libraries")
    assert code == 1
    (torch,) = (line for line in lines if line.startswith("fault torch ") and "tile" not in line)
    assert reason in torch
    assert "pip install -c constraints.txt" in torch
    (ray,) = (line for line in lines if line.startswith("warning Ray"))
    assert "no ray here" in ray
    assert "pip install 'ray[default,rllib]'" in ray


def test_missing_and_untested_libraries_are_told_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    versions = {"aihwkit": "1.3.1", "numpy": "2.1", "optuna": "4.1"}

    def version(name: str) -> str:
        if name not in versions:
            raise doctor.metadata.PackageNotFoundError(name)
        return versions[name]

    declared = ["aihwkit<1.3,>=1.2", "numpy>=2", "ray[rllib]>=2.5", "rich>=13"]
    declared.append('optuna>=4; extra == "tpe"')
    monkeypatch.setattr(doctor.metadata, "version", version)
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: declared)
    found = {finding.what: finding for finding in doctor._libraries()}
    assert found["aihwkit"] == Finding(
        "aihwkit", WARNING, "1.3.1, not tested", "pip install 'aihwkit<1.3,>=1.2'"
    )
    assert found["ray"].state == WARNING
    assert found["rich"].state == FAULT
    assert found["rich"].advice == "pip install 'rich>=13'"
    assert found["libraries"].state == OK
    assert "numpy 2.1" in found["libraries"].found


@pytest.mark.parametrize(
    ("built", "driver", "state", "shown"),
    [
        ("13.2", False, OK, "everything runs on the CPU"),
        (None, True, WARNING, "built without it"),
        ("13.2", True, WARNING, "torch cannot use it (built for CUDA 13.2)"),
    ],
)
def test_a_gpu_that_torch_does_not_see_is_told(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    built: str | None,
    driver: bool,
    state: str,
    shown: str,
) -> None:
    monkeypatch.setattr(doctor_checks, "_DRIVER", tmp_path if driver else tmp_path / "none")
    without = SimpleNamespace(is_available=lambda: False)
    torch = SimpleNamespace(version=SimpleNamespace(cuda=built), cuda=without)
    finding = doctor_checks.cuda_of(torch)
    assert finding.state == state
    assert shown in finding.found


@pytest.mark.parametrize(("current", "state"), [(4.0, OK), (7.5, WARNING)])
def test_memory_is_that_of_the_container_without_its_file_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, current: float, state: str
) -> None:
    """Of a limit of 8 GiB and a cache of 1 GiB."""
    files = {
        "/proc/meminfo": "MemTotal: 99999999 kB\nMemAvailable: 99999999 kB\n",
        "/sys/fs/cgroup/memory.max": str(8 * 2**30),
        "/sys/fs/cgroup/memory.current": str(int(current * 2**30)),
        "/sys/fs/cgroup/memory.stat": f"active_file {2**29}\ninactive_file {2**29}\n",
    }
    monkeypatch.setattr(Path, "read_text", lambda path: files[str(path)])
    finding = doctor._memory()
    assert finding.state == state
    assert finding.found.startswith(f"{9 - current:.1f} GiB free")


def test_a_folder_that_cannot_be_written_to_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("outputs").write_text("a file, not a folder")
    finding = doctor._folder("outputs")
    assert finding.state == FAULT
    assert "run=FOLDER" in finding.advice
    assert doctor._folder(".").state == OK


def test_a_probe_that_hangs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PROBE_SECONDS", 0.01)
    (finding,) = doctor._probed("cpp_tile")
    assert finding.state == WARNING
    assert "no answer" in finding.found
