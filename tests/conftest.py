"""Three tiers of tests: unit, integration (the command line, in process), slow."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings

# On a busy machine, the time that inputs or examples take says nothing about them.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")
INTEGRATION = ("doctor", "jobs", "report")
STARTED: list[str] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of whole jobs and their pages; run those on fake CUDA devices last.

    Fake devices start threads in autograd's engine, which processes forked later cannot do with.
    """
    items.sort(key=lambda item: item.path.name == "test_cuda.py")
    here = Path(__file__).parent
    for item in items:
        room = item.path.relative_to(here).parts[0]
        if room in INTEGRATION or room.startswith("test_"):
            item.add_marker(pytest.mark.integration)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out slow tests when their time is over, as on a slow machine of an integration."""
    until = os.environ.get("TESTS_UNTIL")  # seconds since the epoch
    if until and item.get_closest_marker("slow") and time.time() > float(until):
        pytest.skip("the time for slow tests is over (TESTS_UNTIL)")


@pytest.hookimpl(trylast=True)  # when modules that a test has put in place are gone
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Refuse a test that starts Ray in this process where it is not that of all tests."""
    running = getattr(sys.modules.get("ray"), "is_initialized", bool)
    if not STARTED and running():
        STARTED.append(item.nodeid)
        raise AssertionError("this test has started Ray: let it have the fixture `session`")


@pytest.fixture(scope="session")
def session() -> Iterator[Any]:
    """The one private Ray of this process, for all tests on one.

    Handles of a session's workers that are collected in a later one of the same process let go of
    workers there, whose ids are the same.
    """
    import ray

    from cnet_aihw.cluster import start_ray

    from .cluster.conftest import SETTINGS

    assert not ray.is_initialized(), f"{STARTED} has started Ray in this process"
    STARTED.append("session")
    with mock.patch.dict(os.environ, RAY_AUTH_MODE="disabled"):
        yield start_ray(SETTINGS)
        ray.shutdown()
