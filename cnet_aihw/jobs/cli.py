"""The command `cnet-aihw`; steps import the heavy libraries, so that help comes at once."""

import io
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
import cnet_aihw.jobs.sweep  # registers the names of a sweep's folders
from cnet_aihw.jobs.folders import quoted_path, quoted_value, refuse_foreign_folder
from cnet_aihw.jobs.messages import help_text, one_sentence
from cnet_aihw.jobs.schema import register_schema
from cnet_aihw.runtime.errors import CnetError

CONFIG_DIR = Path(cnet_aihw.conf.__file__).parent

_FULL_ERROR = "HYDRA_FULL_ERROR"
_INPUTS = ("data.path", "data.root", "pretrained", "source")  # not part of a folder's name
_MULTIRUN = ("-m", "--multirun")


def main() -> None:
    """Run the job that the command line describes, or the doctor.

    Exits with 2 and one line on stderr for errors of the user (with Python's whole trace when the
    environment has HYDRA_FULL_ERROR=1), and with 130 after Ctrl-C.
    """
    words = sys.argv[1:]
    if words[:1] == ["doctor"]:
        from cnet_aihw.doctor.command import doctor

        sys.exit(doctor(words[1:]))
    register_schema()
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # for the user's own networks
    if {"-h", "--help"} & set(words):
        _print_to_pipe(help_text(CONFIG_DIR))
        return
    for stream in (sys.stdout, sys.stderr):  # a table in another alphabet shows, with ? in it
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    wants_trace = os.environ.get(_FULL_ERROR) == "1"
    try:
        sys.argv[1:] = [quoted_path(word) for word in _with_folder(words)]
        refuse_foreign_folder(sys.argv[1:])
        _refuse_swept_inputs(sys.argv[1:])
        with _hydra_raises():
            _app()
    except KeyboardInterrupt:
        _stop("stopped before any work.", 130)
    except (CnetError, HydraException, OmegaConfBaseException, OSError) as error:
        if wants_trace:
            raise
        if "COMP_LINE" in os.environ:
            sys.exit(2)  # a word that the shell completes is not a command yet
        _stop(f"error: {one_sentence(error)}", 2)


@hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name="config")
def _app(config: DictConfig) -> float | None:
    from cnet_aihw.jobs.context import run_job

    node = HydraConfig.get()
    in_sweep = node.mode == RunMode.MULTIRUN
    try:
        return run_job(config)
    except KeyboardInterrupt:
        place = f"sweep.dir={node.sweep.dir}" if in_sweep else f"run.dir={node.run.dir}"
        _stop(f"stopped; the same command with hydra.{place} resumes it.", 130)
    except CnetError as error:
        if in_sweep:  # Hydra runs the other jobs, and reports failures at the end
            more = f"table and report of the finished jobs: job=report run={node.sweep.dir}"
            raise CnetError(f"{error} ({more})", key=error.key) from error
        raise _PastHydra from error


def _with_folder(words: list[str]) -> list[str]:
    """Replace ``run=FOLDER`` by Hydra's key for the folder of a run, or of a sweep.

    The flag of a sweep goes first: Hydra does not take it between two values.
    """
    flags = [word for word in words if word in _MULTIRUN]
    key, short = "hydra.sweep.dir" if flags else "hydra.run.dir", "run="
    rest = [
        f"{key}={quoted_value(word.removeprefix(short))}" if word.startswith(short) else word
        for word in words
        if word not in flags
    ]
    return flags + rest


def _refuse_swept_inputs(words: list[str]) -> None:
    """Refuse a sweep over a key that is not part of the names of its jobs' folders.

    Raises:
        CnetError: names the word.
    """
    if not set(_MULTIRUN) & set(words):
        return
    parser = OverridesParser.create()
    for word in words:
        key = word.partition("=")[0]
        if key in _INPUTS and parser.parse_override(word).is_sweep_override():
            raise CnetError(
                f"{word} is a sweep over {key}, whose jobs would share one folder; give each value "
                "its own sweep or command with run=FOLDER.",
                key=key,
            )


class _PastHydra(BaseException):
    """Passes Hydra, which prints lines of its own for an Exception; its cause is a `CnetError`."""


@contextmanager
def _hydra_raises() -> Iterator[None]:
    """Have Hydra raise its exceptions inside the block instead of printing them."""
    before = os.environ.get(_FULL_ERROR)
    os.environ[_FULL_ERROR] = "1"
    try:
        yield
    except _PastHydra as passed:
        assert isinstance(passed.__cause__, CnetError)
        raise passed.__cause__ from None
    finally:
        del os.environ[_FULL_ERROR]
        if before is not None:
            os.environ[_FULL_ERROR] = before


def _print_to_pipe(text: str) -> None:
    """Print a text whose reader may stop early, as in `cnet-aihw --help | head`."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _stop(message: str, code: int) -> NoReturn:
    print(f"cnet-aihw: {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
