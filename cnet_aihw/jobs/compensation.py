"""What the configuration says of compensation, checked before any work; reads no torch."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnet_aihw.compensation.settings import FitSettings, validate_fit_settings
from cnet_aihw.compensation.variants import CompensationVariant
from cnet_aihw.runtime.errors import CnetError

if TYPE_CHECKING:
    from cnet_aihw.compensation import Placement

MODES = ("suffix", "single")
_FILES = (".yaml", ".yml", ".json")


@dataclass
class ScanSettings:
    """How layers are scanned, with the validation part of the data."""

    mode: str = "suffix"
    """The scan that gives the candidate layers: "suffix" (the paper's, as we read it), or
    "single". Both are made."""

    chips: int = 20
    """Chips for each layer."""

    samples: int = 1000
    """Samples of the validation part, from its beginning."""

    seed: int = 1
    """Seed of the chips' seeds."""


@dataclass
class CompensationConfig:
    """Where compensation goes, how it is built and how it is fitted."""

    enabled: bool = True
    """Whether there is any."""

    reads: str = "xy"
    """What the generator reads: "xy", "x" or "y"."""

    activation: str = "none"
    """What follows the generator: "none", "relu" or "tanh"."""

    kernel_size: int = 1
    """Side of the generator's filters: 1 or 3."""

    form: str = "full"
    """What the compensator is: "full" or "residual"."""

    placement: Any = None
    """Layer -> ratio or "digital": a mapping, text in YAML or JSON, or a file of either. None: it
    is searched, or, without a searcher, all candidate layers get the largest common ratio within
    ``limit``."""

    limit: float = 0.05
    """Largest overhead where no placement is given, in weights, or in what a search counts."""

    threshold: float = 0.95
    """Share of the clean accuracy under which a scan makes candidates."""

    calibration_samples: int = 1000
    """Unlabelled training images on which BatchNorm is re-estimated on each chip, with
    ``fit.batchnorm`` per_chip."""

    scan: ScanSettings = field(default_factory=ScanSettings)
    """How layers are scanned."""

    fit: FitSettings = field(default_factory=FitSettings)
    """How compensation is fitted."""

    def variant(self) -> CompensationVariant:
        """How generators and compensators are built.

        Raises:
            CnetError: for a value that is none of those allowed.
        """
        return CompensationVariant(self.reads, self.activation, self.kernel_size, self.form)

    def given_placement(self) -> Placement | None:
        """The placement given, or None.

        Raises:
            CnetError: if it is none, or its file cannot be read.
        """
        if self.placement is None:
            return None
        from cnet_aihw.compensation import Placement  # with torch: only where there is one

        given = self.placement
        if isinstance(given, Mapping):  # a name such as 0 or 1.0 comes as a number
            return Placement({str(name): ratio for name, ratio in given.items()})
        text = str(given)
        if text.endswith(_FILES):
            return Placement.read(Path(text))
        return Placement.parse(text)


def validate_compensation(config: CompensationConfig) -> None:
    """Check all values.

    Raises:
        CnetError: names the key, its value and what is allowed.
    """
    config.variant()
    config.given_placement()
    if config.scan.mode not in MODES:
        raise CnetError(f"compensation.scan.mode is {config.scan.mode!r}; give suffix or single.")
    for name, value, least in (
        ("scan.chips", config.scan.chips, 1),
        ("scan.samples", config.scan.samples, 1),
        ("calibration_samples", config.calibration_samples, 2),
    ):
        if value < least:
            raise CnetError(
                f"compensation.{name} is {value}; give a whole number of at least {least}."
            )
    if not (math.isfinite(config.limit) and config.limit > 0.0):
        raise CnetError(
            f"compensation.limit is {config.limit}; give a share of the network's weights above 0, "
            "such as 0.05, or choose compensation=none."
        )
    if not 0.0 < config.threshold <= 1.0:
        raise CnetError(
            f"compensation.threshold is {config.threshold}; give a share of the clean accuracy in "
            "(0, 1], such as 0.95."
        )
    try:
        validate_fit_settings(config.fit)
    except CnetError as error:  # a fit is a training; here it is called compensation.fit
        told = re.sub(r"\b(training|fit)\.(?=\w)", "compensation.fit.", str(error))
        raise CnetError(told) from error
