"""`cnet-aihw doctor`: check the installation and this machine, with a remedy for each fault."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from importlib import metadata
from typing import Self

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cnet_aihw.doctor.checks import FAULT, FOUND, OK, WARNING, Finding
from cnet_aihw.doctor.machine import machine

NAME = "cnet_aihw"
OUTPUTS = "outputs"  # the folder of hydra.run.dir in config.yaml
PROBE_SECONDS = 180.0
_END_SECONDS = 10.0  # in which a check ends what it has started
_REINSTALL = "install the versions that were tested: pip install -c constraints.txt ."
_ON_FAILURE = {
    "torch_and_cuda": ("torch", FAULT, _REINSTALL),
    "torch_tile": ("torch tile", FAULT, f"nothing analog works; {_REINSTALL}"),
    "cpp_tile": (
        "C++ tile",
        WARNING,
        "all on torch tiles works; for rram=lognormal_cpp and aihwkit's own configurations "
        f"{_REINSTALL}",
    ),
    "ray_import": (
        "Ray",
        WARNING,
        "all but search=ppo and ray.workers works; for these: pip install 'ray[default,rllib]'",
    ),
    "ray_start": ("Ray start", FAULT, "free memory and /tmp, or attach with ray.address=HOST:PORT"),
}
"""For each check, where it fails: its line, its state, and the remedy."""
_NOT_ALWAYS = {"ray"}
"""Libraries that only some jobs need."""


def doctor(words: Sequence[str]) -> int:
    """Check the installation and the machine, and print a line for each check.

    Args:
        words: the command line behind ``doctor``.

    Returns:
        The exit code: 1 where there is a fault, else 0.
    """
    parser = argparse.ArgumentParser(
        prog="cnet-aihw doctor",
        description="Check the installation and this machine, with a remedy for each fault. The "
        "exit code is 1 where there is a fault.",
    )
    parser.add_argument("--ray", action="store_true", help="also start a local Ray (slow)")
    chosen = parser.parse_args(words)
    probes = [name for name in _ON_FAILURE if chosen.ray or name != "ray_start"]
    console = Console()
    with console.status("trying torch, aihwkit and Ray"):
        found = _probed(probes)
    findings = [*_libraries(), *found, *machine(), _folder(".")]
    if os.path.lexists(OUTPUTS):
        findings.append(_folder(OUTPUTS))
    _show(console, findings)
    return int(any(finding.state == FAULT for finding in findings))


def _probed(names: Sequence[str]) -> list[Finding]:
    """Run checks side by side, each in its own process; return their findings."""
    with ExitStack() as stack:
        running = [(name, stack.enter_context(_Probe(name))) for name in names]
        end = time.monotonic() + PROBE_SECONDS
        return [finding for name, probe in running for finding in _outcome(name, probe.finish(end))]


class _Probe:
    """A check in its own process, which ends with the block."""

    def __init__(self, name: str) -> None:
        # in memory: pipes could fill, and there may be no folder for temporary files
        self._files = [
            open(os.memfd_create(name), "w+", encoding="utf-8")  # noqa: SIM115
            for _ in range(2)
        ]
        command = [sys.executable, "-P", "-m", "cnet_aihw.doctor.checks", name]
        self._process = subprocess.Popen(command, stdout=self._files[0], stderr=self._files[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_SECONDS)
            self._process.kill()
            self._process.wait()
        for file in self._files:
            file.close()

    def finish(self, end: float) -> tuple[int | None, str, str]:
        """Wait until a moment; return the exit code, None if it still runs, and what it wrote."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, end - time.monotonic()))
        for file in self._files:
            file.seek(0)
        return self._process.poll(), self._files[0].read(), self._files[1].read()


def _outcome(name: str, ended: tuple[int | None, str, str]) -> list[Finding]:
    """Return the findings of a check, or how it ended."""
    code, written, errors = ended
    found = [line for line in written.splitlines() if line.startswith(FOUND)]
    if code == 0 and found:
        return [Finding(**record) for record in json.loads(found[-1].removeprefix(FOUND))]
    said = [line.strip() for line in errors.splitlines() if line.strip()]
    reason = said[-1] if said else f"ended with exit code {code} and found nothing"
    if code is None:
        reason = f"no answer within {PROBE_SECONDS:g} seconds"
    elif code < 0:
        known = -code in {one.value for one in signal.Signals}
        reason = f"crashed ({signal.Signals(-code).name if known else f'signal {-code}'})"
    what, state, advice = _ON_FAILURE[name]
    return [Finding(what, state, reason, advice)]


def _libraries() -> Iterable[Finding]:
    """Check Python and the libraries against the package's requirements."""
    try:
        declared = metadata.metadata(NAME)
    except metadata.PackageNotFoundError:
        advice = "install it: pip install -c constraints.txt ."
        yield Finding(NAME, WARNING, "not installed, so that no versions can be compared", advice)
        return
    wanted, version = declared["Requires-Python"], sys.version.split()[0]
    fits = SpecifierSet(wanted).contains(version)
    found, advice = f"{version} at {sys.executable}", f"use a Python {wanted}"
    yield Finding("Python", OK if fits else FAULT, found, "" if fits else advice)
    extras = [extra for extra in declared.get_all("Provides-Extra") or () if extra != "dev"]
    there, optional = [f"{NAME} {declared['Version']}"], []
    for requirement in map(Requirement, metadata.requires(NAME) or ()):
        name, marker = requirement.name, requirement.marker
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed = ""
        extra = next((e for e in extras if marker and marker.evaluate({"extra": e})), None)
        if extra:
            optional.append(f"{name} {installed or 'not installed'} (extra {extra!r})")
        elif marker and not marker.evaluate({"extra": ""}):
            continue
        elif installed and requirement.specifier.contains(installed, prereleases=True):
            there.append(f"{name} {installed}")
        else:
            state = WARNING if installed or name in _NOT_ALWAYS else FAULT
            shown = f"{installed}, not tested" if installed else "not installed"
            yield Finding(name, state, shown, f"pip install '{_without_marker(requirement)}'")
    yield Finding("libraries", OK, ", ".join(there))
    if optional:
        yield Finding("optional", OK, ", ".join(optional))


def _without_marker(requirement: Requirement) -> str:
    return str(requirement).partition(";")[0].strip()


def _folder(name: str) -> Finding:
    """Check that a file can be written to a folder."""
    what = "this folder" if name == "." else f"folder {name}"
    try:
        with tempfile.TemporaryFile(dir=name) as file:
            file.write(b"x")
    except OSError as error:
        reason = f"cannot be written to ({error.strerror})"
        return Finding(what, FAULT, reason, "go to another folder, or name one: run=FOLDER")
    return Finding(what, OK, "can be written to")


def _show(console: Console, findings: Sequence[Finding]) -> None:
    styles = {OK: "green", WARNING: "yellow", FAULT: "bold red"}
    table = Table(box=box.SIMPLE_HEAD, show_header=False)
    for finding in findings:
        text = f"{finding.found}: {finding.advice}" if finding.advice else finding.found
        table.add_row(Text(finding.state, styles[finding.state]), Text(finding.what), Text(text))
    console.print(table)
    counts = (sum(finding.state == state for finding in findings) for state in (FAULT, WARNING))
    console.print("faults: {}, warnings: {}".format(*counts))
