"""ADCs of a network on crossbars: their ranges, found on data, and the cost of conversions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cnet_aihw.evaluation.chip_run import measuring
from cnet_aihw.evaluation.first_batch import checked_call
from cnet_aihw.rram import analog_layers
from cnet_aihw.rram.crossbar.tiles import RRAMInferenceTile
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.inputs import Inputs, inputs_on, samples_in, select
from cnet_aihw.runtime.random_state import seed_random_state
from cnet_aihw.runtime.torch_device import device_of, resolve_device
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import check_count

_MOST_BITS = 32


@dataclass(frozen=True)
class AdcUse:
    """Work of one layer's ADCs for one sample."""

    layer: str
    """Name of the layer."""

    crossbars: int
    """Crossbars that the layer lies on."""

    conversions: int
    """Conversions for one sample: columns of its crossbars times positions of a convolution."""

    bits: int
    """Bits of each."""

    @property
    def steps(self) -> int:
        """Conversion steps for one sample; see :func:`conversion_steps`."""
        return conversion_steps(self.conversions, self.bits)


@checked
def conversion_steps(conversions: int, bits: int) -> int:
    """Count the conversion steps of an ADC, to which its energy is proportional.

    ``conversions * 2**bits``: the figure of merit of ADCs is their energy per conversion step, so
    that a conversion costs ``2**bits`` of them, and each bit doubles the cost. Times the figure of
    merit of an ADC (some fJ to some 100 fJ per step) it is an energy. Source: R. H. Walden,
    *Analog-to-digital converter survey and analysis*, IEEE J. Sel. Areas Commun. 17(4), 1999.

    Args:
        conversions: how many conversions.
        bits: bits of each, at least 1.

    Raises:
        CnetError: for numbers that cannot be.
    """
    check_count("conversions", conversions, 0)
    if not 1 <= bits <= _MOST_BITS:
        raise bad_value("bits", bits, f"1 to {_MOST_BITS} bits")
    return conversions * 2**bits


@checked
def adc_use(model: nn.Module, example: Inputs) -> tuple[AdcUse, ...]:
    """Count the conversions that each layer needs for one sample.

    Args:
        model: converted model.
        example: one input or more, [N, ...].

    Returns:
        The layers with ADCs on torch tiles, in the order of registration; none where outputs are
        not converted.
    """
    layers = analog_layers(model)
    vectors: dict[str, int] = {}

    def count(name: str, columns: int) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(_: nn.Module, __: Any, outputs: Tensor) -> None:
            vectors[name] = vectors.get(name, 0) + outputs.numel() // columns

        return hook

    where = device_of(model)
    with ExitStack() as stack:
        for name, layer in layers.items():
            handle = layer.register_forward_hook(count(name, layer.out_features))
            stack.callback(handle.remove)
        stack.enter_context(before_adcs(model, lambda tile, outputs: None, where))
        checked_call(model, inputs_on(where, example))
    uses = []
    for name, tiles in _converted(model).items():
        conversions = (
            sum(tile.out_size for tile in tiles) * vectors.get(name, 0) // samples_in(example)
        )
        bits = round(math.log2(1.0 / tiles[0].rpu_config.forward.out_res + 2.0))
        uses.append(AdcUse(name, len(tiles), conversions, bits))
    return tuple(uses)


@checked
def calibrate_adc(
    model: nn.Module,
    inputs: Inputs,
    batch_size: int = 500,
    device: str | torch.device = "auto",
) -> dict[str, float]:
    """Set the range of each crossbar's ADCs to the largest output that inputs give there.

    The outputs are those of the nominal weights behind the DAC, without output noise. All ADCs of a
    crossbar share one range. It is rounded up to two digits, so that small differences between
    machines do not change it.

    Args:
        model: converted model; its crossbars' ranges are changed.
        inputs: unlabelled inputs such as of the training part, [N, ...].
        batch_size: samples a forward pass takes at once.
        device: "auto" (CUDA where available), "cpu" or a CUDA device.

    Returns:
        Crossbar, as ``layer/number``, -> range, where the largest weight times the largest input
        is 1.

    Raises:
        CnetError: if there are no inputs, no ADC on a torch tile, or outputs that are not finite;
            no range is changed then.
    """
    check_count("batch_size", batch_size)
    samples = samples_in(inputs)
    if samples == 0:
        raise bad_value("inputs", samples, "at least one input to calibrate ADC ranges on")
    if not _converted(model):
        raise CnetError(
            "no crossbar of the model has an ADC whose range could be calibrated; give adc_bits.",
            key="adc_bits",
            expected="an ADC",
            fix="give adc_bits",
        )
    largest: dict[int, Tensor] = {}

    def see(tile: RRAMInferenceTile, outputs: Tensor) -> None:
        reach = outputs.abs().amax()
        largest[id(tile)] = torch.maximum(reach, largest.get(id(tile), reach))

    where = resolve_device(device)
    with before_adcs(model, see, where):
        for start in range(0, samples, batch_size):
            batch = select(inputs, slice(start, start + batch_size))
            checked_call(model, inputs_on(where, batch))
    ranges: dict[str, float] = {}
    found = []
    for name, tiles in _converted(model).items():
        for number, tile in enumerate(tiles):
            seen = largest.get(id(tile))  # none where all inputs were 0
            reach = 1.0 if seen is None else seen.item()
            if not math.isfinite(reach):
                fix = "check the inputs and the weights"
                raise bad_value("inputs", reach, f"finite outputs of {name!r} for them", fix)
            ranges[f"{name}/{number}"] = _rounded_up(reach)
            found.append(tile)
    for tile, reach in zip(found, ranges.values(), strict=True):
        tile.rpu_config.forward.out_bound = reach
    return ranges


def lacks_adc_range(model: nn.Module) -> bool:
    """Say whether an ADC of the model has no range yet, so that nothing could be computed."""
    return any(
        tile.rpu_config.forward.out_bound <= 0.0
        for tiles in _converted(model).values()
        for tile in tiles
    )


@contextmanager
def before_adcs(
    model: nn.Module, observer: Callable[[RRAMInferenceTile, Tensor], None], device: torch.device
) -> Iterator[None]:
    """Let an observer see what each ADC would convert; inside the block nothing is converted.

    The model is on ``device`` there, without a chip; afterwards it, modes and torch's random state
    are as before.
    """
    converted = [tile for tiles in _converted(model).values() for tile in tiles]

    def seen_by(tile: RRAMInferenceTile) -> Callable[[Tensor], None]:
        return lambda outputs: observer(tile, outputs)

    try:
        for tile in converted:
            tile.tile.observer = seen_by(tile)
        with measuring(model, device), torch.inference_mode():
            seed_random_state(0, device)
            yield
    finally:
        for tile in converted:
            tile.tile.observer = None


def _converted(model: nn.Module) -> dict[str, list[RRAMInferenceTile]]:
    """Return the torch tiles of each layer whose outputs an ADC converts."""
    tiles = {
        name: [
            tile
            for tile in layer.analog_tiles()
            if isinstance(tile, RRAMInferenceTile)
            and not tile.rpu_config.forward.is_perfect
            and tile.rpu_config.forward.out_res > 0.0
        ]
        for name, layer in analog_layers(model).items()
    }
    return {name: found for name, found in tiles.items() if found}


def _rounded_up(value: float) -> float:
    """Return the next number of two digits; 1 for 0."""
    if value <= 0.0:
        return 1.0
    digit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return round(math.ceil(value / digit - 1e-9) * digit, 12)
