"""The command `cnet-aihw`; heavy libraries are left to the steps, so that help comes at once."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

import cnet_aihw.conf
import cnet_aihw.jobs.folders
from cnet_aihw.jobs.help import help_text
from cnet_aihw.jobs.messages import one_sentence
from cnet_aihw.jobs.schema import register_schema
from cnet_aihw.runtime.errors import CnetError

CONFIG_DIR = Path(cnet_aihw.conf.__file__).parent

_FULL_ERROR = "HYDRA_FULL_ERROR"
_INPUTS = ("data.path", "data.root", "pretrained", "source")  # no part of a folder's name


def main() -> None:
    """Run the job that the command line describes, or the doctor.

    Exits with 2 and one line on stderr for what the user can mend (with Python's whole trace when
    the environment has HYDRA_FULL_ERROR=1), and with 130 after Ctrl-C.
    """
    if sys.argv[1:2] == ["doctor"]:
        from cnet_aihw.jobs.doctor import doctor

        sys.exit(doctor(sys.argv[2:]))
    register_schema()
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # a user's own network lies there
    wants_trace = os.environ.get(_FULL_ERROR) == "1"
    sys.argv[1:] = _with_folder(sys.argv[1:])
    try:
        _refuse_swept_inputs(sys.argv[1:])
        with _errors_handed_on():
            if {"-h", "--help"} & set(sys.argv[1:]):
                print(help_text(CONFIG_DIR))
            else:
                _app()
    except KeyboardInterrupt:
        _stop("stopped before anything was done.", 130)
    except (
        BrokenPipeError
    ):  # whoever read the output has had enough, as in `cnet-aihw --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (_Mendable, CnetError, HydraException, OmegaConfBaseException, OSError) as error:
        if wants_trace:
            raise
        if "COMP_LINE" in os.environ:
            sys.exit(2)  # a word that the shell completes is no command: nothing to say yet
        _stop(f"error: {one_sentence(error)}", 2)


@hydra.main(
    version_base="1.3",
    config_path=str(CONFIG_DIR),
    config_name="config",
)
def _app(config: DictConfig) -> float | None:
    from cnet_aihw.jobs.pipeline import run_job

    node = HydraConfig.get()
    in_sweep = node.mode == RunMode.MULTIRUN
    try:
        return run_job(config)
    except KeyboardInterrupt:
        place = f"sweep.dir={node.sweep.dir}" if in_sweep else f"run.dir={node.run.dir}"
        _stop(f"stopped; the same command with hydra.{place} goes on from here.", 130)
    except CnetError as error:
        if in_sweep:  # Hydra goes on with the other jobs, and says at the end what failed
            more = f"the table and report of jobs that are done: job=report run={node.sweep.dir}"
            raise CnetError(f"{error} ({more})") from error
        raise _Mendable from error


def _with_folder(words: list[str]) -> list[str]:
    """Replace ``run=FOLDER`` by Hydra's word for the folder of a run, or of a sweep.

    What makes it a sweep goes first: Hydra does not take it between two values.
    """
    sweep = [word for word in words if word in ("-m", "--multirun")]
    words = sweep + [word for word in words if word not in sweep]
    key = "hydra.sweep.dir" if sweep else "hydra.run.dir"
    short = "run="
    return [
        f"{key}={_quoted(word.removeprefix(short))}" if word.startswith(short) else word
        for word in words
    ]


def _refuse_swept_inputs(words: list[str]) -> None:
    """Refuse a sweep over what does not come into the names of its jobs' folders.

    Raises:
        CnetError: names the word.
    """
    if not {"-m", "--multirun"} & set(words):
        return
    parser = OverridesParser.create()
    for word in words:
        key, _, _ = word.partition("=")
        if key in _INPUTS and parser.parse_override(word).is_sweep_override():
            raise CnetError(
                f"{word} is a sweep over {key}, whose jobs would share one folder; give each value "
                f"a sweep, or a command, of its own with run=FOLDER."
            )


def _quoted(folder: str) -> str:
    """A value that Hydra takes as it stands, whatever its characters."""
    escaped = folder.replace("'", r"\'")
    return f"'{escaped}'"


class _Mendable(BaseException):
    """Carries a `CnetError` past Hydra, which would print lines of its own for an Exception."""


@contextmanager
def _errors_handed_on() -> Iterator[None]:
    """Have Hydra hand exceptions on inside the block instead of printing them."""
    before = os.environ.get(_FULL_ERROR)
    os.environ[_FULL_ERROR] = "1"
    try:
        yield
    finally:
        del os.environ[_FULL_ERROR]
        if before is not None:
            os.environ[_FULL_ERROR] = before


def _stop(message: str, code: int) -> NoReturn:
    print(f"cnet-aihw: {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
