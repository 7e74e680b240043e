"""Checks that a private Ray can start on this machine; each fault is one sentence with its cure."""

from __future__ import annotations

import importlib.util
import math
import os
import resource
import sys
from pathlib import Path

from cnet_aihw.cluster.address import try_to_attach
from cnet_aihw.cluster.settings import RaySettings, validate_ray_settings
from cnet_aihw.runtime.control_groups import usable_cpus
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.memory import available_bytes, total_bytes

_LONGEST_SOCKET = 107  # bytes of a Unix socket's path
_SOCKET = "ray/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store"
_THREADS, _THREADS_PER_PROCESS = 450, 60
_PROCESS_BYTES = 300 * 2**20  # a process with torch
_MONITOR = 0.95  # share of the memory above which Ray's monitor ends workers


def check_ray(settings: RaySettings, env_runners: int = 0, on_cuda: bool = False) -> None:
    """Check, before any work, that Ray will be able to do what is asked of it.

    Args:
        settings: where Ray runs, and how many workers.
        env_runners: processes beside the workers.
        on_cuda: whether workers compute on CUDA.

    Raises:
        CnetError: if Ray is not installed, this machine cannot start it, a cluster does not take
            this process, or a private Ray has too few CPUs or GPUs.
    """
    validate_ray_settings(settings)
    check_installed()
    if settings.workers and on_cuda:
        check_share(settings)
    if _in_worker():
        return
    if settings.address is not None:
        try_to_attach(settings.address)
        return
    _check_size(settings, env_runners)
    check_start(settings.workers + env_runners)


def check_installed() -> None:
    """Check that Ray is there.

    Raises:
        CnetError: with the command that installs it.
    """
    if importlib.util.find_spec("ray") is None:
        raise CnetError(
            "Ray is not installed; install it with: pip install 'ray[default,rllib]'.",
            key="ray",
            fix="pip install 'ray[default,rllib]'",
        )


def check_share(settings: RaySettings) -> None:
    """Check that workers on CUDA have a share of a GPU.

    Raises:
        CnetError: if they have none.
    """
    if settings.gpus_per_worker == 0:
        raise bad_value(
            "ray.gpus_per_worker",
            settings.gpus_per_worker,
            "a share above 0, as workers compute on CUDA",
            "give 1, or 0.5 for two workers on one GPU",
        )


def check_start(processes: int) -> None:
    """Check that Ray can start here: its folders, its token, processes and memory.

    Args:
        processes: processes that it will start for the work.

    Raises:
        CnetError: names the environment variable or the limit to change.
    """
    _check_temporary()
    _check_home()
    _check_token()
    _check_threads(processes)
    _check_memory(processes)


def private_cpus(settings: RaySettings) -> int:
    """Return the CPUs of a private Ray: those asked for, or all that this process may use."""
    return settings.num_cpus or max(1, math.floor(usable_cpus()))


def _in_worker() -> bool:
    """Say whether this process is one of Ray's, as the job of a sweep is."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return False
    return bool(ray.get_runtime_context().worker.mode == ray.WORKER_MODE)


def _check_size(settings: RaySettings, env_runners: int) -> None:
    import torch

    wanted, there = (
        settings.workers * settings.cpus_per_worker + env_runners,
        private_cpus(settings),
    )
    if wanted > there:
        raise too_few_cpus(f"{settings.workers + env_runners} processes", wanted, there)
    share, gpus = settings.gpus_per_worker, 0
    if settings.workers and share:
        gpus = torch.cuda.device_count()
        room = gpus * math.floor(1 / share) if share <= 1 else gpus // share
        if room < settings.workers:
            raise bad_value(
                "ray.gpus_per_worker",
                share,
                f"a share that {settings.workers} workers have on the {gpus} GPUs that torch finds",
                "give 0 where workers compute on CPUs, or fewer ray.workers",
            )


def too_few_cpus(purpose: str, wanted: float, there: float) -> CnetError:
    """Return the error for a private Ray with too few CPUs."""
    return CnetError(
        f"{purpose} need {wanted:g} CPUs and the private Ray has {there:g}; give "
        f"ray.num_cpus={math.ceil(wanted)} to share those of this machine, or ask for fewer "
        "processes.",
        key="ray.num_cpus",
        value=there,
        expected=f"at least {wanted:g}",
    )


def _check_temporary() -> None:
    parent = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    length = len(os.fsencode(os.path.join(parent, _SOCKET)))
    if length > _LONGEST_SOCKET:
        most = _LONGEST_SOCKET - (length - len(os.fsencode(parent)))
        raise CnetError(
            f"Ray keeps its sockets in {parent}, whose name is too long for them; set "
            f"RAY_TMPDIR=/tmp in the environment, or to one with a name of at most {most} bytes.",
            key="RAY_TMPDIR",
            value=parent,
            expected=f"a folder with a name of at most {most} bytes",
            fix="set RAY_TMPDIR=/tmp in the environment",
        )
    folder = Path(parent) / "ray"
    if not _can_write(folder):
        fix = "set RAY_TMPDIR in the environment to a folder of your own"
        raise CnetError(
            f"Ray cannot write to {folder}, which another user may own; {fix}.",
            key="RAY_TMPDIR",
            value=str(folder),
            expected="a folder that can be written to",
            fix=fix,
        )


def _check_home() -> None:
    home = os.environ.get("HOME")
    if not home or not _can_write(Path(home)) or not _can_write(Path(home) / "ray_results"):
        fix = "set HOME in the environment to a folder of your own"
        raise CnetError(
            f"Ray keeps files at home, and HOME={home or ''} cannot be written to; {fix}.",
            key="HOME",
            value=home,
            expected="a folder that can be written to",
            fix=fix,
        )


def _check_token() -> None:
    """Check the file of the token with which Ray's processes know each other."""
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "disabled" or "RAY_AUTH_TOKEN" in os.environ:
        return
    given = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(given or Path(os.environ["HOME"]) / ".ray" / "auth_token")
    fix = "set RAY_AUTH_TOKEN_PATH to the file of your own token, or RAY_AUTH_MODE=disabled"
    try:
        readable = bool(path.read_text(encoding="utf-8").strip())
        reason = "is empty"
    except FileNotFoundError:
        readable = not given and _can_write(path.parent)
        reason = "does not exist" if given else "cannot be made"
    except (OSError, UnicodeDecodeError) as error:
        readable, reason = False, f"cannot be read ({getattr(error, 'strerror', 'not a text')})"
    if not readable:
        raise CnetError(
            f"Ray's token {path} {reason}; {fix}.",
            key="RAY_AUTH_TOKEN_PATH",
            value=str(path),
            expected="a file that can be read",
            fix=fix,
        )


def _check_threads(processes: int) -> None:
    """Check the limit of processes, of which Ray's end by a signal where it is reached."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if soft == resource.RLIM_INFINITY or os.geteuid() == 0:  # the superuser has no limit
        return
    needed = _threads_of_user() + _THREADS + _THREADS_PER_PROCESS * processes
    if needed > soft:
        fix = f"raise it with ulimit -u {needed}, or ask for fewer processes"
        raise CnetError(
            f"a limit of {soft} processes and threads is too low for Ray, which brings this user "
            f"to about {needed}; {fix}.",
            key="ulimit -u",
            value=soft,
            expected=f"at least {needed}",
            fix=fix,
        )


def _threads_of_user() -> int:
    found = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if folder.stat().st_uid == os.getuid():
                found += len(os.listdir(folder / "task"))
        except OSError:
            continue
    return found


def _check_memory(processes: int) -> None:
    """Check that Ray's memory monitor will let its processes live."""
    free, total = available_bytes(), total_bytes()
    off = os.environ.get("RAY_memory_monitor_refresh_ms") == "0"  # noqa: SIM112
    if free is None or total is None or off:
        return
    try:
        share = float(os.environ.get("RAY_memory_usage_threshold", _MONITOR))  # noqa: SIM112
    except ValueError:
        share = _MONITOR
    needed = int((1 - share) * total) + _PROCESS_BYTES * processes
    if free < needed:
        fix = "end other programs, or give fewer ray.workers"
        raise CnetError(
            f"Ray needs about {needed / 2**30:.1f} GiB of free memory and {free / 2**30:.1f} GiB "
            f"are free, so that it would end its own processes; {fix}.",
            key="memory",
            value=free,
            expected=needed,
            fix=fix,
        )


def _can_write(folder: Path) -> bool:
    """Say whether a folder can be written to, or made in the nearest one there is."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK, effective_ids=True)
