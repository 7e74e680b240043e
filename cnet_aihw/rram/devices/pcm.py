"""Phase-change memory, for comparison: programming noise, drift and read noise.

Source: Nandakumar et al., *Phase-change memory models for deep learning training and inference*,
ICECS 2019, in aihwkit's ``PCMLikeNoiseModel``. Units: uS and seconds. The noise was fitted at 25 uS
and is taken relative to g_max, as aihwkit does; valid at any time.
"""

from __future__ import annotations

from aihwkit.inference.converter.base import BaseConductanceConverter
from aihwkit.inference.noise.pcm import PCMLikeNoiseModel

from cnet_aihw.rram.devices.aihwkit_model import AihwkitNoiseModel
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import check_number


class PCMNoiseModel(AihwkitNoiseModel):
    """aihwkit's PCM model, whose conductances keep their scale when they drift.

    Its read noise is 1/f noise accumulated since programming: drawn once for a chip and a time,
    and only where a time is given. :class:`~cnet_aihw.rram.ReadNoiseModel` comes on top of it; set
    ``read_noise_scale=0`` to have that one alone.

    Args:
        prog_noise_scale: scale of the programming noise; 1 is as measured.
        read_noise_scale: scale of the read noise.
        drift_scale: scale of the drift coefficients.
        g_converter: how weights become conductances; by default a pair of devices.
        g_max: largest conductance in uS of the default converter (25).
        g_min: smallest conductance in uS of the default converter (0).

    Raises:
        CnetError: if a scale is negative, conductances are no range, or both a converter and its
            range are given.
    """

    @checked
    def __init__(
        self,
        prog_noise_scale: float = 1.0,
        read_noise_scale: float = 1.0,
        drift_scale: float = 1.0,
        g_converter: BaseConductanceConverter | None = None,
        g_max: float | None = None,
        g_min: float | None = None,
    ) -> None:
        for name, value in (
            ("prog_noise_scale", prog_noise_scale),
            ("read_noise_scale", read_noise_scale),
            ("drift_scale", drift_scale),
        ):
            check_number(name, value, 0.0, unit="(1 is as measured)")
        super().__init__(
            PCMLikeNoiseModel(
                g_converter=self.make_converter(g_converter, g_max, g_min),
                prog_noise_scale=prog_noise_scale,
                read_noise_scale=read_noise_scale,
                drift_scale=drift_scale,
            )
        )
        self.scales = (float(prog_noise_scale), float(read_noise_scale), float(drift_scale))

    def label(self) -> str:
        """A short name for tables and records."""
        scaled = (
            "" if self.scales == (1.0, 1.0, 1.0) else " x {:g}, {:g}, {:g}".format(*self.scales)
        )
        return f"PCM{scaled}"

    @property
    def is_off(self) -> bool:
        """Whether the model leaves all weights as they are, at all times."""
        return self.scales == (0.0, 0.0, 0.0)
