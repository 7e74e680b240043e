"""Kernels by random features on crossbars: features, classifiers, and their chips."""

from typing import TYPE_CHECKING

from cnet_aihw.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from cnet_aihw.kernels.baselines import kernel_ridge_accuracy as kernel_ridge_accuracy
    from cnet_aihw.kernels.classifier import KernelClassifier as KernelClassifier
    from cnet_aihw.kernels.classifier import RandomFeatures as RandomFeatures
    from cnet_aihw.kernels.classifier import kernel_classifier as kernel_classifier
    from cnet_aihw.kernels.expected import expected_kernel as expected_kernel
    from cnet_aihw.kernels.expected import matched_scale as matched_scale
    from cnet_aihw.kernels.expected import predicted_error as predicted_error
    from cnet_aihw.kernels.functions import exact_kernel as exact_kernel
    from cnet_aihw.kernels.functions import kernel_error as kernel_error
    from cnet_aihw.kernels.functions import scale_bandwidth as scale_bandwidth
    from cnet_aihw.kernels.on_chip import KernelScore as KernelScore
    from cnet_aihw.kernels.on_chip import ReadoutFit as ReadoutFit
    from cnet_aihw.kernels.ridge import fit_ridge as fit_ridge
    from cnet_aihw.kernels.settings import KernelSettings as KernelSettings
    from cnet_aihw.kernels.settings import validate_kernel_settings as validate_kernel_settings
    from cnet_aihw.kernels.study import measure_kernels as measure_kernels
    from cnet_aihw.kernels.transformer import AnalogFeatures as AnalogFeatures

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
