"""A chip to tune on: a protocol for drivers of real ones, and a simulated one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, Protocol

import torch
from aihwkit.inference.noise.base import BaseNoiseModel
from torch import Tensor, nn

from cnet_aihw.evaluation.chip_identity import (
    describe_network,
    describe_noise_models,
    describe_periphery,
)
from cnet_aihw.evaluation.chip_run import check_times_known
from cnet_aihw.rram import RRAMLayer, analog_layers, clear_chip, nominal_inside
from cnet_aihw.rram.devices.chip_scope import chip_scope
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.fingerprint import text_fingerprint
from cnet_aihw.runtime.random_state import checked_seed, derive_seed, seeded_rng
from cnet_aihw.runtime.torch_device import device_of
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import check_number
from cnet_aihw.tuning.cells import CellWrites


class Chip(Protocol):
    """A chip, or its driver: what tuning asks of it.

    Tuning never reads weights from it, unless ``backward=exact`` or ``angles`` asks for a method
    ``weight(layer)``. A chip may also have ``cells`` (:class:`CellWrites` of its life so far),
    ``fingerprint()``, and ``state()`` and ``load(state)``, with which a simulated one resumes.
    """

    def write(self, layer: str, weight: Tensor) -> None:
        """Write the weights of a layer.

        A cell that is asked for the weight that was written last is to be left as it is.

        Args:
            layer: name of the layer in the network.
            weight: logical weights, [out, in / groups * kernel].
        """

    def forward(self, layer: str, x: Tensor, bias: Tensor | None) -> Tensor:
        """Return a layer's outputs on the chip.

        Where a network gives a transposed convolution the sizes that it wants, they come as a
        further argument ``output_size``.

        Args:
            layer: name of the layer.
            x: its inputs, as in the network: [..., in], or of a convolution [N, in, H, W].
            bias: the digital bias to be added, [out], if any.
        """


class SimulatedChip:
    """A chip of the simulator, whose variation from device to device outlasts its writes.

    The lasting part is chip ``seed`` of the noise model, the same as that of ``program``: it is
    drawn from the same numbers at each write. On top each write multiplies the cells that it writes
    by exp(rewrite_sigma * z) with fresh normal z, which the cells keep until the next write. With
    ``rewrite_sigma = 0`` a write is exact but for the lasting part.

    Args:
        model: a network of RRAM layers; left as it is.
        seed: the chip's seed.
        rewrite_sigma: standard deviation of the logarithm of the part that is fresh at each write.
        noise_model: noise model of the lasting part; None: the model's own.
        t_inference: seconds between a write and its use, for noise models that drift.
        max_writes: writes that a cell endures; None: any number.

    Attributes:
        cells: writes of each cell so far.

    Raises:
        CnetError: for other layers than RRAM layers, and impossible values.
    """

    @checked
    def __init__(
        self,
        model: nn.Module,
        seed: int,
        rewrite_sigma: float = 0.0,
        noise_model: BaseNoiseModel | None = None,
        t_inference: float | None = None,
        max_writes: int | None = None,
    ) -> None:
        check_number("rewrite_sigma", rewrite_sigma, 0.0, unit="(a standard deviation)")
        self.seed, self.rewrite_sigma = checked_seed(seed), float(rewrite_sigma)
        self.t_inference = t_inference
        self.cells = CellWrites(max_writes)
        if t_inference is not None:
            check_number("t_inference", t_inference, 0.0, unit="(seconds)")
        check_times_known(model, noise_model, [t_inference])
        with nominal_inside(model):
            self._model = deepcopy(model).eval().requires_grad_(False)
        clear_chip(self._model)
        self._layers = rram_layers(self._model)
        for layer in self._layers.values():
            for tile in layer.tiles():
                if noise_model is not None:
                    tile.rpu_config.noise_model = deepcopy(noise_model)
        self._factors: dict[str, Tensor] = {}
        self._times: dict[str, int] = {}

    def write(self, layer: str, weight: Tensor) -> None:
        """Write the weights of a layer; see :class:`Chip`.

        Raises:
            CnetError: where a cell would be written more often than it endures, and for a layer or
                weights that do not fit; then nothing is written.
        """
        if layer not in self._layers:
            raise bad_value("layer", layer, f"one of {', '.join(self._layers)}")
        shape = self._layers[layer].nominal_weight().shape
        if weight.shape != shape or not bool(torch.isfinite(weight).all()):
            found = f"{tuple(weight.shape)}, some not finite"
            found = found if weight.shape == shape else str(tuple(weight.shape))
            raise bad_value("weight", found, f"finite weights {tuple(shape)}")
        changed = self.cells.note(layer, weight)
        times = self._times.get(layer, 0)
        if self.rewrite_sigma:
            generator = torch.Generator()
            generator.manual_seed(derive_seed(self.seed, layer, "write", times))
            drawn = torch.randn(weight.shape, generator=generator).to(weight)
            fresh = (self.rewrite_sigma * drawn).exp()
            kept = self._factors.get(layer, fresh)
            self._factors[layer] = torch.where(changed, fresh, kept)
        self._times[layer] = times + 1
        self._program(layer)

    @torch.no_grad()
    def forward(
        self, layer: str, x: Tensor, bias: Tensor | None = None, output_size: Any = None
    ) -> Tensor:
        """Return a layer's outputs on the chip; see :class:`Chip`."""
        written: Any = self._written(layer)
        if bias is not None:
            written.bias.data = bias.detach()
        sized = {} if output_size is None else {"output_size": output_size}
        outputs: Tensor = written(x, **sized)
        return outputs

    def weight(self, layer: str) -> Tensor:
        """Return the logical weights as they lie on the chip, [out, in / groups * kernel]."""
        weight: Tensor = self._written(layer).get_weights()[0]
        return weight.to(device_of(self._model))

    @contextmanager
    def put_on(self, model: nn.Module) -> Iterator[nn.Module]:
        """Let a network compute on this chip inside the block, as one that was programmed.

        Calibrations, such as correctors fitted to the chip, and measurements work there as on any
        chip; the network's nominal weights and digital parts are its own.

        Args:
            model: a network with the layers that were written.

        Yields:
            The model; afterwards it is without a chip.
        """
        clear_chip(model)
        try:
            for name, layer in rram_layers(model).items():
                ours = self._written(name).tiles()
                for tile, written in zip(layer.tiles(), ours, strict=True):
                    chip, scales = written.chip, written.tile.scales
                    assert chip is not None
                    if scales is not None:  # in the units of the other tile
                        assert tile.tile.scales is not None
                        ratio = scales / tile.tile.scales
                        chip = chip.times(ratio, ratio)
                    tile.chip = chip
            yield model
        finally:
            clear_chip(model)

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of what the chip is, before any write."""
        described = [
            *describe_network(self._model),
            *describe_noise_models(self._model, None),
            *describe_periphery(self._model),
        ]
        settings = f"{self.seed} {self.rewrite_sigma!r} {self.t_inference!r}"
        return text_fingerprint([*described, settings])

    def state(self) -> dict[str, Tensor]:
        """Return all that writes and readings changed, as named tensors."""
        reads = {
            f"reads/{name}/{index}": torch.tensor(tile.chip.read_noise.reads)
            for name in self._times
            for index, tile in enumerate(self._layers[name].tiles())
            if tile.chip is not None and tile.chip.read_noise is not None
        }
        return {
            **{f"cells/{name}": tensor for name, tensor in self.cells.state().items()},
            **{f"factors/{name}": tensor for name, tensor in self._factors.items()},
            **{f"times/{name}": torch.tensor(times) for name, times in self._times.items()},
            **reads,
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put back what :meth:`state` returned."""
        device = device_of(self._model)

        def of(kind: str) -> dict[str, Tensor]:
            return {n.partition("/")[2]: t for n, t in state.items() if n.startswith(f"{kind}/")}

        self.cells.load(of("cells"), device)
        self._factors = {name: tensor.to(device) for name, tensor in of("factors").items()}
        self._times = {name: int(times) for name, times in of("times").items()}
        reads = of("reads")
        clear_chip(self._model)
        for name in self._times:
            self._program(name)
            for index, tile in enumerate(self._layers[name].tiles()):
                if tile.chip is not None and tile.chip.read_noise is not None:
                    tile.chip.read_noise.reads = int(reads[f"{name}/{index}"])

    def _written(self, name: str) -> RRAMLayer:
        if name not in self._times:
            raise CnetError(
                f"layer {name!r} was not written to the chip; call chip.write first.",
                key=name,
                value="not written",
                expected=sorted(self._times),
            )
        return self._layers[name]

    @torch.no_grad()
    def _program(self, name: str) -> None:
        """Put on the tiles of a layer what its last write left."""
        layer = self._layers[name]
        layer.set_weights(self.cells.weights[name])
        tiles = layer.tiles()
        factors = self._factors.get(name)
        parts = [None] * len(tiles) if factors is None else _by_tile(layer, factors)
        with chip_scope(self.seed):
            for index, (tile, factor) in enumerate(zip(tiles, parts, strict=True)):
                with seeded_rng(derive_seed(self.seed, f"{name}/{index}")):
                    tile.program_weights()
                    if self.t_inference is not None:
                        tile.drift_weights(self.t_inference)
                chip = tile.chip
                assert chip is not None
                if factor is not None:
                    tile.chip = chip = chip.times(factor)
                times = self._times[name]
                chip.seed_reads(derive_seed(self.seed, f"{name}/{index}", "read noise", times))


@checked
def rram_layers(model: nn.Module) -> dict[str, RRAMLayer]:
    """Return the RRAM layers of a network, name -> layer.

    Raises:
        CnetError: if it has none, or other analog layers.
    """
    found: dict[str, RRAMLayer] = {}
    for name, layer in analog_layers(model).items():
        if not isinstance(layer, RRAMLayer):
            raise CnetError(
                f"layer {name!r} is {type(layer).__name__}, which overwrites its weights; convert "
                "the model with an RRAMRPUConfig.",
                key=name,
                value=type(layer).__name__,
                expected="an RRAM layer",
            )
        found[name] = layer
    return found


def _by_tile(layer: RRAMLayer, matrix: Tensor) -> list[Tensor]:
    """Divide a matrix of a layer among its tiles, in their order."""
    array: Any = layer.analog_module
    if len(layer.tiles()) == 1:
        return [matrix]
    columns = matrix.split(list(array.in_sizes), 1)
    return [part for column in columns for part in column.split(list(array.out_sizes), 0)]
