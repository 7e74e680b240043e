"""Faults of a machine are found before Ray starts, each with its cure."""

import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch

from cnet_aihw.cluster import RaySettings, machine
from cnet_aihw.cluster.machine import check_ray, check_start, private_cpus
from cnet_aihw.runtime.errors import CnetError

GIB = 2**30


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with all that Ray needs: a home of its own, and memory."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(machine, "available_bytes", lambda: 8 * GIB)
    monkeypatch.setattr(machine, "total_bytes", lambda: 16 * GIB)
    monkeypatch.setattr(os, "access", lambda path, mode, **_: "foreign" not in str(path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    return tmp_path


def refused(check: Callable[[], None]) -> CnetError:
    with pytest.raises(CnetError) as error:
        check()
    return error.value


def test_where_nothing_is_wrong_nothing_is_said(here: Path) -> None:
    check_start(2)
    check_ray(RaySettings(workers=2, num_cpus=2))
    assert list(here.iterdir()) == []


def test_ray_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    error = refused(lambda: check_ray(RaySettings()))
    assert (error.key, error.fix) == ("ray", "pip install 'ray[default,rllib]'")


@pytest.mark.parametrize(
    ("variables", "key", "value"),
    [
        ({"RAY_TMPDIR": "/tmp/" + "x" * 80}, "RAY_TMPDIR", "/tmp/" + "x" * 80),
        ({"RAY_TMPDIR": "{foreign}"}, "RAY_TMPDIR", "{foreign}/ray"),
        ({"HOME": "{foreign}"}, "HOME", "{foreign}"),
        ({"HOME": ""}, "HOME", ""),
        ({"RAY_AUTH_TOKEN_PATH": "/nix/token"}, "RAY_AUTH_TOKEN_PATH", "/nix/token"),
        ({"RAY_AUTH_TOKEN_PATH": "/proc/self/mem"}, "RAY_AUTH_TOKEN_PATH", "/proc/self/mem"),
        ({"RAY_memory_usage_threshold": "0.1"}, "memory", 8 * GIB),
    ],
)
def test_the_environment_is_checked_and_the_variable_named(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], key: str, value: object
) -> None:
    with TemporaryDirectory(prefix="foreign", dir="/tmp") as foreign:
        for name, text in variables.items():
            monkeypatch.setenv(name, text.format(foreign=foreign))
        error = refused(lambda: check_start(1))
    wanted = value.format(foreign=foreign) if isinstance(value, str) else value
    assert (error.key, error.value) == (key, wanted)
    assert error.fix


def test_a_token_that_is_empty_is_named(here: Path) -> None:
    (here / ".ray").mkdir()
    (here / ".ray" / "auth_token").write_text("\n")
    assert refused(lambda: check_start(0)).value == str(here / ".ray" / "auth_token")
    (here / ".ray" / "auth_token").write_text("0123")
    check_start(0)


def test_the_longest_folder_for_sockets_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Unix socket's path has at most 107 bytes, those of the session included."""
    most = int(str(refused_for_length(monkeypatch, 90).expected).split()[-2])
    monkeypatch.setenv("RAY_TMPDIR", "/" + "x" * (most - 1))
    check_start(0)
    assert refused_for_length(monkeypatch, most + 1).key == "RAY_TMPDIR"
    session = "/ray/session_2026-11-28_22-57-00_123456_1234567/sockets/plasma_store"
    assert most + len(session) == 107


def refused_for_length(monkeypatch: pytest.MonkeyPatch, length: int) -> CnetError:
    monkeypatch.setenv("RAY_TMPDIR", "/" + "x" * (length - 1))
    return refused(lambda: check_start(0))


def test_a_limit_of_processes_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (300, 300))
    error = refused(lambda: check_start(1))
    assert (error.key, error.value) == ("ulimit -u", 300)


def test_little_memory_is_refused_before_rays_monitor_ends_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "available_bytes", lambda: GIB)
    check_start(0)
    error = refused(lambda: check_start(4))
    assert (error.key, error.value) == ("memory", GIB)


@pytest.mark.parametrize(
    ("settings", "runners", "key"),
    [
        (RaySettings(workers=3, num_cpus=2), 0, "ray.num_cpus"),
        (RaySettings(workers=1, num_cpus=2), 2, "ray.num_cpus"),
        (RaySettings(workers=10_000), 0, "ray.num_cpus"),
        (RaySettings(workers=2, num_cpus=2, gpus_per_worker=1), 0, "ray.gpus_per_worker"),
        (RaySettings(address="127.0.0.1:1"), 0, "ray.address"),
        (RaySettings(address="nonsense"), 0, "ray.address"),
    ],
)
def test_what_is_asked_of_ray_is_checked(
    monkeypatch: pytest.MonkeyPatch, settings: RaySettings, runners: int, key: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(machine, "available_bytes", lambda: 10**15)
    assert refused(lambda: check_ray(settings, runners)).key == key


@pytest.mark.parametrize(
    ("share", "workers", "fits"), [(0.5, 2, True), (0.5, 3, False), (0.4, 2, True), (2, 1, False)]
)
def test_shares_of_a_gpu(
    monkeypatch: pytest.MonkeyPatch, share: float, workers: int, fits: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    settings = RaySettings(workers=workers, num_cpus=workers, gpus_per_worker=share)
    if fits:
        check_ray(settings, on_cuda=True)
    else:
        assert refused(lambda: check_ray(settings, on_cuda=True)).key == "ray.gpus_per_worker"


def test_workers_on_cuda_need_a_share() -> None:
    settings = RaySettings(workers=1, num_cpus=1)
    assert refused(lambda: check_ray(settings, on_cuda=True)).key == "ray.gpus_per_worker"


def test_a_private_ray_has_the_cpus_of_the_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "usable_cpus", lambda: 2.5)
    assert private_cpus(RaySettings()) == 2
    assert private_cpus(RaySettings(num_cpus=7)) == 7
    monkeypatch.setattr(machine, "usable_cpus", lambda: 0.5)
    assert private_cpus(RaySettings()) == 1
