"""Settings of a search, readable without torch and Ray; they can be structured configurations."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from cnet_aihw.runtime.errors import CnetError

OBJECTIVES = ("mean", "mean_minus_std", "quantile", "yield")
OVERHEADS = ("weights", "macs")
OVER_LIMIT = ("mask", "penalty")


@dataclass
class ObjectiveSettings:
    """What a placement is worth: an objective over chips, less the overhead."""

    kind: str = "mean"
    """Of the chips' accuracies: their "mean" (the paper's, as we read it), "mean_minus_std",
    "quantile", or "yield", the share of chips that reach ``threshold``."""

    k: float = 1.0
    """How many standard deviations "mean_minus_std" takes off."""

    quantile: float = 0.05
    """Which quantile "quantile" takes, in [0, 1]."""

    threshold: float | None = None
    """Accuracy in [0, 1] that a chip must reach, for "yield"."""

    overhead: str = "weights"
    """Which overhead the limit and the reward count: "weights" or "macs"."""

    over_limit: str = "mask"
    """What becomes of placements over the limit: "mask", an agent cannot choose them (ours);
    "penalty", it can, and the reward is minus the overhead without any evaluation (the paper, as we
    read it)."""


@dataclass
class SpaceSettings:
    """What each candidate layer can be given."""

    ratios: list[float] = field(default_factory=lambda: [0.0, 0.125, 0.25, 0.5, 1.0])
    """Ratios to choose from, in [0, 1]; 0, no compensation, must be one of them."""

    digital: bool = False
    """Whether keeping the layer digital is a further choice."""


@dataclass
class RaySettings:
    """Where Ray runs, for the searchers and evaluations that use it."""

    address: str | None = None
    """None: a private Ray on this machine, started when needed; "auto" or host:port: a cluster that
    runs already."""

    num_cpus: int | None = None
    """CPUs of a private Ray; None: all there are."""

    workers: int = 0
    """Processes that evaluate placements side by side; 0: this process alone."""

    cpus_per_worker: float = 1.0
    """CPUs that each of them takes."""

    gpus_per_worker: float = 0.0
    """GPUs that each of them takes; shares such as 0.5 put several on one."""

    dashboard: bool = True
    """Whether a private Ray shows its dashboard."""

    dashboard_port: int = 8265
    """Port of the dashboard, on this machine only."""

    ship_code: bool = True
    """Whether this package is sent to the machines of a cluster; false where it is installed."""


def validate_objective_settings(settings: ObjectiveSettings) -> None:
    """Check all values and that they fit together.

    Raises:
        CnetError: names the field, its value and what is allowed.
    """
    s = settings
    for name, word, allowed in (
        ("kind", s.kind, OBJECTIVES),
        ("overhead", s.overhead, OVERHEADS),
        ("over_limit", s.over_limit, OVER_LIMIT),
    ):
        if word not in allowed:
            raise _unknown(f"objective.{name}", word, allowed)
    if not (math.isfinite(s.k) and s.k >= 0):
        raise CnetError(f"objective.k is {s.k}; give a number of at least 0.")
    if not 0.0 <= s.quantile <= 1.0:
        raise CnetError(f"objective.quantile is {s.quantile}; give a number in [0, 1].")
    if s.threshold is not None and not 0.0 <= s.threshold <= 1.0:
        raise CnetError(
            f"objective.threshold is {s.threshold}; give an accuracy in [0, 1], such as 0.9."
        )
    if s.kind == "yield" and s.threshold is None:
        raise CnetError(
            "objective.kind is 'yield' but objective.threshold is not given; give the accuracy "
            "that a chip must reach, such as objective.threshold=0.9."
        )


def validate_space_settings(settings: SpaceSettings) -> None:
    """Check that the choices are ratios, all different, and not only 0.

    Raises:
        CnetError: names the ratios and what is wrong with them.
    """
    ratios = list(settings.ratios)
    bad = [r for r in ratios if not (math.isfinite(r) and 0.0 <= r <= 1.0)]
    if bad:
        raise CnetError(f"search.ratios has {bad[0]}; give ratios in [0, 1].")
    if len(set(ratios)) < len(ratios):
        raise CnetError(f"search.ratios is {ratios}; give each ratio once.")
    if 0.0 not in ratios:
        raise CnetError(f"search.ratios is {ratios}; add 0, with which a layer is left as it is.")
    if len(ratios) == 1 and not settings.digital:
        raise CnetError("search.ratios has 0 alone, so there is nothing to search; give more.")


def validate_ray_settings(settings: RaySettings) -> None:
    """Check all values and that they fit together.

    Raises:
        CnetError: names the field, its value and what is allowed.
    """
    s = settings
    if s.workers < 0:
        raise CnetError(f"ray.workers is {s.workers}; give 0 for this process alone, or more.")
    if s.num_cpus is not None and s.num_cpus < 1:
        raise CnetError(f"ray.num_cpus is {s.num_cpus}; give at least 1, or null for all.")
    if s.num_cpus is not None and s.address is not None:
        raise CnetError(
            f"ray.num_cpus is {s.num_cpus}, but the cluster at ray.address={s.address} has the "
            "CPUs it was started with; leave ray.num_cpus out."
        )
    if not (math.isfinite(s.cpus_per_worker) and s.cpus_per_worker > 0):
        raise CnetError(f"ray.cpus_per_worker is {s.cpus_per_worker}; give a number above 0.")
    if not (math.isfinite(s.gpus_per_worker) and s.gpus_per_worker >= 0):
        raise CnetError(f"ray.gpus_per_worker is {s.gpus_per_worker}; give 0 or more.")
    if not 0 < s.dashboard_port < 65536:
        raise CnetError(f"ray.dashboard_port is {s.dashboard_port}; give a port from 1 to 65535.")


def _unknown(name: str, word: str, allowed: Sequence[str]) -> CnetError:
    near = difflib.get_close_matches(str(word).lower(), allowed, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return CnetError(f"{name} is {word!r}; give one of {', '.join(allowed)}{hint}.")
