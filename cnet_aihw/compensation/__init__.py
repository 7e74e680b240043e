"""Digital compensation in analog models: placing, fitting and counting it (CorrectNet, step 2)."""

from typing import TYPE_CHECKING

from cnet_aihw.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from cnet_aihw.compensation.affine import Affine as Affine
    from cnet_aihw.compensation.corrector import Corrector as Corrector
    from cnet_aihw.compensation.corrector import CorrectorCost as CorrectorCost
    from cnet_aihw.compensation.corrector import LayerShape as LayerShape
    from cnet_aihw.compensation.corrector import corrector_from as corrector_from
    from cnet_aihw.compensation.corrector import layer_shape as layer_shape
    from cnet_aihw.compensation.corrector import size_given as size_given
    from cnet_aihw.compensation.corrector import with_size as with_size
    from cnet_aihw.compensation.cost import CompensationCost as CompensationCost
    from cnet_aihw.compensation.cost import OverLimit as OverLimit
    from cnet_aihw.compensation.cost import calibration_overhead as calibration_overhead
    from cnet_aihw.compensation.cost import compensation_cost as compensation_cost
    from cnet_aihw.compensation.cost import digital_placement as digital_placement
    from cnet_aihw.compensation.cost import off_crossbar_cost as off_crossbar_cost
    from cnet_aihw.compensation.cost import over_limit as over_limit
    from cnet_aihw.compensation.cost import total_overhead as total_overhead
    from cnet_aihw.compensation.cost import uniform_placement as uniform_placement
    from cnet_aihw.compensation.digital import Digital as Digital
    from cnet_aihw.compensation.fit import fit_compensation as fit_compensation
    from cnet_aihw.compensation.fit_choice import FitResult as FitResult
    from cnet_aihw.compensation.generator import PAPER as PAPER
    from cnet_aihw.compensation.generator import GeneratorCompensator as GeneratorCompensator
    from cnet_aihw.compensation.layer_passes import has_closed_form as has_closed_form
    from cnet_aihw.compensation.low_rank import LowRank as LowRank
    from cnet_aihw.compensation.network import LayerCost as LayerCost
    from cnet_aihw.compensation.network import NetworkCost as NetworkCost
    from cnet_aihw.compensation.network import network_cost as network_cost
    from cnet_aihw.compensation.one_chip import save_one_chip as save_one_chip
    from cnet_aihw.compensation.over_time import VectorFit as VectorFit
    from cnet_aihw.compensation.over_time import accuracy_over_time as accuracy_over_time
    from cnet_aihw.compensation.per_chip import FitCost as FitCost
    from cnet_aihw.compensation.per_chip import PerChipFit as PerChipFit
    from cnet_aihw.compensation.placement import DIGITAL as DIGITAL
    from cnet_aihw.compensation.placement import Placement as Placement
    from cnet_aihw.compensation.placement import check_placement as check_placement
    from cnet_aihw.compensation.saving import load_chip_correctors as load_chip_correctors
    from cnet_aihw.compensation.saving import load_compensation as load_compensation
    from cnet_aihw.compensation.saving import save_chip_correctors as save_chip_correctors
    from cnet_aihw.compensation.saving import save_compensation as save_compensation
    from cnet_aihw.compensation.settings import FitSettings as FitSettings
    from cnet_aihw.compensation.settings import PerChipSettings as PerChipSettings
    from cnet_aihw.compensation.settings import validate_fit_settings as validate_fit_settings
    from cnet_aihw.compensation.settings import (
        validate_per_chip_settings as validate_per_chip_settings,
    )
    from cnet_aihw.compensation.shared_start import (
        fit_shared_closed_form as fit_shared_closed_form,
    )
    from cnet_aihw.compensation.target_choice import TargetChoice as TargetChoice
    from cnet_aihw.compensation.target_choice import choose_target as choose_target
    from cnet_aihw.compensation.total_cost import overheads as overheads
    from cnet_aihw.compensation.vera import Vera as Vera
    from cnet_aihw.compensation.with_compensation import WithCompensation as WithCompensation
    from cnet_aihw.compensation.worth import filter_errors as filter_errors
    from cnet_aihw.compensation.wrapping import CompensatedLayer as CompensatedLayer
    from cnet_aihw.compensation.wrapping import compensate as compensate
    from cnet_aihw.compensation.wrapping import compensated_layers as compensated_layers
    from cnet_aihw.compensation.wrapping import compensation_disabled as compensation_disabled
    from cnet_aihw.compensation.wrapping import compensation_parameters as compensation_parameters
    from cnet_aihw.compensation.wrapping import enable_compensation as enable_compensation
    from cnet_aihw.compensation.wrapping import placement_of as placement_of
    from cnet_aihw.compensation.wrapping import remove_compensation as remove_compensation

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
