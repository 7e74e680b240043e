"""The address of a running Ray, and whether one answers there; Ray itself would try for minutes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

from cnet_aihw.runtime.errors import CnetError

_CONNECT_SECONDS = 5.0
_ATTACH_SECONDS = 120.0
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_ATTACH = """
import logging, sys
import ray
ray.init(address=sys.argv[1], logging_level=logging.ERROR, log_to_driver=False)
"""


def find_ray(address: str) -> str:
    """Return the address as host:port, after something answered there as Ray does.

    Args:
        address: "auto" or host:port of the head node.

    Raises:
        CnetError: if it is something else, or nothing answers there as Ray.
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


def try_to_attach(address: str) -> None:
    """Attach to a running Ray in a process of its own, which a failure ends alone.

    Raises:
        CnetError: if it does not take this process, for instance for its token or its version.
    """
    command = [sys.executable, "-c", _ATTACH, find_ray(address)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_ATTACH_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise not_attached(address, f"no answer within {_ATTACH_SECONDS:g} seconds") from error
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        words = [line for line in said if "oken" in line or "uthenticat" in line]
        raise not_attached(address, (words or said or [f"exit code {done.returncode}"])[-1])


def not_attached(address: str, reason: str) -> CnetError:
    """Return the error for a running Ray that does not take this process."""
    if "oken" in reason or "uthenticat" in reason:
        fix = "set RAY_AUTH_TOKEN_PATH to the file with the token of that cluster"
        reason = reason.partition(". ")[0][:200]
        return CnetError(
            f"the Ray at {address} does not take this process's token ({reason}); {fix}.",
            key="ray.address",
            value=address,
            expected="the token of the cluster",
            fix=fix,
        )
    return CnetError(
        f"Ray cannot be reached at {address}: {reason[:300]}; check that it runs, and that Ray and "
        "Python have the versions that they have here.",
        key="ray.address",
        value=address,
        expected="a running Ray",
    )
