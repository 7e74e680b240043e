"""`cnet-aihw doctor` says what works, and works itself where libraries do not."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from cnet_aihw.doctor import checks as doctor_checks
from cnet_aihw.doctor import command as doctor
from cnet_aihw.doctor import machine as doctor_machine
from cnet_aihw.doctor.checks import FAULT, GIB, OK, WARNING, Finding

DOCTOR = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # the background ignores Ctrl-C
from cnet_aihw.jobs.cli import main
main()
"""


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


@pytest.mark.parametrize(("free", "state"), [(4.0, OK), (1.5, WARNING)])
def test_memory_is_that_of_the_container(
    monkeypatch: pytest.MonkeyPatch, free: float, state: str
) -> None:
    monkeypatch.setattr(doctor_machine, "available_bytes", lambda: int(free * GIB))
    monkeypatch.setattr(doctor_machine, "memory_limit", lambda: 8 * GIB)
    finding = doctor_machine.memory()
    assert finding.state == state
    assert finding.found.startswith(f"{free:.1f} GiB free, with a limit of 8.0 GiB")


@pytest.mark.parametrize(
    ("quota", "threads", "state"), [(None, "", OK), (2.5, "", WARNING), (2.5, "2", OK)]
)
def test_a_quota_of_cpus_is_said_where_torch_would_start_a_thread_for_each(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, threads: str, state: str
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr(doctor_machine, "cpu_quota", lambda: quota)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if threads:
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
    finding = doctor_machine.cpus()
    assert finding.state == state
    assert ("OMP_NUM_THREADS=2" in finding.advice) == (state == WARNING)


def test_a_file_system_without_locks_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert doctor_machine.locks(str(tmp_path)).state == OK

    def without(file: object, operation: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", without)
    finding = doctor_machine.locks(str(tmp_path))
    assert finding.state == WARNING and "Operation not supported" in finding.found


def test_no_temporary_folder_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")
    finding = doctor_machine.temporary_folder()
    assert finding.state == FAULT and "TMPDIR" in finding.advice


def test_what_ray_lacks_here_is_a_warning_with_the_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / ("x" * 80)))
    finding = doctor_checks.ray_here()
    assert finding.state == WARNING
    assert "RAY_TMPDIR=/tmp" in finding.advice


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_doctor_and_its_checks(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "libraries").mkdir()
    hanging = "import os, time\nopen(f'here-{os.getpid()}', 'w').close()\ntime.sleep(600)\n"
    for name in ("torch", "ray"):
        (tmp_path / "libraries" / f"{name}.py").write_text(hanging)
    environment = os.environ | {"PYTHONPATH": f"{tmp_path / 'libraries'}:{os.getcwd()}"}
    command = [sys.executable, "-c", DOCTOR, "doctor"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE) as other:
        assert other.stderr is not None
        while not (checks := list(tmp_path.glob("here-*"))) and other.poll() is None:
            time.sleep(0.02)
        other.send_signal(number)
        assert other.wait(60) == 128 + number
        assert other.stderr.read() == b"cnet-aihw: stopped before any work.\n"
    for path in checks:
        assert not Path("/proc", path.name.removeprefix("here-")).exists()


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
    (finding,) = doctor._probed(["cpp_tile"])
    assert finding.state == WARNING
    assert "no answer" in finding.found


def test_lines_that_a_library_prints_are_not_taken_for_findings() -> None:
    record = '[{"what": "Ray", "state": "ok", "found": "2.0", "advice": ""}]'
    written = f"starting\n{doctor_checks.FOUND}{record}\nshutting down"
    assert doctor._outcome("ray_import", (0, written, "")) == [Finding("Ray", OK, "2.0")]
    (found,) = doctor._outcome("ray_import", (0, "", ""))
    assert found.state == WARNING
    (found,) = doctor._outcome("torch_tile", (-40, "", ""))  # a signal without a name
    assert found.state == FAULT and "40" in found.found


def test_a_gpu_that_does_not_answer_is_a_fault_of_the_gpu() -> None:
    def refused() -> None:
        raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable")

    cuda = SimpleNamespace(is_available=lambda: True, mem_get_info=refused)
    found = doctor_checks.cuda_of(SimpleNamespace(cuda=cuda, version=SimpleNamespace(cuda="13.2")))
    assert (found.what, found.state, found.advice) == ("CUDA", FAULT, "set device=cpu")
