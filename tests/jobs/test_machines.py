"""Machines on which a job cannot work: one sentence, before the first training."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cnet_aihw.jobs.messages import one_sentence
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.locks import alone
from cnet_aihw.runtime.records import read_records

from .conftest import MLP8

Cli = Callable[..., Any]
Only = Callable[[Callable[[Any], Any]], str]
COMMAND = [sys.executable, "-m", "cnet_aihw.jobs.cli"]
ROOT = Path(__file__).parents[2]
SEARCH = [
    *(word for word in MLP8 if word != "compensation=none"),
    *("training=plain", "compensation.limit=0.5", "compensation.limit_macs=null"),
    "hydra.run.dir=run",
]


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["search=ppo", "ray.address=127.0.0.1:1"], "ray.address"),
        (["search=random", "ray.workers=1", "ray.address=nonsense"], "ray.address"),
        (["search=random", "ray.workers=3", "ray.num_cpus=2"], "ray.num_cpus"),
        (["search=ppo", "ray.num_cpus=1", "search.searcher.num_env_runners=2"], "ray.num_cpus"),
        (["search=ppo", "ray.num_cpus=2", "ray.address=127.0.0.1:1"], "ray.num_cpus"),
        (["search=none", "ray.workers=3", "ray.num_cpus=2"], "ray.num_cpus"),
        (["search=random", "search.store=mine.txt/store"], "search.store"),
        (["search=exhaustive", "search.budget=5"], "budget"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_what_is_needed_later_is_checked_before_the_training(
    error_of: Callable[..., CnetError], words: list[str], key: str
) -> None:
    Path("mine.txt").touch()
    assert error_of(*SEARCH, *words).key == key
    assert not Path("run/plain").exists()


@pytest.mark.parametrize(
    ("variable", "value"),
    [("RAY_TMPDIR", "/tmp/" + "x" * 90), ("RAY_AUTH_TOKEN_PATH", "/nix/token")],
)
def test_an_environment_that_ray_cannot_use_is_named_before_the_training(
    error_of: Callable[..., CnetError],
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setenv(variable, value)
    assert error_of(*SEARCH, "search=ppo", "ray.num_cpus=1").key == variable
    assert not Path("run/plain").exists()


def test_ray_that_is_missing_is_said_before_the_training(
    error_of: Callable[..., CnetError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert error_of(*SEARCH, "search=ppo").fix == "pip install 'ray[default,rllib]'"
    assert not Path("run/plain").exists()


def test_cpus_that_an_experiment_sets_do_not_matter_to_a_cluster(cli: Cli, only: Only) -> None:
    seen: list[Any] = []
    cluster = ["training=plain", "ray.address=127.0.0.1:1", only(seen.append)]
    assert cli("experiment=demo", *cluster).code == 0
    assert seen[0].variants[0].ray.num_cpus is None
    assert "ray.num_cpus" in cli("experiment=demo", "ray.num_cpus=1", *cluster).err


# -- folders


def test_a_second_job_in_a_folder_is_refused(cli: Cli, only: Only) -> None:
    with alone(Path("run"), "job", "a job"):
        outcome = cli("training=plain", only(lambda job: None), "run=run")
        assert (outcome.code, outcome.err.count("\n")) == (2, 1)
        assert "a job runs in" in outcome.err
        assert cli("job=report", "run=run").err.count("\n") == 1  # it has no results yet
    assert cli("training=plain", only(lambda job: None), "run=run").code == 0


@pytest.mark.parametrize("folder", ["file", "file/below", "/", "x" * 300, "/proc/run"])
def test_what_cannot_be_a_folder_of_results_is_one_sentence(
    cli: Cli, only: Only, folder: str
) -> None:
    Path("file").write_text("mine")
    outcome = cli("training=plain", only(lambda job: None), f"run={folder}")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1), outcome.err
    assert "Errno" not in outcome.err and "run" in outcome.err
    assert Path("file").read_text() == "mine"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mount a file system in memory with options of its own."""
    mounted: list[Path] = []

    def mount(options: str) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("file systems cannot be mounted here")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_read_only_folder_is_one_sentence(
    cli: Cli, only: Only, small_disk: Callable[..., Path]
) -> None:
    disk = small_disk("size=1m")
    (disk / "run").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for folder in (disk / "run", disk / "new", disk):
        outcome = cli("training=plain", only(lambda job: None), f"run={folder}")
        assert (outcome.code, outcome.err.count("\n")) == (2, 1), outcome.err
        assert str(folder) in outcome.err
        assert "Errno" not in outcome.err


@pytest.mark.parametrize(
    "free", [0, 60, *(pytest.param(free, marks=pytest.mark.slow) for free in (20, 330, 700))]
)
def test_a_full_disk_is_one_sentence_and_the_job_resumes(
    cli: Cli, trained_once: Path, small_disk: Callable[..., Path], free: int
) -> None:
    """With so many KiB free at the start: of Hydra, the log, checkpoints, the best, the table."""
    disk = small_disk("size=2m")
    folder = disk / "run"
    (disk / "filler").write_bytes(bytes((2048 - free) * 1024))
    words = [*MLP8, "training=plain", "job=evaluate", f"hydra.run.dir={folder}"]
    words[words.index("job=evaluate")] = (
        "job.steps=[cnet_aihw.jobs.steps.train,cnet_aihw.jobs.steps.evaluate,"
        "cnet_aihw.jobs.steps.table]"
    )
    outcome = cli(*words)
    assert outcome.code == 2, outcome.out
    assert outcome.err.count("\n") == 1, outcome.err
    assert "No space left" in outcome.err
    (disk / "filler").unlink()
    assert cli(*words).code == 0
    weights = "plain/best.safetensors"
    assert (folder / weights).read_bytes() == (trained_once / weights).read_bytes()
    assert scores(folder) == scores(trained_once)


def scores(folder: Path) -> list[float]:
    return [record["score"] for record in read_records(folder / "plain/chips.jsonl")]


def test_following_the_advice_for_damaged_weights_works(
    cli: Cli, trained: list[str], error_of: Callable[..., CnetError], trained_once: Path
) -> None:
    weights = Path("run/plain/best.safetensors")
    weights.write_bytes(weights.read_bytes()[:1000])
    error = error_of(*trained, "evaluation.chips=3")
    assert str(error.key).endswith("run/plain/best.safetensors")
    assert error.fix == "train again in another folder"
    outcome = cli(*trained[:-1], "hydra.run.dir=other")
    assert outcome.code == 0, outcome.err
    again = Path("other/plain/best.safetensors").read_bytes()
    assert again == (trained_once / "plain/best.safetensors").read_bytes()


def test_a_reader_that_stops_early_is_not_called_a_full_disk() -> None:
    said = one_sentence(BrokenPipeError(32, "Broken pipe"))
    assert "has ended before it" in said and "disk" not in said


# -- users, alphabets and signals


@pytest.mark.slow
@pytest.mark.parametrize(
    "variables",
    [
        {"LC_ALL": "C", "LANG": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
    ],
    ids=["locale", "terminal"],
)
def test_without_unicode_there_is_a_table(tmp_path: Path, variables: dict[str, str]) -> None:
    name = "plain" if "LANG" in variables else "läuft"
    done = subprocess.run(
        [*COMMAND, *MLP8, "training=plain", f"training.name='{name}'", "run=run"],
        env={**os.environ, **variables, "PYTHONPATH": str(ROOT)}, capture_output=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    assert name.encode("ascii", "replace") in done.stdout
    assert name in (tmp_path / "run/table.txt").read_text(encoding="utf-8")
    assert (tmp_path / "run/report.html").exists()


SOMEBODY = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"]
SOMEBODY += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]  # reads our files


def as_somebody(folder: Path, words: list[str], **variables: str) -> subprocess.CompletedProcess:
    """Run a command as a user without a name and without a home."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only the superuser can be somebody else")
    os.chown(folder, 54321, 54321)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*SOMEBODY, *COMMAND, *words],
        env=environment | variables, capture_output=True, cwd=folder, text=True,
    )  # fmt: skip


@pytest.mark.slow
def test_a_user_without_a_name_and_home_can_work(tmp_path: Path) -> None:
    done = as_somebody(tmp_path, [*MLP8, "training=plain", "run=run"])
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert (tmp_path / "run/report.html").exists()


@pytest.mark.slow
def test_a_user_without_a_home_is_told_what_ray_needs(tmp_path: Path) -> None:
    done = as_somebody(tmp_path, [*SEARCH, "search=ppo", "ray.num_cpus=1"], RAY_TMPDIR="/tmp")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "HOME" in done.stderr
    assert not (tmp_path / "run/plain").exists()


SIGNALLED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # the background ignores Ctrl-C
from cnet_aihw.jobs.cli import main
class First:  # asked for modules: the first one that the command imports
    def find_spec(*asked):
        sys.meta_path.remove(First)
        print("here", flush=True)
sys.meta_path.insert(0, First)
main()
"""


@pytest.mark.parametrize("error", [RuntimeError, CnetError, OSError])
@pytest.mark.parametrize("sweep", [(), ("-m", "seed=1,2")], ids=["job", "sweep"])
def test_an_interrupt_that_a_library_made_an_error_is_one_line(
    cli: Cli, only: Only, error: type[Exception], sweep: tuple[str, ...]
) -> None:
    def step(run: Any) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise error("of a library") from None

    outcome = cli(*MLP8, *sweep, only(step))
    assert outcome.code == 128 + signal.SIGTERM
    assert outcome.err.startswith("cnet-aihw: stopped") and outcome.err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_in_the_first_moments_are_one_line(tmp_path: Path, number: signal.Signals) -> None:
    """From the first import on: a signal each at moments of the first second and a half."""
    stopped, moments = 0, (0.02, 0.1, 0.3, 0.8, 1.5)
    for moment in moments:
        with subprocess.Popen(
            [sys.executable, "-c", SIGNALLED, *MLP8, "training=plain", "training.epochs=500"],
            env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=tmp_path, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            assert process.stdout is not None and process.stderr is not None
            assert process.stdout.readline() == "here\n"
            time.sleep(moment)
            process.send_signal(number)
            said = process.stderr.read()
            code = process.wait(60)
        assert code == 128 + number, (moment, code, said)
        assert said.startswith("cnet-aihw: stopped") and said.count("\n") == 1, (moment, said)
        stopped += 1
    assert stopped == len(moments)
