from .adc import AdcUse as AdcUse
from .adc import adc_use as adc_use
from .adc import calibrate_adc as calibrate_adc
from .adc import conversion_steps as conversion_steps
from .calibration import AffineCorrection as AffineCorrection
from .calibration import BatchNormReestimation as BatchNormReestimation
from .calibration import ChipCalibration as ChipCalibration
from .device_report import DeviceReport as DeviceReport
from .device_report import DeviceRow as DeviceRow
from .inspection import inspect_device as inspect_device
from .layer_errors import LayerError as LayerError
from .layer_errors import error_growth as error_growth
from .measure import Samples as Samples
from .measure import accuracy as accuracy
from .measure import measure as measure
from .monte_carlo import evaluate_chips as evaluate_chips
from .sensitivity import LayerRow as LayerRow
from .sensitivity import LayerScan as LayerScan
from .sensitivity import candidate_layers as candidate_layers
from .sensitivity import scan_layers as scan_layers
from .settings import EvaluationSettings as EvaluationSettings
from .settings import validate_evaluation_settings as validate_evaluation_settings
from .statistics import ChipStatistics as ChipStatistics
from .statistics import chip_statistics as chip_statistics

__all__ = [
    "AdcUse",
    "AffineCorrection",
    "BatchNormReestimation",
    "ChipCalibration",
    "ChipStatistics",
    "DeviceReport",
    "DeviceRow",
    "EvaluationSettings",
    "LayerError",
    "LayerRow",
    "LayerScan",
    "Samples",
    "accuracy",
    "adc_use",
    "calibrate_adc",
    "candidate_layers",
    "chip_statistics",
    "conversion_steps",
    "error_growth",
    "evaluate_chips",
    "inspect_device",
    "measure",
    "scan_layers",
    "validate_evaluation_settings",
]
