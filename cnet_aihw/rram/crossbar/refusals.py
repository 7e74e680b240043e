"""Refusals of torch tiles, which aihwkit's callers catch as theirs, and of charge read-out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aihwkit.exceptions import AnalogBiasConfigError, ConfigError, TorchTileConfigError
from aihwkit.simulator.tiles.array import TileModuleArray

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


def not_rram(layer: str, kind: str, key: str, expected: str = "an RRAM layer") -> CnetError:
    """Return the error for a layer that is not one of ours, where one is needed.

    Args:
        layer: the layer in the sentence, such as "layer 'fc'".
        kind: its class, or that of its tile.
        key: its name.
        expected: what is needed.
    """
    fix = "convert the digital network, convert_to_digital(model), with an RRAMRPUConfig"
    message = f"{layer} is {kind}; expected {expected}; {fix}."
    return CnetError(message, key=key, value=kind, expected=expected, fix=fix)


def not_ours(rpu_config: Any) -> CnetError:
    """Return the error for a tile of ours that is to get one of aihwkit's configurations."""
    kind = type(rpu_config).__name__
    fix = "convert_to_analog(convert_to_digital(model), rpu_config) takes any"
    return CnetError(
        f"rpu_config is {kind}; a tile of RRAM layers needs an RRAMRPUConfig; {fix}.",
        key="rpu_config",
        value=kind,
        expected="an RRAMRPUConfig",
        fix=fix,
    )


def saved_configuration() -> CnetError:
    """Return the error for a saved configuration that is not an RRAMRPUConfig."""
    fix = "load it with load_rpu_config=False"
    return CnetError(
        "the saved state's configuration is not an RRAMRPUConfig and would switch the variation "
        f"off; {fix}.",
        key="load_rpu_config",
        value=True,
        expected=False,
        fix=fix,
    )


def no_digital_equal(layer: str) -> CnetError:
    """Return the error for a digital layer that is to stand for one with charge read-out."""
    fix = "leave that layer digital when the network is trained (exclude), or choose a corrector"
    return CnetError(
        f"{layer} has charge read-out, whose output is not the matrix product that a digital "
        f"layer would give in its place; {fix}.",
        key=layer,
        value="digital",
        fix=fix,
    )


def check_one_crossbar_of_rows(layer: str, module: Any) -> None:
    """Refuse a layer with charge read-out whose inputs lie on several crossbars.

    Raises:
        CnetError: if they do.
    """
    if isinstance(module, TileModuleArray) and len(module.in_sizes) > 1:
        raise CnetError(
            f"max_rows splits the inputs of {layer} over {len(module.in_sizes)} crossbars, but "
            "with charge read-out all of them charge one capacitor; raise max_rows, or leave it "
            "null.",
            key="max_rows",
            value=module.in_sizes[0],
            expected=f">= {sum(module.in_sizes)}",
            fix="raise max_rows, or leave it null",
        )
