"""Ray: started or attached to once per process, quiet, and gone when the process ends."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cnet_aihw
from cnet_aihw.cluster.address import find_ray, not_attached
from cnet_aihw.cluster.machine import (
    check_installed,
    check_start,
    private_cpus,
    too_few_cpus,
)
from cnet_aihw.cluster.settings import RaySettings, validate_ray_settings
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.stopping import same_handlers

NAMESPACE = "cnet_aihw"
"""Ray namespace of all named actors of this package."""

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is reported to Ray's makers
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # under `uv run`, Ray would pack the working directory
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # GPUs are not hidden from those who reserve none
}
_PORTS = 50  # ports after the wanted one that are tried for the dashboard
_STARTS = 3
_MARK = "CNET_AIHW_RAY"  # variable in the environment of all processes of a private Ray
_pipes: list[int] = []  # kept open until the process ends

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RaySession:
    """The Ray of this process."""

    wanted: str | None
    """Address in the settings; None: a private Ray."""

    address: str
    """Address of its head node."""

    dashboard: str | None
    """URL of the dashboard, if any."""


_session: RaySession | None = None


def start_ray(settings: RaySettings) -> RaySession:
    """Start a private Ray or attach to a running one; the second time, return what is there.

    A private Ray ends with the process, however that ends. A Ray that the caller initialised
    is used as it is. Messages of Ray go to the file ``cnet_aihw.log`` among its own log files.

    Args:
        settings: where Ray runs.

    Returns:
        The session of this process.

    Raises:
        CnetError: if Ray is not installed or cannot start here, nobody listens at the address, or
            this process uses another Ray already.
    """
    global _session
    validate_ray_settings(settings)
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    check_installed()
    import ray

    if ray.is_initialized():
        if _session is None:
            return RaySession(settings.address, ray.get_runtime_context().gcs_address, None)
        if settings.address != _session.wanted:
            raise CnetError(
                f"this process uses the Ray at {_session.address} already, so that "
                f"ray.address={settings.address} is not possible in it; start a new process.",
                key="ray.address",
                value=settings.address,
                expected=_session.wanted,
            )
        return _session
    if settings.address is None:
        check_start(settings.workers)
        options = _private(settings)
    else:
        options = _cluster(settings)
    with same_handlers(), _watched(settings.address is None) as watch:
        info = _init(settings, options).address_info
        watch(info["session_dir"])
    _log_to_file(Path(info["session_dir"]) / "logs")
    url = info["webui_url"] if settings.dashboard or settings.address is not None else None
    _session = RaySession(settings.address, info["gcs_address"], url or None)
    log.info("Ray runs at %s; %s", _session.address, _where_to_look(url))
    return _session


def check_cpus(wanted: float, purpose: str) -> None:
    """Check that the private Ray has the CPUs that processes will ask for, or wait forever.

    Args:
        wanted: CPUs of all of them.
        purpose: their purpose, as a noun phrase for the message.

    Raises:
        CnetError: if it has fewer. A cluster may grow, so it is not checked.
    """
    import ray

    there = ray.cluster_resources().get("CPU", 0.0)
    if _session is not None and _session.wanted is None and wanted > there:
        raise too_few_cpus(purpose, wanted, there)


def check_gpus(wanted: float) -> None:
    """Check that the private Ray has the GPUs that workers will ask for, or wait forever.

    Raises:
        CnetError: if it has fewer. A cluster may grow, so it is not checked.
    """
    import ray

    there = ray.cluster_resources().get("GPU", 0.0)
    if _session is not None and _session.wanted is None and wanted > there:
        expected = f"a share that all workers have on the {there:g} GPUs of the private Ray"
        raise bad_value("ray.gpus_per_worker", wanted, expected)


@contextmanager
def _watched(private: bool) -> Iterator[Callable[[str], object]]:
    """Mark the processes that Ray starts in the block, which then end with this one.

    Yields what is called with the folder of Ray's session, as soon as it is known.
    """
    if not private:
        yield lambda _: None
        return
    mark = secrets.token_hex(16)
    read, write = os.pipe()  # the end that stays open here closes with this process
    script = str(Path(__file__).with_name("watchdog.py"))
    files: list[Any] = [(os.POSIX_SPAWN_DUP2, read, 0)]
    files += [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_WRONLY, 0) for number in (1, 2)]
    arguments = [sys.executable, "-I", "-S", script, mark[::-1]]
    os.posix_spawn(sys.executable, arguments, {}, file_actions=files, setsid=True)
    os.close(read)
    _pipes.append(write)
    os.environ[_MARK] = mark

    def watch(folder: str) -> None:
        with suppress(BrokenPipeError):  # a watchdog that is gone does not end the work
            os.write(write, os.fsencode(Path(folder).resolve()))

    try:
        yield watch
    finally:
        del os.environ[_MARK]


def _init(settings: RaySettings, options: dict[str, Any]) -> Any:
    """Call ray.init, quietly.

    A private Ray gives up after half a minute, which a busy machine may exceed, above all the first
    time, when all is read from the disk: so it is tried again.
    """
    import ray

    private = settings.address is None
    for left in reversed(range(_STARTS if private else 1)):
        place = _dashboard(settings) if private else {}
        try:
            return ray.init(
                namespace=NAMESPACE,
                logging_level=logging.ERROR,
                log_to_driver=False,
                **options,
                **place,
            )
        except Exception as error:  # as Ray raises when its start takes too long
            reason = " ".join(str(error).split())
            if not private:
                first = error.__cause__ or error.__context__ or error
                reason = f"{reason} ({first})" if first is not error else reason
                raise not_attached(str(settings.address), reason) from error
            if not left:
                raise CnetError(
                    f"Ray cannot start here: {reason[:300]}; 'cnet-aihw doctor --ray' looks for "
                    "the reason, and ray.address=HOST:PORT attaches to a running one.",
                    key="ray.address",
                    fix="run cnet-aihw doctor --ray",
                ) from error
            log.warning("Ray did not start; trying again (%s)", reason)
            _end_node(error)
            ray.shutdown()
    raise AssertionError("unreachable")


def _end_node(error: BaseException) -> None:
    """End the processes of a node that did not come up, which Ray leaves until this one ends."""
    from ray._private.node import Node

    for frame, _ in traceback.walk_tb(error.__traceback__):
        node = frame.f_locals.get("self")
        if isinstance(node, Node):
            node.kill_all_processes(check_alive=False, allow_graceful=False)


def _private(settings: RaySettings) -> dict[str, Any]:
    # "local" starts a private one even where RAY_ADDRESS names a cluster.
    return {
        "address": "local",
        "include_dashboard": settings.dashboard,
        # Not 15, with which workers, which the search waits for, starve on a busy machine.
        "_system_config": {"worker_niceness": 0},
        "num_cpus": private_cpus(settings),
    }


def _dashboard(settings: RaySettings) -> dict[str, Any]:
    """Return where the dashboard of a private Ray is, by the ports that are free now.

    Another Ray that starts at the same time may take the port before this one does. From its own
    default on, Ray then takes the next one; from any other it gives up, and is started again.
    """
    from ray._private.ray_constants import DEFAULT_DASHBOARD_PORT

    if not settings.dashboard:
        return {}
    port = _free_port(settings.dashboard_port)
    by_ray = settings.dashboard_port == DEFAULT_DASHBOARD_PORT
    return {"dashboard_host": "127.0.0.1", "dashboard_port": None if by_ray else port}


def _free_port(wanted: int) -> int:
    for port in range(wanted, min(wanted + _PORTS, 65536)):
        with socket.socket() as probe:
            # As servers do, so that a port that one has just left is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port != wanted:
            log.warning("Port %d is taken; the dashboard is at port %d instead.", wanted, port)
        return port
    raise CnetError(
        f"ports {wanted} to {wanted + _PORTS - 1} are all taken; give another ray.dashboard_port, "
        "or ray.dashboard=false.",
        key="ray.dashboard_port",
        value=wanted,
        expected="a free port",
    )


def _cluster(settings: RaySettings) -> dict[str, Any]:
    options: dict[str, Any] = {"address": find_ray(str(settings.address))}
    if settings.ship_code:
        package = Path(cnet_aihw.__file__).parent
        options["runtime_env"] = {"py_modules": [str(package)]}
    return options


def log_to_file(name: str) -> None:
    """Send the messages of a logger of Ray to Ray's own one, and so to the file."""
    logger = logging.getLogger(name)
    logger.handlers.clear()
    logger.propagate = True


def _log_to_file(folder: Path) -> None:
    logger = logging.getLogger("ray")
    handler = logging.FileHandler(folder / "cnet_aihw.log", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)


def _where_to_look(url: str | None) -> str:
    if not url:
        return "no dashboard."
    token = (
        ""
        if os.environ.get("RAY_AUTH_MODE") == "disabled"
        else ("; it asks for the token that 'ray get-auth-token' prints")
    )
    return f"the dashboard is at http://{url}{token}."
