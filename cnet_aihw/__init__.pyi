from . import evaluation as evaluation
from . import rram as rram
from . import training as training
from . import zoo as zoo
from .errors import CnetError as CnetError
from .evaluation import evaluate_chips as evaluate_chips
from .rram import LogNormalNoiseModel as LogNormalNoiseModel
from .rram import RRAMRPUConfig as RRAMRPUConfig
from .rram import VariationParameter as VariationParameter
from .rram import convert_to_analog as convert_to_analog
from .rram import convert_to_digital as convert_to_digital
from .rram import periphery as periphery
from .rram import program as program
from .rram import programmed as programmed
from .rram import restore as restore
from .training import TrainingSettings as TrainingSettings
from .training import train as train

__version__: str
