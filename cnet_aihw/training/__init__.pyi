from .checkpoint import Checkpoint as Checkpoint
from .checkpoint import load_checkpoint as load_checkpoint
from .checkpoint import save_checkpoint as save_checkpoint
from .folding import following_batchnorms as following_batchnorms
from .lipschitz import LipschitzPenalty as LipschitzPenalty
from .lipschitz import lipschitz_lambda as lipschitz_lambda
from .lipschitz import spectral_norms as spectral_norms
from .loop import train as train
from .optim import learning_rate as learning_rate
from .optim import make_optimizer as make_optimizer
from .result import TrainingDiverged as TrainingDiverged
from .result import TrainingResult as TrainingResult
from .settings import LipschitzSettings as LipschitzSettings
from .settings import TrainingSettings as TrainingSettings
from .settings import VariationSettings as VariationSettings
from .settings import validate_training_settings as validate_training_settings

__all__ = [
    "Checkpoint",
    "LipschitzPenalty",
    "LipschitzSettings",
    "TrainingDiverged",
    "TrainingResult",
    "TrainingSettings",
    "VariationSettings",
    "following_batchnorms",
    "learning_rate",
    "lipschitz_lambda",
    "load_checkpoint",
    "make_optimizer",
    "save_checkpoint",
    "spectral_norms",
    "train",
    "validate_training_settings",
]
