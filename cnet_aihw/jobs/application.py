"""The command with Hydra; steps import the heavy libraries, so that help comes at once."""

import io
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

import cnet_aihw.conf
import cnet_aihw.jobs.sweep  # registers the names of a sweep's folders
from cnet_aihw.jobs.folders import (
    quoted_path,
    quoted_value,
    refuse_foreign_folder,
    typed_folder,
)
from cnet_aihw.jobs.messages import help_text, one_sentence
from cnet_aihw.jobs.ray_launcher import RayJobs  # registers it too
from cnet_aihw.jobs.schema import register_schema
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.stopping import Stop
from cnet_aihw.runtime.values import nearest

CONFIG_DIR = Path(cnet_aihw.conf.__file__).parent

_FULL_ERROR = "HYDRA_FULL_ERROR"
_UNNAMED = (  # what changes results, and is not part of a folder's name
    *("data.path", "data.root", "pretrained", "source", "device", "processes"),
    "evaluation.chips",
)
_MULTIRUN = ("-m", "--multirun")
_OPTIONS = (
    *("--help", "--hydra-help", "--version", "--cfg", "--resolve", "--package", "--run"),
    *("--multirun", "--shell-completion", "--config-path", "--config-name", "--config-dir"),
    *("--experimental-rerun", "--info"),
)  # of Hydra
_LETTERS = ("-h", "-c", "-p", "-r", "-m", "-s", "-i")  # with which its short ones begin
_QUOTE = "'"
_stop = Stop()  # of the running command


def run(words: list[str], stop: Stop) -> None:
    """Run the job that a command line describes, or show help.

    Args:
        words: the command line.
        stop: gets the message with which the command ends when it is stopped.

    Raises:
        SystemExit: with 2 after an error of the user, which was printed as one line.
    """
    global _stop
    _stop = RayJobs.stop = stop
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
        _refuse_unknown_options(sys.argv[1:])
        refuse_foreign_folder(sys.argv[1:])
        _refuse_swept_inputs(sys.argv[1:])
        with _hydra_raises(), _silent_logs():
            _app()
    except (CnetError, HydraException, OmegaConfBaseException, OSError, ValueError) as error:
        expected = not isinstance(error, ValueError) or isinstance(error, CnetError)
        log_file = isinstance(error.__cause__, OSError)  # that logging cannot open
        if wants_trace or stop.number or not (expected or log_file):
            raise
        if "COMP_LINE" not in os.environ:  # a word that the shell completes is not a command yet
            print(f"cnet-aihw: error: {one_sentence(error)}", file=sys.stderr)
        sys.exit(2)


@hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name="config")
def _app(config: DictConfig) -> float | None:
    node = HydraConfig.get()
    in_sweep = node.mode == RunMode.MULTIRUN
    place = typed_folder(node.sweep.dir if in_sweep else node.run.dir)
    _stop.message = f"stopped; the same command with {place} resumes it."
    try:
        from cnet_aihw.jobs.context import run_job

        return run_job(config)
    except Exception as error:
        if _stop.number:  # a library may have turned the interrupt into an error of its own
            raise KeyboardInterrupt from error
        if not isinstance(error, CnetError):
            raise
        if in_sweep:  # Hydra runs the other jobs, and reports failures at the end
            more = f"table and report of the finished jobs: job=report {place}"
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


def _refuse_unknown_options(words: list[str]) -> None:
    """Refuse a word with dashes that Hydra does not know, before it prints its usage.

    Raises:
        CnetError: names the word, and how a value is written.
    """
    for word in words:
        name, equals, value = word.partition("=")
        known = any(option.startswith(name) for option in _OPTIONS) if name != "--" else False
        if not word.startswith("-") or known or word.startswith(_LETTERS):
            continue
        written = f"{name.lstrip('-')}={value if equals else 'VALUE'}"
        near = nearest(name, _OPTIONS, cutoff=0.8)
        fix = f"did you mean {near}?" if near else f"a value is written as {written}."
        raise CnetError(
            f"{word} is not an option; {fix}",
            key=name,
            value=word,
            expected=", ".join(_OPTIONS),
            fix=fix,
        )


def _refuse_swept_inputs(words: list[str]) -> None:
    """Refuse a sweep over its folder, or a key that is not part of the names of its jobs' folders.

    Raises:
        CnetError: names the word.
    """
    if not set(_MULTIRUN) & set(words):
        return
    parser = OverridesParser.create()
    for word in words:
        key, _, value = word.partition("=")
        if key == "hydra.sweep.dir" and "," in value:
            raise CnetError(
                f"run={value.strip(_QUOTE)} is the one folder of a whole sweep, in which each job "
                "has its own; give it a name without a comma.",
                key="run",
                value=value.strip(_QUOTE),
                expected="a name without a comma",
            )
        if key.lstrip("+") in _UNNAMED and parser.parse_override(word).is_sweep_override():
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


@contextmanager
def _silent_logs() -> Iterator[None]:
    """Keep the log from printing traces where its file cannot be written, as on a full disk."""
    before = logging.raiseExceptions
    logging.raiseExceptions = False
    try:
        yield
    finally:
        logging.raiseExceptions = before
