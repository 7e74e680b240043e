"""Measurements on chips: Monte Carlo over seeded chips and its statistics."""

from typing import TYPE_CHECKING

from cnet_aihw.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from cnet_aihw.evaluation.adc import AdcUse as AdcUse
    from cnet_aihw.evaluation.adc import adc_use as adc_use
    from cnet_aihw.evaluation.adc import calibrate_adc as calibrate_adc
    from cnet_aihw.evaluation.adc import conversion_steps as conversion_steps
    from cnet_aihw.evaluation.calibration import AffineCorrection as AffineCorrection
    from cnet_aihw.evaluation.calibration import BatchNormReestimation as BatchNormReestimation
    from cnet_aihw.evaluation.calibration import ChipCalibration as ChipCalibration
    from cnet_aihw.evaluation.calibration import make_calibration as make_calibration
    from cnet_aihw.evaluation.ceilings import Ceiling as Ceiling
    from cnet_aihw.evaluation.ceilings import ceiling as ceiling
    from cnet_aihw.evaluation.charge import ScaleFit as ScaleFit
    from cnet_aihw.evaluation.charge import check_clipped as check_clipped
    from cnet_aihw.evaluation.charge import column_voltages as column_voltages
    from cnet_aihw.evaluation.charge import fit_charge_scales as fit_charge_scales
    from cnet_aihw.evaluation.chip_run import MeasuredChip as MeasuredChip
    from cnet_aihw.evaluation.chip_run import measured_chips as measured_chips
    from cnet_aihw.evaluation.crossbars import adc_summary as adc_summary
    from cnet_aihw.evaluation.crossbars import move_to_crossbars as move_to_crossbars
    from cnet_aihw.evaluation.crossbars import perfect_periphery as perfect_periphery
    from cnet_aihw.evaluation.device_report import DeviceReport as DeviceReport
    from cnet_aihw.evaluation.device_report import DeviceRow as DeviceRow
    from cnet_aihw.evaluation.inspection import inspect_device as inspect_device
    from cnet_aihw.evaluation.layer_errors import LayerError as LayerError
    from cnet_aihw.evaluation.layer_errors import error_growth as error_growth
    from cnet_aihw.evaluation.measurement import Measurement as Measurement
    from cnet_aihw.evaluation.measurement import Score as Score
    from cnet_aihw.evaluation.metrics import measure as measure
    from cnet_aihw.evaluation.metrics import score as score
    from cnet_aihw.evaluation.monte_carlo import evaluate_chips as evaluate_chips
    from cnet_aihw.evaluation.network_on_chips import network_record as network_record
    from cnet_aihw.evaluation.sensitivity import LayerRow as LayerRow
    from cnet_aihw.evaluation.sensitivity import LayerScan as LayerScan
    from cnet_aihw.evaluation.sensitivity import candidate_layers as candidate_layers
    from cnet_aihw.evaluation.sensitivity import scan_layers as scan_layers
    from cnet_aihw.evaluation.settings import EvaluationSettings as EvaluationSettings
    from cnet_aihw.evaluation.settings import (
        validate_evaluation_settings as validate_evaluation_settings,
    )
    from cnet_aihw.evaluation.statistics import AllChipsFailed as AllChipsFailed
    from cnet_aihw.evaluation.statistics import ChipStatistics as ChipStatistics
    from cnet_aihw.evaluation.statistics import chip_statistics as chip_statistics

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
