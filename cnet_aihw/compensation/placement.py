"""Placements: which layer gets how much compensation; parsed, checked and written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path

import yaml
from torch import nn

from cnet_aihw.compensation.corrector import layer_shape, size_given
from cnet_aihw.rram import RRAMLayer, analog_layers
from cnet_aihw.rram.crossbar.refusals import not_rram
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.typed import check_type, checked
from cnet_aihw.runtime.values import is_number

DIGITAL = "digital"
"""In place of a ratio: the layer leaves the crossbar and costs all its weights."""

_EXAMPLE = "a mapping such as {conv1: 0.5, fc1: digital}"


class Placement(Mapping[str, float | str]):
    """Layer name -> ratio in [0, 1], ``"size 2"`` or ``"digital"``; immutable, in the order given.

    Args:
        layers: the mapping. A ratio is the size of a corrector / the channels of its layer; 0 means
            no corrector there. Correctors without a size take the ratio 1. ``"size 2"`` gives the
            number of filters itself, at most the channels of the layer; ``"size 0"``, for a
            corrector that has something without filters, is not the ratio 0.

    Raises:
        CnetError: if a value is none of these.
    """

    def __init__(self, layers: Mapping[str, float | str]) -> None:
        check_type("placement", layers, Mapping)
        for name, value in layers.items():
            if not isinstance(name, str):
                raise bad_value("placement", name, "names of layers as text")
            if (
                value != DIGITAL
                and size_given(value) is None
                and not (is_number(value) and 0.0 <= value <= 1.0)
            ):
                expected = f"a number in [0, 1], text such as 'size 2', or {DIGITAL!r}"
                raise bad_value(f"placement.{name}", value, expected)
        self._layers = {n: v if isinstance(v, str) else float(v) for n, v in layers.items()}

    @classmethod
    def parse(cls, text: str) -> Placement:
        """Read YAML or JSON text, such as ``{conv1: 0.5, fc1: digital}``.

        Raises:
            CnetError: if it is not a mapping of names to ratios.
        """
        try:
            layers = yaml.safe_load(text)
        except yaml.YAMLError as error:
            reason = str(error).splitlines()[0]
            raise bad_value("placement", text, f"{_EXAMPLE} in YAML or JSON", reason) from error
        if not isinstance(layers, dict):
            raise bad_value("placement", text, _EXAMPLE)
        return cls(layers)

    @classmethod
    def read(cls, path: str | Path) -> Placement:
        """Read a YAML or JSON file.

        Raises:
            CnetError: if it is missing or does not hold a placement.
        """
        try:
            return cls.parse(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise CnetError(
                f"the placement file {path} cannot be read ({reason}).",
                key="placement",
                value=str(path),
                expected="a readable YAML or JSON file",
            ) from error

    def to_json(self) -> str:
        """Write as one line of JSON."""
        return json.dumps(self._layers)

    def to_yaml(self) -> str:
        """Write as YAML, one line a layer."""
        return str(yaml.safe_dump(self._layers, sort_keys=False))

    def __getitem__(self, name: str) -> float | str:
        return self._layers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def __repr__(self) -> str:
        return f"Placement({self._layers})"

    def __hash__(self) -> int:
        return hash(tuple(sorted((n, str(v)) for n, v in self._layers.items())))


@checked
def check_placement(placement: Placement, model: nn.Module) -> None:
    """Check that every layer named can take its ratio.

    Raises:
        CnetError: if a layer is unknown (with the nearest names), not analog, the whole model, or
            of a kind that cannot be compensated.
    """
    analog = analog_layers(model)
    for name in placement:
        if name in analog:
            _check_layer(name, analog[name])
            continue
        nearest = get_close_matches(name, analog, n=3, cutoff=0.0)
        modules = dict(model.named_modules(remove_duplicate=False))
        if name in modules:
            found = f"a {type(modules[name]).__name__} that is not analog"
        else:
            found = "which the model does not have"
        raise CnetError(
            f"the placement names {name!r}, {found}; the nearest analog layers are "
            f"{', '.join(map(repr, nearest))}.",
            key=f"placement.{name}",
            value=name,
            expected=tuple(nearest),
        )


def _check_layer(name: str, layer: object) -> None:
    if name == "":
        raise CnetError(
            "the model itself is the layer to compensate; put it into torch.nn.Sequential.",
            key="placement",
            value=name,
            fix="put it into torch.nn.Sequential",
        )
    if not isinstance(layer, RRAMLayer):
        kind = type(layer).__name__
        raise not_rram(f"layer {name!r}", kind, f"placement.{name}", "an RRAM layer to compensate")
    assert isinstance(layer, nn.Module)
    layer_shape(layer)
