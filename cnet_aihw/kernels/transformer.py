"""Kernel features on a chip as a transformer of scikit-learn."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Self

import numpy as np
import torch
from aihwkit.simulator.parameters.base import RPUConfigBase
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn

from cnet_aihw.kernels.classifier import RandomFeatures
from cnet_aihw.kernels.expected import check_reach, matched_scale
from cnet_aihw.kernels.functions import check_kernel, scale_bandwidth
from cnet_aihw.rram import RRAMRPUConfig, convert_to_analog, program
from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.runtime.random_state import derive_seed, forked_random_state, seed_random_state
from cnet_aihw.runtime.values import check_count, is_number, is_seed


class AnalogFeatures(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Random features of a kernel, whose projection lies on a crossbar.

    Products of the features of two samples approximate the kernel; a linear model on them is one
    of the kernel. Everything beside the projection is digital, in float64. Parameters are checked
    by :meth:`fit`.

    Args:
        kernel: "rbf", "arc_cosine" (order 0) or "softmax"; see
            :func:`~cnet_aihw.kernels.exact_kernel`.
        features: "rff" (Gaussian), "orf" (orthogonal) or "sorf" (Hadamard).
        s: rows of the projection; None: by ``log2_ratio``.
        log2_ratio: logarithm to base 2 of rows / columns.
        gamma: bandwidth, or "scale": :func:`~cnet_aihw.kernels.scale_bandwidth` of the data.
        rpu_config: configuration of the crossbar; None: ``RRAMRPUConfig()``.
        chip: seed of the chip; None: the nominal weights, without variation.
        match: whether the projection is scaled for the device's variation.
        seed: seed of the projection.

    Attributes:
        features_: the module of the features, with the chip programmed.
        gamma_: bandwidth in use.
        n_features_in_: columns seen by :meth:`fit`.
    """

    def __init__(
        self,
        kernel: str = "rbf",
        features: str = "rff",
        *,
        s: int | None = None,
        log2_ratio: float = 3.0,
        gamma: float | str = "scale",
        rpu_config: RPUConfigBase | None = None,
        chip: int | None = None,
        match: bool = False,
        seed: int = 0,
    ) -> None:
        self.kernel = kernel
        self.features = features
        self.s = s
        self.log2_ratio = log2_ratio
        self.gamma = gamma
        self.rpu_config = rpu_config
        self.chip = chip
        self.match = match
        self.seed = seed

    def fit(self, X: Any, y: Any = None) -> Self:
        """Draw the projection for the columns of the data, and program it.

        Args:
            X: training data [N, d], from which columns and bandwidth are taken.
            y: not used.

        Raises:
            CnetError: for parameters that cannot be, and inputs that the kernel does not take.
        """
        X = validate_data(self, X, dtype=[np.float64, np.float32])
        rows = torch.from_numpy(np.array(X, dtype=np.float64))
        check_kernel(self.kernel, 1.0)
        if self.gamma != "scale" and not (is_number(self.gamma) and self.gamma > 0.0):
            raise bad_value("gamma", self.gamma, 'a number above 0, or "scale"')
        if self.chip is not None and not is_seed(self.chip):
            raise bad_value("chip", self.chip, "a whole number of 64 bits, or None")
        if not is_number(self.log2_ratio) or abs(self.log2_ratio) > 20.0:
            raise bad_value("log2_ratio", self.log2_ratio, "a number from -20 to 20")
        if self.s is not None:
            check_count("s", self.s)
        gamma = scale_bandwidth(self.kernel, rows) if self.gamma == "scale" else float(self.gamma)
        s = self.s or max(1, round(2.0**self.log2_ratio * rows.shape[1]))
        config = RRAMRPUConfig() if self.rpu_config is None else self.rpu_config
        given = (rows.shape[1], int(s), self.kernel, self.features)
        more: dict[str, Any] = {"gamma": gamma, "seed": self.seed, "dtype": torch.float64}
        made: Any = RandomFeatures(*given, **more)
        if self.match and self.kernel != "arc_cosine":
            weight = made.projection.weight
            check_reach("match", self.kernel, config.noise_model, config, weight)
            scale = matched_scale(config.noise_model, made.projection.weight)
            made = RandomFeatures(*given, scale=scale, **more)
        with torch.inference_mode():
            made.intended(rows)  # refuses what the kernel does not take
        layer = nn.Sequential(OrderedDict(projection=made.projection))
        with forked_random_state(torch.device("cpu")):
            made.projection = convert_to_analog(layer, config).eval()
        if self.chip is not None:
            program(made, self.chip)
        made.readings = 0
        self.features_, self.gamma_ = made.eval(), gamma
        self._n_features_out = made.width
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return the features [N, F] that the chip gives.

        Each call reads the chip again, so that noise of reading is new; the first calls after
        :meth:`fit` are the same for the same seeds, whatever was drawn elsewhere.

        Args:
            X: data [N, d].

        Raises:
            CnetError: for inputs that the kernel does not take.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        rows = torch.from_numpy(np.array(X, dtype=np.float64))
        made, device = self.features_, torch.device("cpu")
        with torch.inference_mode(), forked_random_state(device):
            reading = derive_seed(0 if self.chip is None else self.chip, "reading", made.readings)
            seed_random_state(reading, device)
            made.readings += 1
            found = made.checked_features(rows).numpy()
        return found.astype(X.dtype, copy=False)
