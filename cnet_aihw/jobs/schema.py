"""Types of the configuration, known to Hydra before it composes anything; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from cnet_aihw.compensation.settings import FitSettings, PerChipSettings
from cnet_aihw.evaluation.settings import EvaluationSettings
from cnet_aihw.search.settings import ObjectiveSettings, RaySettings, SpaceSettings
from cnet_aihw.training.settings import TrainingSettings


@dataclass
class TrainingConfig(TrainingSettings):
    """One training, or the names of several."""

    compare: list[str] = field(default_factory=list)
    """Trainings (files of conf/training) to run one after the other; empty: this one alone."""

    start_from: str | None = None
    """Name of another training of the same run whose best weights this one starts from."""

    lr_scale: float = 1.0
    """Factor on ``lr``, for a training that starts from weights trained before."""


@dataclass
class ScanSettings:
    """Scans over layers on the validation part of the data."""

    mode: str = "suffix"
    """The scan that gives the candidate layers: "suffix" (the paper's, as we read it) or "single";
    both are made."""

    chips: int = 20
    """Chips for each layer."""

    samples: int = 1000
    """Samples of the validation part, from its beginning."""

    seed: int = 1
    """Seed of the chips' seeds."""


@dataclass
class CompensationConfig:
    """Placement, corrector and fit of compensation."""

    enabled: bool = True
    """Whether there is any."""

    corrector: Any = None
    """Kind of corrector, as a Hydra target; a file of conf/compensation/corrector."""

    placement: Any = None
    """Layer -> ratio or "digital": a mapping, text in YAML or JSON, or a file of either. None: it
    is searched, or, without a searcher, found by ``fill``."""

    fill: str = "uniform"
    """Placement within the limits without a searcher: "uniform" (one ratio for all candidates) or
    "digital" (the most sensitive layers stay digital)."""

    limit: float | None = 0.05
    """Largest overhead in weights where no placement is given; None: no limit."""

    limit_macs: float | None = 0.05
    """Largest overhead in MACs where no placement is given; None: no limit."""

    threshold: float = 0.95
    """Share of the clean score that a layer must miss to become a candidate of the shared fit; with
    a fit per chip every layer is one."""

    calibration_samples: int = 1000
    """Unlabelled training inputs on which BatchNorm is re-estimated on each chip, with
    ``shared.batchnorm`` per_chip."""

    scan: ScanSettings = field(default_factory=ScanSettings)
    """Scans over layers."""

    fit: str = "per_chip"
    """Fit of the correctors: to each chip by itself, in closed form and without labels
    ("per_chip"), or once for all chips by training ("shared", the paper's)."""

    per_chip: PerChipSettings = field(default_factory=PerChipSettings)
    """Fit to each chip."""

    shared: FitSettings = field(default_factory=FitSettings)
    """Fit for all chips."""


@dataclass
class EvaluatorConfig:
    """Evaluation of a placement, on the training and validation parts of the data."""

    kind: str | None = None
    """"per_chip": each placement is fitted to each chip in closed form, and measured; "supernet":
    all placements share one compensation that is fitted once, and are only measured;
    "per_placement": each placement is fitted, then measured. None: the one that belongs to
    ``compensation.fit``, "per_chip" or "supernet"."""

    steps: int = 300
    """Optimizer steps of the fit of each placement."""

    shared_steps: int = 1200
    """Optimizer steps of the fit that all placements share."""

    start: str = "identity"
    """Start of a placement's fit: "identity", or "supernet" (the shared fit)."""

    seed: int = 0
    """Seed of these fits; searches with the same one share their evaluations."""

    threads: int = 1
    """Threads of each evaluation; results can depend on it in their last bits."""


@dataclass
class SearchConfig(SpaceSettings):
    """Search for a placement within ``compensation.limit`` and ``compensation.limit_macs``."""

    searcher: Any = None
    """Searcher, as a Hydra target; None: nothing is searched."""

    budget: int = 32
    """Number of different placements that a search may evaluate."""

    seed: int = 0
    """Seed of the searcher."""

    chips: int = 10
    """Chips on which each placement is measured."""

    chips_seed: int = 1000
    """Seed of these chips' seeds; neither the scan's nor the evaluation's."""

    samples: int = 500
    """Samples of the validation part, from its beginning."""

    objective: ObjectiveSettings = field(default_factory=ObjectiveSettings)
    """Reward of a placement."""

    evaluator: EvaluatorConfig = field(default_factory=EvaluatorConfig)
    """Evaluation of a placement."""

    store: str = "outputs/evaluations"
    """Folder of all evaluations, which searches share."""


@dataclass
class SelectConfig:
    """Choice of the best network and calibration, on the validation part of the data."""

    chips: int = 20
    """Chips on which each candidate is measured."""

    seed: int = 3000
    """Seed of these chips' seeds; not the evaluation's."""

    samples: int = 2000
    """Samples of the validation part, from its beginning."""

    calibrations: list[str] = field(default_factory=lambda: ["none", "batchnorm", "affine"])
    """Calibrations to try on each network; "batchnorm" only where it has BatchNorm."""

    limit: float = 0.05
    """Largest overhead in weights of the choice."""

    limit_macs: float | None = None
    """Largest overhead in MACs of the choice; None: no limit."""


@dataclass
class InputsConfig:
    """Shape of the data, for the network; filled once the data set is loaded."""

    shape: list[int] | None = None
    """Shape of one input, such as (C, H, W)."""

    classes: int | None = None
    """Number of classes."""


@dataclass
class JobConfig:
    """The steps of a job."""

    steps: list[str] = MISSING
    """Dotted names of functions that take a `JobContext`, in order."""


@dataclass
class Config:
    """All values of a job."""

    data: Any = MISSING
    """A function that gives a `zoo.Dataset`, as a Hydra target."""

    task: Any = MISSING
    """A task, as a Hydra target."""

    model: Any = MISSING
    """A network, as a Hydra target."""

    rram: Any = MISSING
    """``rpu_config`` (a Hydra target), ``exclude``, and values they refer to."""

    training: TrainingConfig = field(default_factory=TrainingConfig)
    """Training."""

    compensation: CompensationConfig = field(default_factory=CompensationConfig)
    """Compensation: placement, corrector, fit."""

    search: SearchConfig = field(default_factory=SearchConfig)
    """Search for the placement: searcher, evaluator, budget."""

    select: SelectConfig = field(default_factory=SelectConfig)
    """Choice of the best network and calibration."""

    ray: RaySettings = field(default_factory=RaySettings)
    """Where Ray runs."""

    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    """Measurement over chips."""

    job: JobConfig = field(default_factory=JobConfig)
    """Steps of the job."""

    chip: int = 0
    """Number of the evaluation's chip whose correctors job=chip saves."""

    seed: int = 0
    """Seed of the network's first weights and of training."""

    device: str = "auto"
    """Device for computations."""

    source: str | None = None
    """Folder of an earlier run whose trained networks and scans are used; None: this run's."""

    pretrained: str | None = None
    """File of weights the network starts from."""

    progress: bool = True
    """Whether to show progress bars."""

    inputs: InputsConfig = field(default_factory=InputsConfig)
    """Shape of the data, for the network."""


def register_schema() -> None:
    """Make the types known to Hydra under the name that conf/config.yaml gives them."""
    ConfigStore.instance().store(name="schema", node=Config, provider="cnet_aihw")
