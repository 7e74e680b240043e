"""Ray: started or attached to once per process, quiet, and gone when the process ends."""

from __future__ import annotations

import logging
import os
import socket
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cnet_aihw
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.search.settings import RaySettings, validate_ray_settings

NAMESPACE = "cnet_aihw"
"""Ray namespace of all named actors of this package."""

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is reported to Ray's makers
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # under `uv run`, Ray would pack the working directory
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # GPUs are not hidden from those who reserve none
}
_PORTS = 50  # ports after the wanted one that are tried for the dashboard
_CONNECT_SECONDS = 5.0
_STARTS = 3
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])

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
        CnetError: if Ray is not installed, nobody listens at the address, or this process uses
            another Ray already.
    """
    global _session
    validate_ray_settings(settings)
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise CnetError(
            f"Ray is not installed ({error}); install it with: pip install 'ray[default,rllib]'.",
            key="ray",
            fix="pip install 'ray[default,rllib]'",
        ) from error
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
    options = _private(settings) if settings.address is None else _cluster(settings)
    context = _init(settings, options)
    info = context.address_info
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
        raise CnetError(
            f"{purpose} need {wanted:g} CPUs and the private Ray has {there:g}; give "
            f"ray.num_cpus={int(-(-wanted // 1))} to share those of this machine, or ask for "
            "fewer processes.",
            key="ray.num_cpus",
            value=there,
            expected=f"at least {wanted:g}",
        )


def _init(settings: RaySettings, options: dict[str, Any]) -> Any:
    """Call ray.init, quietly.

    A private Ray gives up after half a minute, which a busy machine may exceed, above all the first
    time, when all is read from the disk: so it is tried again.
    """
    import ray

    private = settings.address is None
    for left in reversed(range(_STARTS if private else 1)):
        try:
            return ray.init(
                namespace=NAMESPACE, logging_level=logging.ERROR, log_to_driver=False, **options
            )
        except Exception as error:  # as Ray raises when its start takes too long
            reason = " ".join(str(error).split())
            if not left:
                where = "start here" if private else f"be reached at {settings.address}"
                raise CnetError(
                    f"Ray cannot {where}: {reason}", key="ray.address", value=settings.address
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
    options: dict[str, Any] = {
        "address": "local",
        "include_dashboard": settings.dashboard,
        # Not 15, with which workers, which the search waits for, starve on a busy machine.
        "_system_config": {"worker_niceness": 0},
    }
    if settings.num_cpus is not None:
        options["num_cpus"] = settings.num_cpus
    if settings.dashboard:
        port = _free_port(settings.dashboard_port)
        options |= {"dashboard_host": "127.0.0.1", "dashboard_port": port}
    return options


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
    options: dict[str, Any] = {"address": _find(str(settings.address))}
    if settings.ship_code:
        package = Path(cnet_aihw.__file__).parent
        options["runtime_env"] = {"py_modules": [str(package)]}
    return options


def _find(address: str) -> str:
    """Return the address as host:port, after something answered there as Ray does.

    Ray itself would try for minutes, and end the process.
    """
    if address == "auto":
        from ray._private.services import canonicalize_bootstrap_address_or_die

        try:
            address = canonicalize_bootstrap_address_or_die("auto")
        except ConnectionError as error:
            raise CnetError(
                f"ray.address is 'auto', but {str(error).partition('.')[0]}; start one with "
                "'ray start --head', give its host:port, or leave ray.address out.",
                key="ray.address",
                value="auto",
            ) from error
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdigit() and "/" not in host):
        raise CnetError(
            f"ray.address is {address!r}; expected 'auto' or host:port of the head node, such as "
            "127.0.0.1:6379, or null for a private Ray.",
            key="ray.address",
            value=address,
            expected="'auto', host:port or null",
        )
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS) as peer:
            if os.environ.get("RAY_USE_TLS", "0") in ("0", ""):
                peer.sendall(_HELLO)
                if peer.recv(4)[3:] != b"\x04":  # the SETTINGS every gRPC server begins with
                    raise OSError("what answers there is not Ray")
    except (OSError, OverflowError) as error:
        raise CnetError(
            f"no Ray at ray.address={address} ({error}); start it there with 'ray start --head "
            "--port=...', or leave ray.address out for a private one.",
            key="ray.address",
            value=address,
            expected="a running Ray",
        ) from error
    return address


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
