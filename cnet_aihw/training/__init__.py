"""Training of analog networks: the loop, the Lipschitz penalty, checkpoints."""

from typing import TYPE_CHECKING

from cnet_aihw.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from cnet_aihw.training.bayes_binary import BayesBinary as BayesBinary
    from cnet_aihw.training.checkpoint import Checkpoint as Checkpoint
    from cnet_aihw.training.checkpoint import load_checkpoint as load_checkpoint
    from cnet_aihw.training.checkpoint import save_checkpoint as save_checkpoint
    from cnet_aihw.training.distillation import Distillation as Distillation
    from cnet_aihw.training.lambda_of_noise import lipschitz_lambda as lipschitz_lambda
    from cnet_aihw.training.lipschitz import LipschitzPenalty as LipschitzPenalty
    from cnet_aihw.training.lipschitz import following_batchnorms as following_batchnorms
    from cnet_aihw.training.lipschitz import spectral_norms as spectral_norms
    from cnet_aihw.training.loop import train as train
    from cnet_aihw.training.optim import learning_rate as learning_rate
    from cnet_aihw.training.optim import make_optimizer as make_optimizer
    from cnet_aihw.training.run_identity import TrainingData as TrainingData
    from cnet_aihw.training.run_identity import TrainingParts as TrainingParts
    from cnet_aihw.training.settings import BayesSettings as BayesSettings
    from cnet_aihw.training.settings import LipschitzSettings as LipschitzSettings
    from cnet_aihw.training.settings import TrainingSettings as TrainingSettings
    from cnet_aihw.training.settings import VariationSettings as VariationSettings
    from cnet_aihw.training.settings import validate_training_settings as validate_training_settings
    from cnet_aihw.training.state import TrainingDiverged as TrainingDiverged
    from cnet_aihw.training.state import TrainingResult as TrainingResult

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
