"""One private Ray for all tests on one, as it takes long to start."""

import os
from collections.abc import Iterator
from unittest import mock

import pytest

from cnet_aihw.cluster import RaySession, RaySettings, start_ray

WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
SETTINGS = RaySettings(num_cpus=2, dashboard_port=18265 + WORKER)


@pytest.fixture(scope="session")
def session() -> Iterator[RaySession]:
    import ray

    # Handles of one session's workers that are collected in the next one of the same process let go
    # of workers there, whose ids are the same: so this is the only one.
    assert not ray.is_initialized(), "a test has started Ray in this process"
    with mock.patch.dict(os.environ, RAY_AUTH_MODE="disabled"):
        yield start_ray(SETTINGS)
        ray.shutdown()
