"""Result of a device check: numbers, points to draw, and signs of a wrong unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class DeviceRow:
    """Errors at one time after programming; shares are of all weights, over all chips."""

    t_inference: float | None
    """Seconds since programming; None: just programmed."""

    gain: float
    """Slope of programmed against nominal weights: 1 without systematic error."""

    error_std: float
    """Standard deviation of the error of a weight / largest weight."""

    relative_mean: float
    """Mean error / weight, of weights above 5 % of the largest."""

    relative_std: float
    """Standard deviation of the same."""

    sign_flips: float
    """Share of weights with the other sign."""

    zeros: float
    """Share of weights other than 0 that became 0."""

    zeros_moved: float | None
    """Share of weights of 0 that became something else; None where there is none."""

    saturated: float
    """Share of weights well below the largest that are programmed as the largest."""

    values: int
    """Different weights on one chip."""

    snr_weights_db: float | None
    """Ideal outputs against those with the chips' weights and perfect periphery; None: exact."""

    snr_periphery_db: float | None
    """The same with nominal weights and the crossbar's periphery; None: exact."""

    snr_db: float | None
    """The same with both."""


@dataclass(frozen=True)
class DeviceReport:
    """A device and its crossbar, in numbers."""

    device: str
    """Name of the noise model."""

    weights: int
    """How many weights were programmed on each chip."""

    chips: int
    """How many chips."""

    seed: int
    """Seed of the chips' seeds."""

    rows: tuple[DeviceRow, ...]
    """One for each time."""

    clipped: float | None
    """Share of outputs beyond the ADC's range; None without ADC."""

    reach: float | None
    """Largest output / range of the ADC; None without ADC."""

    warnings: tuple[str, ...]
    """Signs of a wrong unit, a sentence each."""

    weight_points: dict[str, list[float]]
    """Some weights of chip 0 at the first time: ``nominal`` and ``programmed``."""

    output_points: dict[str, list[float]]
    """Some outputs of it, ``ideal`` and ``chip``."""

    def as_record(self) -> dict[str, Any]:
        """Return all fields as plain values."""
        return {**asdict(self), "rows": [asdict(row) for row in self.rows]}


def looks_wrong(
    rows: Sequence[DeviceRow], clipped: float | None, reach: float | None
) -> tuple[str, ...]:
    """Return, in a sentence each, which numbers look like those of a wrong unit.

    Args:
        rows: the numbers at each time.
        clipped: share of outputs beyond the ADC's range; None without ADC.
        reach: largest output / range of the ADC; None without ADC.
    """
    found = []
    flips = max(row.sign_flips for row in rows)
    saturated = max(row.saturated for row in rows)
    zeros = max(row.zeros for row in rows)
    if flips > 0.2:
        found.append(
            f"{flips:.0%} of the weights change their sign: check the units of "
            "g_min, g_max and of the noise."
        )
    if saturated > 0.5:
        found.append(
            f"{saturated:.0%} of the weights are programmed as the largest one: check "
            "g_max and the units of what is programmed."
        )
    if zeros > 0.5:
        found.append(
            f"{zeros:.0%} of the weights become 0: check g_min, the levels and the units "
            "of thresholds."
        )
    gains = [row.gain for row in rows if not 0.5 <= row.gain <= 2.0]
    if gains:
        found.append(
            f"weights come out {gains[0]:.3g} times as large as meant: check the units of "
            "conductances, and of the time if there is drift."
        )
    if any(row.snr_db is not None and row.snr_db < 0.0 for row in rows):
        least = min(row.snr_db for row in rows if row.snr_db is not None)
        found.append(
            f"the error of outputs is larger than outputs themselves ({least:.1f} dB): check the "
            "units of noise and ranges."
        )
    if clipped is not None and clipped > 0.05:
        found.append(f"the ADC clips {clipped:.0%} of the outputs: give a larger adc_range.")
    if reach is not None and reach < 0.1:
        found.append(f"outputs reach {reach:.1%} of the ADC's range: give a smaller adc_range.")
    if all(row.error_std == 0.0 and row.snr_db is None for row in rows):
        found.append(
            "nothing changes: weights and outputs are exact; if that is not meant, the noise is "
            "off or its unit makes it vanish."
        )
    return tuple(found)
