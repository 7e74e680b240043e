"""One private Ray for all tests of this folder: it takes long to start."""

import os
from collections.abc import Iterator
from unittest import mock

import pytest

from cnet_aihw.search import RaySettings
from cnet_aihw.search.rllib import RaySession, start_ray

SETTINGS = RaySettings(num_cpus=2, dashboard_port=18265)


@pytest.fixture(scope="session")
def session() -> Iterator[RaySession]:
    import ray
    from ray import cloudpickle

    from .. import synthetic
    from . import evaluators

    for module in (synthetic, evaluators):  # worker processes cannot import tests
        cloudpickle.register_pickle_by_value(module)
    with mock.patch.dict(os.environ, RAY_AUTH_MODE="disabled"):
        yield start_ray(SETTINGS)
        ray.shutdown()
