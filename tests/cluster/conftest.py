"""Settings of the private Ray of all tests on one."""

import os

from cnet_aihw.cluster import RaySettings

WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
SETTINGS = RaySettings(num_cpus=2, dashboard_port=18265 + WORKER)
