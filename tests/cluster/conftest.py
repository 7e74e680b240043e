"""One private Ray for all tests on one, as it takes long to start."""

import gc
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

    # What a job in this process left has a token and another dashboard. Handles of its workers that
    # are collected later would let go of workers of the next session, whose ids are the same.
    gc.collect()
    ray.shutdown()
    with mock.patch.dict(os.environ, RAY_AUTH_MODE="disabled"):
        yield start_ray(SETTINGS)
        gc.collect()
        ray.shutdown()
