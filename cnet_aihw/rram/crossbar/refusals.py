"""Settings that torch tiles refuse: errors of ours that aihwkit's callers catch as theirs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aihwkit.exceptions import AnalogBiasConfigError, ConfigError, TorchTileConfigError

from cnet_aihw.runtime.errors import CnetError


class TileConfigError(CnetError, TorchTileConfigError):
    """A setting that torch tiles do not compute."""


class AnalogBiasError(CnetError, AnalogBiasConfigError):
    """A bias on the crossbar, which torch tiles do not have."""


@contextmanager
def refusals() -> Iterator[None]:
    """Raise what aihwkit refuses of a configuration inside the block as an error of ours.

    Raises:
        CnetError: which is aihwkit's own error too.
    """
    try:
        yield
    except ConfigError as error:
        if isinstance(error, CnetError):
            raise
        if isinstance(error, AnalogBiasConfigError):
            fix = "set mapping.digital_bias=True"
            raise AnalogBiasError(
                f"mapping.digital_bias is False, but torch tiles have no bias on the crossbar; "
                f"{fix}.",
                key="mapping.digital_bias",
                value=False,
                expected=True,
                fix=fix,
            ) from error
        raise TileConfigError(
            f"torch tiles do not compute this: {str(error).rstrip('.')}; take that setting back, "
            "or measure with aihwkit's InferenceRPUConfig, whose C++ tile may have it.",
            key="rpu_config",
        ) from error
