"""Ray: started once, found or refused in one sentence, and nothing of it stays behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from uuid import uuid4

import pytest

from cnet_aihw.cluster import RaySession, RaySettings, start_ray
from cnet_aihw.cluster import session as module
from cnet_aihw.runtime.errors import CnetError

from .conftest import ROOT, SETTINGS, Killed

pytestmark = pytest.mark.slow


def test_a_second_start_gives_the_same_session(session: RaySession) -> None:
    assert start_ray(SETTINGS) is session
    assert start_ray(replace(SETTINGS, num_cpus=7, dashboard=False)) is session
    with pytest.raises(CnetError) as error:
        start_ray(RaySettings(address="127.0.0.1:1"))
    assert (error.value.key, error.value.expected) == ("ray.address", None)


def test_ray_that_is_not_installed_is_said_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(CnetError) as error:
        start_ray(RaySettings())
    assert error.value.fix == "pip install 'ray[default,rllib]'"


@contextmanager
def taken_port() -> Iterator[int]:
    """A port where an HTTP server listens."""

    class Silent(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Silent) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


ATTACH = """
import sys
from pathlib import Path

from cnet_aihw.cluster import RaySettings
from cnet_aihw.search import EvaluationStore
from cnet_aihw.search.rllib import EvaluationWorkers
from cnet_aihw.compensation import Placement

class Half:
    key = lambda self: "half"
    describe = lambda self: {}
    evaluate = lambda self, placement: (0.5, len(placement))

settings = RaySettings(address=sys.argv[1], workers=1)
with EvaluationWorkers(Half(), EvaluationStore(sys.argv[2], "half"), settings, "attached") as w:
    print([value.scores for value, _ in w.measure([Placement({}), Placement({"a": 0.5})])])
"""


def test_a_process_attaches_to_a_cluster_and_evaluates_there(
    session: RaySession, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", ATTACH, session.address, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stdout == "[(0.5, 0.0), (0.5, 1.0)]\n", done.stderr
    assert done.stderr == ""


@pytest.fixture
def no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process where Ray does not run."""
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.mark.usefixtures("no_session")
@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:{free}", "a running Ray"),
        ("127.0.0.1:{taken}", "a running Ray"),
        ("127.0.0.1:99999", "a running Ray"),
        ("no-such-host.invalid:6379", "a running Ray"),
        ("local", "'auto', host:port or null"),
        ("ray://127.0.0.1:10001", "'auto', host:port or null"),
    ],
)
def test_an_address_without_ray_is_refused_within_seconds(address: str, expected: str) -> None:
    with taken_port() as taken:
        address = address.format(free=free_port(), taken=taken)
        begin = time.monotonic()
        with pytest.raises(CnetError) as error:
            start_ray(RaySettings(address=address))
    assert (error.value.key, error.value.value) == ("ray.address", address)
    assert error.value.expected == expected
    assert time.monotonic() - begin < 30


@pytest.mark.usefixtures("no_session")
@pytest.mark.parametrize("running", [set(), {"127.0.0.1:1", "127.0.0.1:2"}])
def test_auto_needs_exactly_one_ray(monkeypatch: pytest.MonkeyPatch, running: set[str]) -> None:
    from ray._private import services

    monkeypatch.setattr(services, "find_gcs_addresses", lambda: running)
    monkeypatch.setattr(services, "canonicalize_bootstrap_address", lambda *_, **__: None)
    with pytest.raises(CnetError) as error:
        start_ray(RaySettings(address="auto"))
    assert (error.value.key, error.value.value) == ("ray.address", "auto")


def test_a_dashboard_port_that_is_taken_gives_the_next_free_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with taken_port() as taken:
        options = module._dashboard(RaySettings(dashboard_port=taken))
    assert taken < options["dashboard_port"] < taken + 50
    assert f"Port {taken} is taken; the dashboard is at port {options['dashboard_port']}" in (
        caplog.text
    )


@pytest.mark.parametrize("own", [True, False])
def test_a_ray_that_takes_the_port_meanwhile_costs_one_more_start(
    monkeypatch: pytest.MonkeyPatch, own: bool
) -> None:
    """A sweep that starts at the same time keeps the port for hours."""
    import ray

    asked: list[int | None] = []
    with socket.socket() as other:

        def init(dashboard_port: int | None, **_: object) -> str:
            asked.append(dashboard_port)
            if len(asked) > 1 or dashboard_port is None:
                return "started"  # with None Ray looks for the next free one itself
            other.bind(("127.0.0.1", dashboard_port))
            other.listen()
            raise OSError("Failed to find a valid port for dashboard after 0 retries")

        monkeypatch.setattr(ray, "init", init)
        settings = RaySettings() if own else RaySettings(dashboard_port=free_port())
        assert module._init(settings, module._private(settings)) == "started"
    if own:
        assert asked == [None]
    else:
        first, second = asked
        assert first == settings.dashboard_port
        assert second is not None and first is not None and first < second < first + 50


INTERRUPTED = """
import ray, signal, time
from cnet_aihw.cluster import RaySettings
from cnet_aihw.cluster import start_ray

# What starts the tests in the background lets them ignore Ctrl-C, and their children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
start_ray(RaySettings(num_cpus=1, dashboard=False))

@ray.remote
def work():
    time.sleep(600)

waiting = work.remote()
ray.wait([waiting], timeout=1)
print("started", flush=True)
ray.get(waiting)
"""


def belonging(mark: str, driver: int) -> list[str]:
    """Processes with a mark in their environment, or a file of the session of a driver open.

    What a process starts inherits its environment, but Ray's agents write their titles over it.
    """
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            files = [os.readlink(file) for file in (folder / "fd").iterdir()]
            inherited = mark.encode() in (folder / "environ").read_bytes()
            if inherited or any(f"_{driver}/logs/" in file for file in files):
                found.append((folder / "cmdline").read_text())
    return found


def wait_until_gone(mark: str, driver: int, deadline: float) -> None:
    while left := belonging(mark, driver):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def test_nothing_stays_behind_after_ctrl_c() -> None:
    mark = uuid4().hex
    env = {**os.environ, "CNET_MARK": mark}
    command = [sys.executable, "-c", INTERRUPTED]
    with subprocess.Popen(
        command, env=env, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as driver:
        assert driver.stdout is not None and driver.stderr is not None
        assert driver.stdout.readline() == "started\n", driver.stderr.read()
        there = belonging(mark, driver.pid)
        assert len(there) > 3 and any("Agent" in process for process in there)
        driver.send_signal(signal.SIGINT)
        try:
            driver.wait(60)
        finally:
            driver.kill()
        assert "KeyboardInterrupt\n" in driver.stderr.read()  # Ray's core may have the last word
    wait_until_gone(mark, driver.pid, time.monotonic() + 30)


def test_nothing_stays_behind_after_a_kill(killed: Killed) -> None:
    wait_until_gone(killed.mark, killed.driver, killed.moment + 30)
