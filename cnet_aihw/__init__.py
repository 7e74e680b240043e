"""Keep a neural network's accuracy on RRAM chips whose weights vary: an add-on to aihwkit."""

from typing import TYPE_CHECKING

from cnet_aihw.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from cnet_aihw import evaluation as evaluation
    from cnet_aihw import rram as rram
    from cnet_aihw import training as training
    from cnet_aihw import zoo as zoo
    from cnet_aihw.evaluation import evaluate_chips as evaluate_chips
    from cnet_aihw.rram import LogNormalNoiseModel as LogNormalNoiseModel
    from cnet_aihw.rram import RRAMRPUConfig as RRAMRPUConfig
    from cnet_aihw.rram import VariationParameter as VariationParameter
    from cnet_aihw.rram import chip_model as chip_model
    from cnet_aihw.rram import chips as chips
    from cnet_aihw.rram import clear_chip as clear_chip
    from cnet_aihw.rram import convert_to_analog as convert_to_analog
    from cnet_aihw.rram import convert_to_digital as convert_to_digital
    from cnet_aihw.rram import periphery as periphery
    from cnet_aihw.rram import program as program
    from cnet_aihw.rram import programmed as programmed
    from cnet_aihw.runtime.errors import CnetError as CnetError
    from cnet_aihw.training import TrainingSettings as TrainingSettings
    from cnet_aihw.training import train as train

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
