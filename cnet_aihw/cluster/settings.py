"""Settings of Ray, readable without it; they can be a structured configuration."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.runtime.typed import check_fields
from cnet_aihw.runtime.values import check_count


@dataclass
class RaySettings:
    """Ray, for measurements on chips, searchers and evaluations of placements that use it."""

    address: str | None = None
    """None: a private Ray on this machine, started when needed; "auto" or host:port: a cluster that
    runs already."""

    num_cpus: int | None = None
    """CPUs of a private Ray; None: all of this machine."""

    workers: int = 0
    """Processes that measure chips or evaluate placements in parallel; 0: this process alone."""

    cpus_per_worker: float = 1.0
    """CPUs of each worker."""

    gpus_per_worker: float = 0.0
    """GPUs of each worker; shares such as 0.5 put several workers on one GPU. Must be above 0 where
    they compute on CUDA."""

    dashboard: bool = True
    """Whether a private Ray shows its dashboard."""

    dashboard_port: int = 8265
    """Port of the dashboard, on this machine only."""

    ship_code: bool = True
    """Whether this package is sent to the machines of a cluster; false where it is installed."""


def validate_ray_settings(settings: RaySettings) -> None:
    """Check all values and their combinations.

    Raises:
        CnetError: names the field, its value and the allowed values.
    """
    check_fields(settings, "ray.")
    s = settings
    check_count("ray.workers", s.workers, 0)
    if s.num_cpus is not None:
        check_count("ray.num_cpus", s.num_cpus)
    if s.num_cpus is not None and s.address is not None:
        raise bad_value(
            "ray.num_cpus", s.num_cpus, f"null, as ray.address={s.address} is a running cluster"
        )
    if not (math.isfinite(s.cpus_per_worker) and s.cpus_per_worker > 0):
        raise bad_value("ray.cpus_per_worker", s.cpus_per_worker, "a number above 0")
    if not (math.isfinite(s.gpus_per_worker) and s.gpus_per_worker >= 0):
        raise bad_value("ray.gpus_per_worker", s.gpus_per_worker, "0 or more")
    if not 0 < s.dashboard_port < 65536:
        raise bad_value("ray.dashboard_port", s.dashboard_port, "a port from 1 to 65535")
