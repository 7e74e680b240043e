"""The real command, run inside the test process; and data so small that a job takes a second."""

import copy
import logging
import os
import shutil
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
from hydra._internal.hydra import Hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from cnet_aihw.jobs.application import CONFIG_DIR
from cnet_aihw.jobs.cli import main
from cnet_aihw.jobs.context import run_job
from cnet_aihw.jobs.schema import register_schema
from cnet_aihw.jobs.variants import variants_of
from cnet_aihw.runtime.errors import CnetError

PROBE = "cnet_aihw_test_probe"


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str


Cli = Callable[..., Outcome]
MLP8 = [
    *("compensation=none", "model=mlp", "data.size=8", "data.limit_train=100", "training.lr=0.1"),
    *("training.epochs=1", "training.validation_chips=2", "training.batch_size=32"),
    *("evaluation.chips=2", "progress=false"),
]
"""Words of the smallest job on the digits."""


def no_ray(*_: Any) -> Any:
    """Refuse to start Ray: handles of one session in a process let go of workers of the next."""
    raise AssertionError("a test's command on Ray needs a process of its own: in_own_process")


@contextmanager
def alone() -> Iterator[None]:
    """Leave logging as it was: a job's handlers write to the streams of its test."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cnet_aihw.cluster.session._init", no_ray)
        try:
            yield
        finally:
            root.handlers[:] = handlers
            root.setLevel(level)


def command(*words: str) -> None:
    """Run `cnet-aihw` with these words, as the shell would."""
    with alone(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["cnet-aihw", *words])
        main()


def in_own_process(*words: str) -> Outcome:
    """Run `cnet-aihw` with these words in a process of its own, as it is needed for Ray."""
    done = subprocess.run(
        [sys.executable, "-m", "cnet_aihw.jobs.cli", *words], capture_output=True, text=True
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session", autouse=True)
def one_composition() -> Iterator[None]:
    """Keep Hydra from composing each command twice: it does so to read hydra.mode, never set."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Hydra, "get_mode", lambda *_, **__: None)
        yield


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Cli]:
    """Run `cnet-aihw` with these words in an empty folder, as the shell would."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def run(*words: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["cnet-aihw", *words])
        capfd.readouterr()
        code: Any = 0
        try:
            with alone():
                main()
        except SystemExit as stop:
            code = stop.code or 0
        seen = capfd.readouterr()
        return Outcome(code, seen.out, seen.err)

    yield run
    assert "HYDRA_FULL_ERROR" not in os.environ


@pytest.fixture
def error_of(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Callable[..., CnetError]:
    """Run a command that fails, and return its error with all fields."""

    def run(*words: str) -> CnetError:
        with monkeypatch.context() as patch:
            patch.setenv("HYDRA_FULL_ERROR", "1")
            with pytest.raises(CnetError) as caught:
                cli(*words)
        return caught.value

    return run


@pytest.fixture(scope="session")
def wrong() -> Callable[..., CnetError]:
    """Change values of a valid configuration, and return the error of its trainings' checks."""
    register_schema()
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        valid = hydra.compose("config", ["training=plain", "search=random"])

    def error(*words: str) -> CnetError:
        config = copy.deepcopy(valid)
        for word in OverridesParser.create().parse_overrides(list(words)):
            OmegaConf.update(config, word.key_or_group, word.value(), force_add=True)
        with pytest.raises(CnetError) as caught:
            variants_of(config)
        return caught.value

    return error


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a plain training and its measurement; not to be changed."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cnet_aihw.jobs.steps.report", lambda run: None)
        command(*MLP8, "training=plain", f"hydra.run.dir={folder}")
    return folder


@pytest.fixture
def trained(cli: Cli, tiny: list[str], trained_once: Path) -> list[str]:
    """A copy of that folder as `run`; the words of its command, without the page at its end."""
    shutil.copytree(trained_once, "run")
    return [*MLP8, "training=plain", "hydra.run.dir=run"]


@pytest.fixture
def returned(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """Values that jobs return to a sweeper."""
    values: list[float | None] = []

    def keep(config: Any) -> float | None:
        values.append(run_job(config))
        return values[-1]

    monkeypatch.setattr("cnet_aihw.jobs.context.run_job", keep)
    return values


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Any], Any]], str]:
    """Make a function the only step of a job: returns the words for the command line."""

    def make(step: Callable[[Any], Any]) -> str:
        module = types.ModuleType(PROBE)
        vars(module)["step"] = step
        monkeypatch.setitem(sys.modules, PROBE, module)
        return f"job.steps=[{PROBE}.step]"

    return make


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Words that make any job small; without compensation, and without the page at its end."""
    monkeypatch.setattr("cnet_aihw.jobs.steps.report", lambda run: None)
    return [
        "compensation=none",
        *("training.epochs=1", "training.validation_chips=2", "training.batch_size=32"),
        *("evaluation.chips=2", "progress=false"),
    ]


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write an .npz file of random images that a network can tell apart by their brightness."""
    folder = tmp_path_factory.mktemp("images")

    def write(size: int, channels: int, samples: int = 60, classes: int = 3) -> Path:
        path = folder / f"{size}x{size}x{channels}.npz"
        if not path.exists():
            rng = np.random.default_rng(0)
            arrays = {}
            for part, number in (("train", samples), ("test", 20)):
                y = np.arange(number) % classes
                noise = rng.integers(0, 60, (number, size, size, channels))
                arrays[f"x_{part}"] = (noise + 60 * y[:, None, None, None]).astype(np.uint8)
                arrays[f"y_{part}"] = y
            np.savez(path, **arrays)
        return path

    return write
