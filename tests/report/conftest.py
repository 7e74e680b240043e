"""A run and a sweep as the real command leaves them, on data so small that it takes seconds."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cnet_aihw.jobs.cli import main

SMALL = [
    *("model=mlp", "data.size=8", "data.limit_train=150", "progress=false"),
    *("training.epochs=2", "training.lr=0.1", "training.batch_size=32"),
    "training.validation_chips=2",
]
BOTH = "training.compare=[plain,lipschitz]"
COMPENSATED = [
    "compensation=paper",
    *("compensation.scan.chips=2", "compensation.scan.samples=50", "compensation.threshold=1.0"),
    *(
        "compensation.shared.epochs=1",
        "compensation.shared.batch_size=64",
        "compensation.limit=0.3",
        "compensation.limit_macs=null",
    ),
    *("compensation.corrector.form=residual", "evaluation.chips=6", "evaluation.threshold=0.5"),
]
SEARCH = [
    *("job=search", "search=random", "search.budget=4", "search.chips=2"),
    *("search.evaluator.kind=per_placement", "search.evaluator.steps=2"),
]


def command(*words: str) -> None:
    """`cnet-aihw` with these words, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["cnet-aihw", *words])
        main()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole run, searched in besides; not to be changed."""
    folder = tmp_path_factory.mktemp("run") / "run"
    with pytest.MonkeyPatch.context() as patch:  # the second job writes the page
        patch.setattr("cnet_aihw.jobs.steps.report", lambda run: None)
        command(*SMALL, BOTH, *COMPENSATED, "search=none", f"run={folder}")
    store = f"search.store={folder.parent / 'store'}"
    command(*SMALL, BOTH, *COMPENSATED, *SEARCH, store, f"run={folder}")
    return folder


@pytest.fixture(scope="session")
def finished_sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole sweep over sigma; not to be changed."""
    folder = tmp_path_factory.mktemp("sweep") / "sweep"
    words = [
        "-m",
        "rram.sigma=0.1,0.5",
        "training=plain",
        "compensation=none",
        "evaluation.chips=4",
    ]
    command(*words, *SMALL, "hydra.sweep.subdir=${hydra.job.num}", f"run={folder}")
    return folder


@pytest.fixture
def plain_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave figures empty, as these tests are of what stands around them."""
    monkeypatch.setattr("cnet_aihw.report.page.save_figure", lambda *_: "<svg></svg>")


Copy = Callable[[Path], Path]


@pytest.fixture
def copy(tmp_path: Path, plain_figures: None) -> Copy:
    """Copy the records of a folder, without what a page of before left; its page is plain."""

    def records(folder: Path) -> Path:
        left = shutil.ignore_patterns("report", "report.html", "*.safetensors", "tensorboard")
        return Path(shutil.copytree(folder, tmp_path / "copy", ignore=left))

    return records
