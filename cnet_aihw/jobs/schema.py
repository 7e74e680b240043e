"""Types of the configuration, known to Hydra before it composes anything; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from cnet_aihw.attacks.settings import AttackSettings
from cnet_aihw.bayes.settings import UncertaintySettings
from cnet_aihw.cluster.settings import RaySettings
from cnet_aihw.compensation.settings import CompensationSettings
from cnet_aihw.evaluation.settings import EvaluationSettings, SelectionSettings
from cnet_aihw.kernels.settings import KernelSettings
from cnet_aihw.search.settings import SearchSettings
from cnet_aihw.training.settings import TrainingSettings
from cnet_aihw.tuning.settings import TuningConfig


@dataclass
class DistillationConfig:
    """A second aim of a training: the outputs of another network."""

    teacher: str | None = None
    """Name of another training of the same run whose best network, without variation, is the
    teacher; None: the task's loss alone."""

    share: float = 0.5
    """Weight in the loss of the distance from its outputs, in (0, 1]."""

    temperature: float = 2.0
    """Of outputs that are compared as probabilities, above 0."""


@dataclass
class TrainingConfig(TrainingSettings):
    """One training, or the names of several."""

    compare: list[str] = field(default_factory=list)
    """Trainings (files of conf/training) to run one after the other; empty: this one alone."""

    start_from: str | None = None
    """Name of another training of the same run whose best weights this one starts from."""

    lr_scale: float = 1.0
    """Factor on ``lr``, for a training that starts from weights trained before."""

    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    """A second aim beside the task's."""


@dataclass
class InputsConfig:
    """Shape and normalisation of the data, for the network; filled once they are loaded."""

    shape: list[int] | None = None
    """Shape of one input, such as (C, H, W)."""

    classes: int | None = None
    """Number of classes."""

    mean: list[float] | None = None
    """Mean of each channel, which was subtracted from the pixels; empty where nothing was."""

    std: list[float] | None = None
    """Standard deviation of each channel, by which pixels were divided."""


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
    """``rpu_config`` (a Hydra target), ``exclude``, ``converters``, ``tied``, and values they refer
    to."""

    training: TrainingConfig = field(default_factory=TrainingConfig)
    """Training."""

    compensation: CompensationSettings = field(default_factory=CompensationSettings)
    """Compensation: placement, corrector, fit."""

    search: SearchSettings = field(default_factory=SearchSettings)
    """Search for the placement: searcher, evaluator, budget."""

    select: SelectionSettings = field(default_factory=SelectionSettings)
    """Choice of the best network and calibration."""

    attack: AttackSettings = field(default_factory=AttackSettings)
    """Attacks on chips."""

    tuning: TuningConfig = field(default_factory=TuningConfig)
    """Tuning on chips."""

    bayes: UncertaintySettings = field(default_factory=UncertaintySettings)
    """Uncertainty of predictions on chips."""

    kernel: KernelSettings = field(default_factory=KernelSettings)
    """Kernel features on chips."""

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

    processes: int = 1
    """Processes that train one network; on CUDA one for each GPU."""

    source: str | None = None
    """Folder of an earlier run whose trained networks and scans are used; None: this run's."""

    pretrained: str | None = None
    """File of weights the network starts from."""

    progress: bool = True
    """Whether to show progress bars."""

    inputs: InputsConfig = field(default_factory=InputsConfig)
    """Shape and normalisation of the data, for the network."""


@cache
def register_schema() -> None:
    """Make the types known to Hydra under the name that conf/config.yaml gives them."""
    ConfigStore.instance().store(name="schema", node=Config, provider="cnet_aihw")
