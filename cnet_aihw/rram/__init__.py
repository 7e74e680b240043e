"""RRAM on aihwkit: noise models, RPU configurations, analog layers, chips."""

from typing import TYPE_CHECKING

from cnet_aihw.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from cnet_aihw.rram.binary import BinaryWeights as BinaryWeights
    from cnet_aihw.rram.binary import binary_weights as binary_weights
    from cnet_aihw.rram.binary import has_cells as has_cells
    from cnet_aihw.rram.binary import make_binary as make_binary
    from cnet_aihw.rram.charge_networks import set_readout as set_readout
    from cnet_aihw.rram.conversion import convert_to_analog as convert_to_analog
    from cnet_aihw.rram.conversion import convert_to_digital as convert_to_digital
    from cnet_aihw.rram.conversion_plan import match_names as match_names
    from cnet_aihw.rram.conversion_plan import plan_conversion as plan_conversion
    from cnet_aihw.rram.conversion_report import ConversionReport as ConversionReport
    from cnet_aihw.rram.conversion_report import KindReport as KindReport
    from cnet_aihw.rram.conversion_report import LayerReport as LayerReport
    from cnet_aihw.rram.converters import CONVERTERS as CONVERTERS
    from cnet_aihw.rram.crossbar.attention import (
        CrossbarMultiheadAttention as CrossbarMultiheadAttention,
    )
    from cnet_aihw.rram.crossbar.charge import Charge as Charge
    from cnet_aihw.rram.crossbar.charge import readout as readout
    from cnet_aihw.rram.crossbar.configs import RRAMRPUConfig as RRAMRPUConfig
    from cnet_aihw.rram.crossbar.configs import periphery as periphery
    from cnet_aihw.rram.crossbar.convolutions import RRAMConv1d as RRAMConv1d
    from cnet_aihw.rram.crossbar.convolutions import RRAMConv2d as RRAMConv2d
    from cnet_aihw.rram.crossbar.convolutions import RRAMConv3d as RRAMConv3d
    from cnet_aihw.rram.crossbar.layers import RRAMLayer as RRAMLayer
    from cnet_aihw.rram.crossbar.layers import RRAMLinear as RRAMLinear
    from cnet_aihw.rram.crossbar.layers import RRAMTransposedLinear as RRAMTransposedLinear
    from cnet_aihw.rram.crossbar.mapping import CrossbarMapping as CrossbarMapping
    from cnet_aihw.rram.crossbar.mapping import ReferenceColumnConverter as ReferenceColumnConverter
    from cnet_aihw.rram.crossbar.mapping import conductance_converter as conductance_converter
    from cnet_aihw.rram.crossbar.recurrent import CrossbarGRU as CrossbarGRU
    from cnet_aihw.rram.crossbar.recurrent import CrossbarLSTM as CrossbarLSTM
    from cnet_aihw.rram.crossbar.recurrent import CrossbarRecurrent as CrossbarRecurrent
    from cnet_aihw.rram.crossbar.recurrent import CrossbarRNN as CrossbarRNN
    from cnet_aihw.rram.crossbar.transposed import RRAMConvTranspose1d as RRAMConvTranspose1d
    from cnet_aihw.rram.crossbar.transposed import RRAMConvTranspose2d as RRAMConvTranspose2d
    from cnet_aihw.rram.crossbar.transposed import RRAMConvTranspose3d as RRAMConvTranspose3d
    from cnet_aihw.rram.crossbar.unfolded import UnfoldedModule as UnfoldedModule
    from cnet_aihw.rram.crossbar.variation import VariationParameter as VariationParameter
    from cnet_aihw.rram.devices import AihwkitNoiseModel as AihwkitNoiseModel
    from cnet_aihw.rram.devices import CMONoiseModel as CMONoiseModel
    from cnet_aihw.rram.devices import CompositeNoiseModel as CompositeNoiseModel
    from cnet_aihw.rram.devices import GaussianAdditiveNoiseModel as GaussianAdditiveNoiseModel
    from cnet_aihw.rram.devices import (
        GaussianProportionalNoiseModel as GaussianProportionalNoiseModel,
    )
    from cnet_aihw.rram.devices import LevelsNoiseModel as LevelsNoiseModel
    from cnet_aihw.rram.devices import LogNormalNoiseModel as LogNormalNoiseModel
    from cnet_aihw.rram.devices import MeasuredNoiseModel as MeasuredNoiseModel
    from cnet_aihw.rram.devices import PCMNoiseModel as PCMNoiseModel
    from cnet_aihw.rram.devices import PowerLawDriftNoiseModel as PowerLawDriftNoiseModel
    from cnet_aihw.rram.devices import ReadNoiseModel as ReadNoiseModel
    from cnet_aihw.rram.devices import StochasticCellNoiseModel as StochasticCellNoiseModel
    from cnet_aihw.rram.devices import StuckAtNoiseModel as StuckAtNoiseModel
    from cnet_aihw.rram.devices import Wan2022NoiseModel as Wan2022NoiseModel
    from cnet_aihw.rram.devices.any_model import acts_with_time as acts_with_time
    from cnet_aihw.rram.devices.any_model import check_times as check_times
    from cnet_aihw.rram.devices.any_model import has_read_noise as has_read_noise
    from cnet_aihw.rram.devices.any_model import label_of as label_of
    from cnet_aihw.rram.devices.noise import DeviceNoiseModel as DeviceNoiseModel
    from cnet_aihw.rram.devices.noise import MultiplicativeNoiseModel as MultiplicativeNoiseModel
    from cnet_aihw.rram.devices.noise_model_id import noise_model_id as noise_model_id
    from cnet_aihw.rram.devices.noise_model_id import unprinted_attributes as unprinted_attributes
    from cnet_aihw.rram.layer_names import LayerWrapper as LayerWrapper
    from cnet_aihw.rram.layer_names import analog_layers as analog_layers
    from cnet_aihw.rram.layer_names import find_analog_layers as find_analog_layers
    from cnet_aihw.rram.layer_names import find_module as find_module
    from cnet_aihw.rram.layer_names import named_tiles as named_tiles
    from cnet_aihw.rram.layer_names import without_wrappers as without_wrappers
    from cnet_aihw.rram.programming import ChipModel as ChipModel
    from cnet_aihw.rram.programming import chip_model as chip_model
    from cnet_aihw.rram.programming import chips as chips
    from cnet_aihw.rram.programming import clear_chip as clear_chip
    from cnet_aihw.rram.programming import effective_weights as effective_weights
    from cnet_aihw.rram.programming import is_programmed as is_programmed
    from cnet_aihw.rram.programming import nominal_inside as nominal_inside
    from cnet_aihw.rram.programming import nominal_weight as nominal_weight
    from cnet_aihw.rram.programming import program as program
    from cnet_aihw.rram.programming import programmed as programmed
    from cnet_aihw.rram.state_dict import count_weights as count_weights
    from cnet_aihw.rram.state_dict import digital_state_dict as digital_state_dict
    from cnet_aihw.rram.state_dict import load_digital_state_dict as load_digital_state_dict
    from cnet_aihw.rram.state_dict import load_snapshot as load_snapshot
    from cnet_aihw.rram.state_dict import snapshot as snapshot
    from cnet_aihw.rram.state_dict import trainable_parameters as trainable_parameters
    from cnet_aihw.rram.tile_chips import at_time as at_time
    from cnet_aihw.rram.training_variation import freeze_analog as freeze_analog
    from cnet_aihw.rram.training_variation import get_variation as get_variation
    from cnet_aihw.rram.training_variation import resample_variation as resample_variation
    from cnet_aihw.rram.training_variation import set_noise_model as set_noise_model
    from cnet_aihw.rram.training_variation import set_variation as set_variation
    from cnet_aihw.rram.training_variation import unfreeze_analog as unfreeze_analog
    from cnet_aihw.rram.traps import Trap as Trap
    from cnet_aihw.rram.traps import find_traps as find_traps

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
