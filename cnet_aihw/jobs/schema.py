"""The types of the configuration, known to Hydra before anything is composed; reads no torch."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from cnet_aihw.evaluation.settings import EvaluationSettings
from cnet_aihw.jobs.compensation import CompensationConfig
from cnet_aihw.jobs.search import SearchConfig
from cnet_aihw.search.settings import RaySettings
from cnet_aihw.training.settings import TrainingSettings


@dataclass
class TrainingConfig(TrainingSettings):
    """One training, or the names of several."""

    compare: list[str] = field(default_factory=list)
    """Trainings (files of conf/training) to do one after the other; empty: this one alone."""


@dataclass
class InputsConfig:
    """What the data set says to the network; filled once it is loaded."""

    shape: list[int] | None = None
    """Shape of one input, (C, H, W)."""

    classes: int | None = None
    """Number of classes."""


@dataclass
class JobConfig:
    """What is done."""

    steps: list[str] = MISSING
    """Dotted names of functions that take a `Run`, in order."""


@dataclass
class Config:
    """All values of a job."""

    data: Any = MISSING
    """A function that gives a `zoo.Dataset`, as a Hydra target."""

    model: Any = MISSING
    """A network, as a Hydra target."""

    rram: Any = MISSING
    """``rpu_config`` (a Hydra target), ``exclude``, and values they refer to."""

    training: TrainingConfig = field(default_factory=TrainingConfig)
    """Training."""

    compensation: CompensationConfig = field(default_factory=CompensationConfig)
    """Compensation: where, how built, how fitted."""

    search: SearchConfig = field(default_factory=SearchConfig)
    """Search for the placement: who proposes, what evaluates, how many."""

    ray: RaySettings = field(default_factory=RaySettings)
    """Where Ray runs, for what uses it."""

    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    """Measuring over chips."""

    job: JobConfig = field(default_factory=JobConfig)
    """What is done."""

    seed: int = 0
    """Seed of the network's first weights and of training."""

    device: str = "auto"
    """Where to compute."""

    source: str | None = None
    """Folder of an earlier run whose trained networks and scans are used; None: this run's."""

    pretrained: str | None = None
    """File of weights the network starts from."""

    progress: bool = True
    """Whether to show progress bars."""

    inputs: InputsConfig = field(default_factory=InputsConfig)
    """What the data set says to the network."""


def register_schema() -> None:
    """Make the types known to Hydra under the name that conf/config.yaml gives them."""
    ConfigStore.instance().store(name="schema", node=Config, provider="cnet_aihw")
