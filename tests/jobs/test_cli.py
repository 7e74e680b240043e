"""The command as the user meets it: help, mistakes, Ctrl-C."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cnet_aihw.jobs.nodes import make
from cnet_aihw.runtime.errors import CnetError

Cli = Callable[..., Any]
Only = Callable[[Callable[[Any], Any]], str]
COMMAND = [sys.executable, "-m", "cnet_aihw.jobs.cli"]


def test_help_names_commands_and_groups_and_reads_no_torch(tmp_path: Path) -> None:
    code = """
import sys
from cnet_aihw.jobs.cli import main
try:
    main()
finally:
    print("heavy:", sorted({"torch", "aihwkit", "numpy", "rich", "tensorboard"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0
    assert "heavy: []" in done.stdout
    for said in (
        "training: all, bayes_binary, best, grid, lipschitz",
        "compensation: default, digital, none",
        "data: arrays",
        "--cfg job",
    ):
        assert said in done.stdout
    assert len(done.stdout.splitlines()) < 34
    first = done.stdout.partition("Groups")[0]
    assert first.count("\n  cnet-aihw ") == 8
    assert list(tmp_path.iterdir()) == []


def test_the_package_itself_is_the_command(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "cnet_aihw", "--help"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("cnet-aihw trains networks")


def test_help_comes_whatever_else_is_given(cli: Cli) -> None:
    whole = cli("--help").out
    assert cli("-m", "rram=pcm", "-h").out == whole


@pytest.mark.slow
def test_the_commands_of_the_help_run(cli: Cli, only: Only) -> None:
    lines = cli("--help").out.partition("Groups")[0].splitlines()
    commands = [line.split("  ")[1].split() for line in lines if line.startswith("  cnet-aihw ")]
    for _, *words in commands:
        if words != ["doctor"]:
            outcome = cli(*words, only(lambda run: None))
            assert outcome.code == 0, (words, outcome.err)


def test_bash_completes_words_without_torch(tmp_path: Path) -> None:
    """Complete as a terminal does, with the function that `-sc install=bash` defines."""
    lines = {
        "rram=reram_": "rram=reram_cmo rram=reram_wan2022",
        "-m run=outputs/mine training=lip": "training=lipschitz training=lipschitz_noise",
        "doctor rram=l": "",
    }
    command = tmp_path / "cnet-aihw"
    heavy = ("torch", "ray", "aihwkit", "numpy")
    command.write_text(
        f"#!{sys.executable}\n"
        f"import sys\nsys.modules.update(dict.fromkeys({heavy}))  # whose import now fails\n"
        "from cnet_aihw.jobs.cli import main\nmain()\n"
    )
    command.chmod(0o755)
    script = 'eval "$(cnet-aihw -sc install=bash)" || exit 1\n'
    for typed in lines:
        line = f"cnet-aihw {typed}"
        script += (
            f'COMP_LINE="{line}" COMP_POINT={len(line)} COMP_CWORD={len(line.split()) - 1}\n'
            'COMPREPLY=(); hydra_bash_completion; echo "${COMPREPLY[@]}"\n'
        )
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.splitlines() == list(lines.values())


MISTAKES = [
    (["training.epoch=3"], "training.epoch does not exist; did you mean training.epochs?"),
    (["modle=mlp"], "modle does not exist; did you mean model?"),
    (["training.epochs=many"], "'many' of type 'str' could not be converted to Integer"),
    (["evaluation.chips=1,2"], "evaluation.chips=1,2 has several values; add --multirun (-m)"),
    (["training=plain,noise"], "or write training=[plain,noise] for a list."),
    (["attack.eps=3"], "int is not a list; write KEY=[VALUE,...]"),
    (["model=lenet6"], "model/lenet6 does not exist; there are clipped_cnn,"),
    (["model=custom", "model._target_=x.Y", "model.width=4"], "is added with +model.width=VALUE"),
    (["model=custom", "model.width=4", "model._target_=x.Y"], "an argument of model._target_ is"),
    (["rram=pcm", "rram.sigma=0.3"], "rram.sigma does not exist; there are "),
    (["task.metric=R2"], "task.metric does not exist; leave it out."),
    (["task.label_smoothing=0.1"], "did you mean training.label_smoothing"),
    (["--chips=3"], "--chips=3 is not an option; a value is written as chips=3."),
    (["--multirn"], "--multirn is not an option; did you mean --multirun?"),
    (["-m", "run=a,b"], "run=a,b is the one folder of a whole sweep, in which each"),
    (["no equal sign"], "'no equal sign' cannot be read; write KEY=VALUE"),
]


@pytest.mark.parametrize(("words", "sentence"), MISTAKES, ids=[" ".join(w) for w, _ in MISTAKES])
def test_a_mistake_of_syntax_is_one_line_before_any_work(
    cli: Cli, words: list[str], sentence: str
) -> None:
    outcome = cli("training=plain", *words, "hydra.run.dir=run")
    assert outcome.code == 2
    assert outcome.err.startswith("cnet-aihw: error: ")
    assert outcome.err.count("\n") == 1
    assert sentence in outcome.err
    assert outcome.out == ""


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["+training.epoch=3"], "training.epoch"),
        (["+evaluation.variation.x=3"], "evaluation.variation"),
        (["training.epochs=-1"], "training.epochs"),
        (["training.lr_scale=0"], "training.lr_scale"),
        (["training.optimizer=sdg"], "training.optimizer"),
        (["evaluation.chips=0"], "evaluation.chips"),
        (["select.calibrations=[bn]"], "select.calibrations"),
        (["select.limit=0"], "select.limit"),
        (["training.name=a/b"], "training.name"),
        (["job.steps=[]"], "job.steps"),
        (["+data.path='???'"], "data.path"),
    ],
)
def test_a_mistake_names_its_key(
    wrong: Callable[..., CnetError], words: list[str], key: str
) -> None:
    assert wrong(*words).key == key


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["training.compare=[plain,nix]"], "training.compare"),
        (["training.compare=[plain,all]"], "training.compare"),
        (["training.compare=[plain,plain]"], "training.compare"),
        (["training.epochs=-1"], "training.epochs"),
        (["model=custom"], "model._target_"),
        (
            ["model=custom", "model._target_=torch.nn.Linear", "+model.in_features=784"],
            "model.out_features",
        ),
        (["job.steps=[cnet_aihw.jobs.steps.trian]"], "job.steps"),
        (["training=noise_from_plain", "job=train"], "training.start_from"),
        (["training.distillation.teacher=other", "job=train"], "training.distillation.teacher"),
        (["training.distillation.share=0"], "training.distillation.share"),
        (["training.distillation.temperature=-1"], "training.distillation.temperature"),
        (["+training.distillation.weight=1"], "training.distillation.weight"),
    ],
)
def test_a_mistake_on_the_command_line_names_its_key(
    error_of: Callable[..., CnetError], words: list[str], key: str
) -> None:
    assert error_of("training=plain", *words, "hydra.run.dir=run").key == key


@pytest.mark.parametrize(
    "words",
    [
        *(["rram.exclude=[fc9]"], ["+model.depth=3"], ["model.classes=5"]),
        *(["model=custom", "model._target_=cnet_aihw.zoo.digits"], ["pretrained=nix.pt"]),
        *(["data=mnist"], ["device=nix"]),
    ],
    ids=" ".join,
)
def test_what_only_building_shows_is_reported_before_training(cli: Cli, words: list[str]) -> None:
    outcome = cli("training=plain", *words, "hydra.run.dir=run")
    assert outcome.code == 2
    assert outcome.err.startswith("cnet-aihw: error: ")
    assert outcome.err.count("\n") == 1
    assert {p.name for p in Path("run").iterdir()} <= {".hydra", ".locks", "cnet-aihw.log"}


def test_the_whole_trace_is_there_for_the_asking(cli: Cli, monkeypatch: Any) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(CnetError) as caught:
        cli("training.epochs=-1")
    monkeypatch.delenv("HYDRA_FULL_ERROR")
    assert caught.value.key == "training.epochs"


def test_a_mistake_of_ours_keeps_its_trace(cli: Cli, only: Only) -> None:
    with pytest.raises(ZeroDivisionError):
        cli(only(lambda run: 1 / 0))


def test_a_job_of_a_sweep_has_a_folder_however_much_is_changed(cli: Cli, only: Only) -> None:
    seen = []
    words = [f"compensation.shared.{k}=1e-3" for k in ("lr", "weight_decay", "distillation")]
    words += ["search.evaluator.shared_steps=30", "search.evaluator.steps=30", "search.samples=9"]
    words += [f"training.{k}=3" for k in ("epochs", "batch_size", "validation_chips")]
    words += [only(lambda run: seen.append(run.folder)), "seed=1,2", "run=sweep"]
    words.append("training=plain")
    outcome = cli("-m", *words)
    assert outcome.code == 0, outcome.err
    names = [folder.name for folder in seen]
    assert len(set(names)) == 2 and all(100 < len(name) < 140 for name in names)


def test_the_word_for_a_sweep_may_stand_anywhere(cli: Cli, only: Only) -> None:
    seen: list[Any] = []
    outcome = cli("seed=1,2", "-m", only(seen.append), "training=plain", "run=sweep")
    assert outcome.code == 0, outcome.err
    assert [run.variants[0].config.seed for run in seen] == [1, 2]
    assert {run.folder.parent.name for run in seen} == {"sweep"}


def test_in_a_sweep_the_other_jobs_still_run(cli: Cli, only: Only) -> None:
    seen: list[Any] = []
    words = ["-m", "training=plain", only(seen.append), "run=a sweep"]
    outcome = cli(*words, "training.epochs=-1,2")
    assert outcome.code == 2
    assert [run.variants[0].training.epochs for run in seen] == [2]
    assert "training.epochs=-1" in outcome.err
    assert outcome.err.endswith(
        "(table and report of the finished jobs: job=report 'run=a sweep')\n"
    )


@pytest.mark.parametrize("word", ["pretrained=a.pt,b.pt", "data.root=choice(a,b)"])
def test_a_sweep_whose_jobs_would_share_a_folder_is_refused(
    cli: Cli, only: Only, word: str
) -> None:
    seen: list[Any] = []
    outcome = cli("-m", word, only(seen.append))
    assert outcome.code == 2 and not seen
    assert f"{word} is a sweep over {word.partition('=')[0]}" in outcome.err


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (["training=plain", "hydra.run.dir=run"], "run=run"),
        (["-m", "training=plain,noise", "run=a sweep; b=1"], "'run=a sweep; b=1'"),
    ],
)
def test_ctrl_c_says_how_to_resume(cli: Cli, only: Only, words: list[str], place: str) -> None:
    calls = []

    def stop(run: Any) -> None:
        calls.append(run)
        raise KeyboardInterrupt

    outcome = cli(*words, only(stop))
    assert outcome.code == 130
    assert outcome.err == f"cnet-aihw: stopped; the same command with {place} resumes it.\n"
    assert len(calls) == 1
    folder = next(calls[0].folder.glob("cnet-aihw.log")).parent
    if "-m" in words:
        folder = folder.parent
    (pasted,) = shlex.split(place)  # as a shell reads it
    assert folder == Path(pasted.removeprefix("run=")).absolute()


def test_how_to_resume_is_the_last_line(tmp_path: Path) -> None:
    """Also where a library logs when Python ends, as torch does, with the level of a job."""
    code = """
import atexit, logging, os, signal
import cnet_aihw.jobs.application as application
from cnet_aihw.jobs.cli import main
logging.basicConfig(level=logging.INFO)
atexit.register(lambda: logging.info("statistics of a cache"))
application.run = lambda words, stop: os.kill(os.getpid(), signal.SIGTERM)
main()
"""
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 128 + signal.SIGTERM
    assert done.stderr == "cnet-aihw: stopped before any work.\n"


def test_a_network_of_the_users_own_lies_in_the_folder(cli: Cli, tiny: list[str]) -> None:
    Path("own_network.py").write_text(
        "from torch import nn\n"
        "def make(width, classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(),\n"
        "                         nn.Linear(width, classes))\n"
    )
    network = ["model=custom", "model._target_=own_network.make", "+model.width=8"]
    outcome = cli(
        *network, "+model.classes=${inputs.classes}", "data.size=8", "training=plain", *tiny
    )
    assert outcome.code == 0, outcome.err
    assert "analog   Linear (512 weights)" in outcome.out


def test_a_warning_is_a_line_of_the_log_without_a_line_of_code(cli: Cli, tiny: list[str]) -> None:
    Path("mostly_digital.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.table, self.head = nn.Embedding(400, 8), nn.Linear(8, 10)\n"
        "    def forward(self, x):\n"
        "        return self.head(self.table((9 * x.flatten(1)).long().clamp(0, 399)).mean(1))\n"
    )
    network = ["model=custom", "model._target_=mostly_digital.Net", "job=train", "progress=false"]
    outcome = cli(*network, "training=plain", *tiny, "hydra.run.dir=run")
    assert outcome.code == 0, outcome.err
    for text in (outcome.out, Path("run/cnet-aihw.log").read_text()):
        (line,) = (line for line in text.splitlines() if "are on crossbars; the largest" in line)
        assert "[WARNING] - only 80 of 3,280 weights (2.4 %)" in line
    assert "warnings.warn" not in outcome.err + outcome.out


OWN = """
import torch
from torch import nn

class Wrong(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(9, 10)

    def forward(self, x):
        return self.head(x.flatten(1))

class Undefined(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(size, 10)
"""


@pytest.mark.parametrize(
    ("target", "key", "said"),
    [
        ("mistakes.Wrong", "model", "at layer 'head' (Linear), mistakes.py line 11"),
        ("mistakes.Undefined", "model", "mistakes.py line 16"),
        ("mistakes.Wrongs", "model._target_", "did you mean mistakes.Wrong?"),
        ("mistaken.Wrong", "model._target_", "no module 'mistaken'"),
        ("faulty.Net", "model._target_", "No module named 'absent_library', at faulty.py line 2"),
        ("unreadable.Net", "model._target_", "unreadable.py line 1"),
        ("mistakes.Wrong.missing", "model._target_", "mistakes.Wrong has no 'missing'"),
    ],
)
def test_a_mistake_in_code_of_the_users_own_has_its_place(
    error_of: Callable[..., CnetError], target: str, key: str, said: str
) -> None:
    Path("mistakes.py").write_text(OWN)
    Path("faulty.py").write_text("\nimport absent_library\n")
    Path("unreadable.py").write_text("class Net(:\n")
    words = ["model=custom", f"model._target_={target}", "training=plain", "hydra.run.dir=run"]
    for name in ("mistakes", "faulty", "unreadable"):
        sys.modules.pop(name, None)
    error = error_of(*words)
    assert error.key == key
    assert said in str(error)


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["search=none"], "compensation.limit"),
        (
            ["search=none", "compensation.limit=null", "compensation=paper"],
            "compensation.limit_macs",
        ),
        (["search=random"], "compensation.limit"),
    ],
)
def test_limits_that_allow_no_compensation_are_named_by_their_keys(
    error_of: Callable[..., CnetError], words: list[str], key: str
) -> None:
    small = ["data.size=8", "model=mlp", "model.hidden=[2]", "training=plain", "job=pipeline"]
    error = error_of(*small, "compensation.limit_macs=1e-4", "compensation.limit=1e-6", *words)
    assert error.key == key
    assert error.fix is not None and f"set {key}" in error.fix


@pytest.mark.slow
def test_killed_and_started_again_it_ends_the_same(cli: Cli, tiny: list[str]) -> None:
    words = [*tiny, "training.compare=[plain,noise]", "model=mlp", "data.size=8"]
    words += ["training.epochs=15", "hydra.run.dir=run"]
    log = Path("run/noise/epochs.jsonl")
    with subprocess.Popen([*COMMAND, *words]) as process:
        while process.poll() is None and not (log.exists() and log.read_text().count("\n") >= 2):
            time.sleep(0.02)
        process.kill()
    assert process.returncode == -9
    assert not Path("run/noise/result.json").exists()
    assert cli(*words).code == 0
    words[-1] = "hydra.run.dir=whole"
    assert cli(*words).code == 0
    for name in ("plain/best.safetensors", "noise/best.safetensors", "table.json"):
        assert Path("run", name).read_bytes() == Path("whole", name).read_bytes()


# -- what is typed is what counts


def test_a_reference_to_the_data_holds_for_each_training_and_in_the_recorded_command(
    cli: Cli, only: Only
) -> None:
    seen: list[Any] = []
    words = ["model._target_=cnet_aihw.zoo.MLP", "+model.classes=${inputs.classes}"]
    step = only(seen.append)
    outcome = cli("model=custom", *words, "training.compare=[plain,noise]", step)
    assert outcome.code == 0, outcome.err
    (job,) = seen
    assert "'+model.classes=${inputs.classes}'" in job.command
    for variant in job.variants:
        variant.config.inputs.classes = 7
        assert variant.config.model.classes == 7


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["rram.adc_bits=6.5"], "rram.adc_bits"),
        (["rram.sigma=true"], "rram.sigma"),
        (["rram.per_conductance=maybe"], "rram.per_conductance"),
        (["rram.in_training=maybe"], "rram.in_training"),
        (["rram.exclude=null"], "rram.exclude"),
        (["rram.max_rows=1.5"], "rram.max_rows"),
        (["rram.rpu_config.noise_model=null"], "rram.rpu_config.noise_model"),
        (["rram=composed", "rram.rpu_config.noise_model.models=[]"], "models"),
        (["+rram.foo=1"], "rram.foo"),
        (["+foo=1"], "foo"),
        (["seed=100000000000000000000"], "seed"),
        (["inputs.classes=3"], "inputs.classes"),
        (["data.augment=maybe"], "data.augment"),
        (["data.crop=100"], "crop"),
        (["model=mlp", "model.hidden=64"], "model.hidden"),
        (["+model.widht=3"], "model.widht"),
    ],
)
def test_values_of_untyped_groups_are_typed_by_their_targets(
    error_of: Callable[..., CnetError], words: list[str], key: str
) -> None:
    small = ["data.size=28", "data.limit_train=20", "training=plain", "compensation=none"]
    assert error_of(*small, *words, "hydra.run.dir=run").key == key
    assert not Path("run/plain").exists()


@pytest.mark.parametrize(("word", "truth"), [("no", False), ("off", False), ("yes", True)])
def test_words_of_yaml_are_never_turned_round(cli: Cli, only: Only, word: str, truth: bool) -> None:
    seen: list[Any] = []

    def step(job: Any) -> None:
        seen.append(make(job.config.rram.rpu_config, "rram.rpu_config"))

    cli("training=plain", f"rram.per_conductance={word}", only(step))
    assert seen[0].noise_model.per_conductance is truth


def test_paths_are_taken_verbatim(cli: Cli, only: Only) -> None:
    seen: list[Any] = []
    path = "ck (1), b/epoch=3-step=100.ckpt"
    outcome = cli("training=plain", f"pretrained={path}", only(seen.append))
    assert outcome.code == 0, outcome.err
    assert seen[0].config.pretrained == path


def test_results_of_others_are_not_overwritten(cli: Cli) -> None:
    Path("mine").mkdir()
    Path("mine/table.txt").write_text("mine")
    outcome = cli("training=plain", "run=mine")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert [path.name for path in Path("mine").iterdir()] == ["table.txt"]


def test_a_file_is_not_a_folder_of_results(cli: Cli) -> None:
    Path("mine.npz").write_text("")
    outcome = cli("training=plain", "run=mine.npz")
    assert outcome.code == 2
    assert "mine.npz" in outcome.err and "Errno" not in outcome.err
