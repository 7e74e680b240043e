"""Analog layers that compute with torch's own kernels where the periphery is perfect.

aihwkit's analog convolution unfolds its input, which costs several times a plain convolution. With
perfect inputs and outputs the same numbers come from ``F.conv2d`` on the chip's weights; with DAC,
ADC or noise at the periphery aihwkit's own path is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from aihwkit.nn.modules.base import AnalogLayerBase
from aihwkit.nn.modules.linear import AnalogLinear
from aihwkit.simulator.tiles.array import TileModuleArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd

from cnet_aihw.rram.crossbar.charge import Charge, charge_voltage
from cnet_aihw.rram.crossbar.configs import RRAMRPUConfig
from cnet_aihw.rram.crossbar.keyword_input import KeywordInput
from cnet_aihw.rram.crossbar.refusals import check_one_crossbar_of_rows, no_digital_equal
from cnet_aihw.rram.crossbar.stand_in import WeightStandIn
from cnet_aihw.rram.crossbar.tiles import RRAMInferenceTile
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.memory import check_memory
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import check_count

_LARGE = 2**30
"""Bytes of weights from which on free memory is looked at."""


class RRAMLayer(KeywordInput, AnalogLayerBase):
    """Base of the RRAM layers: the weight matrix of this forward, for torch's kernels."""

    analog_module: RRAMInferenceTile | TileModuleArray
    in_features: int
    out_features: int
    name_in_network: str = ""
    """Name that it had where it was converted, for messages."""

    def tiles(self) -> list[RRAMInferenceTile]:
        """Return the layer's tiles, in the order of aihwkit's tile array."""
        module = self.analog_module
        if isinstance(module, TileModuleArray):
            return [tile for row in module.array for tile in row]
        return [module]

    def nominal_weight(self) -> Tensor:
        """Return the nominal weights, [out, in / groups * kernel], differentiable."""
        return self._joined([tile.nominal_weight() for tile in self.tiles()])

    @property
    def weight(self) -> Any:
        """A stand-in with the shape, type and device of the weight; it refuses arithmetic."""
        if "analog_module" not in self._modules:
            raise AttributeError("weight")  # so that a parameter is found while the layer is made
        layer = f"an {type(self).__name__}"
        if self.name_in_network:
            layer = f"{self.name_in_network!r}, {layer}"
        return WeightStandIn.of(layer, self._weight_shape(), self.tiles()[0].tile.weight)

    @weight.setter
    def weight(self, value: Any) -> None:
        if value is not None:  # aihwkit's constructors set None
            raise self._not_settable("weight")

    @property
    def bias(self) -> Tensor | None:
        """The digital bias, a parameter of the tiles, [out]; None without one."""
        if "analog_module" not in self._modules:
            raise AttributeError("bias")
        return self.analog_module.bias

    @bias.setter
    def bias(self, value: Any) -> None:
        # aihwkit's constructors set whether there is one
        own = "analog_module" not in self._modules or self.analog_module.bias is not None
        if isinstance(value, Tensor) or own != bool(value):
            raise self._not_settable("bias")

    def _not_settable(self, part: str) -> CnetError:
        fix = "call layer.set_weights(weight, bias)"
        return CnetError(
            f"the {part} of an {type(self).__name__} cannot be replaced; {fix}.",
            key=part,
            fix=fix,
        )

    def _weight_shape(self) -> tuple[int, ...]:
        """Return the shape of the weight in the digital layer."""
        return self.out_features, self.in_features

    def as_matrix(self, weight: Tensor) -> Tensor:
        """Return the crossbar's matrix of a digital layer's weight, [out, in / groups * kernel]."""
        return weight.reshape(self.out_features, self.in_features)

    def as_digital(self, matrix: Tensor) -> Tensor:
        """Return the digital layer's weight of a crossbar's matrix."""
        return matrix.view(self._weight_shape())

    def _digital(self, layer: Any) -> Any:
        """Give a new digital layer the present weights, in the number type of the tiles."""
        tile = self.tiles()[0]  # cast first: a copy into single precision would round
        layer = layer.to(device=tile.tile.weight.device, dtype=tile.get_dtype())
        weight, bias = self.get_weights()
        with torch.no_grad():
            layer.weight.copy_(self.as_digital(weight))
            if bias is not None:
                layer.bias.copy_(bias)
        return layer

    def unregister_parameter(self, param_name: str) -> None:
        """Forget a parameter of the digital layer, which the tiles hold from now on."""
        self._parameters.pop(param_name, None)

    def register_parameter(self, name: str, param: Any) -> None:
        """Refuse another weight or bias, and take any other parameter."""
        if name in ("weight", "bias") and "analog_module" in self._modules:
            raise self._not_settable(name)
        super().register_parameter(name, param)

    def reset_parameters(self) -> None:
        """Draw first weights as the digital layer does."""
        if "analog_module" not in self._modules:
            return
        tiles = self.tiles()
        if len(tiles) == 1:  # in place, as a copy would take the memory of the layer again
            tile: Any = tiles[0]
            weight, bias = tile.tile.weight.data, tile.bias.data if tile.digital_bias else None
        else:
            weight, bias = self.get_weights()
        holder: Any = SimpleNamespace(weight=weight.view(self._weight_shape()), bias=bias)
        digital: Any = _ConvNd if isinstance(self, _ConvNd) else nn.Linear
        digital.reset_parameters(holder)
        if len(tiles) == 1:
            tile.set_weights(weight)
            return
        self.set_weights(holder.weight.reshape(weight.shape), bias)

    def digital_forward(self, x_input: Tensor, weight: Tensor | None = None, *sizes: Any) -> Tensor:
        """Compute as a digital layer: with perfect periphery.

        Args:
            x_input: the inputs.
            weight: weights, [out, in / groups * kernel]; None: the nominal ones.
            *sizes: as in :meth:`_compute`.
        """
        if self._charge() is not None:
            raise no_digital_equal(self.name_in_network or type(self).__name__)
        weight = self.nominal_weight() if weight is None else weight
        return self._compute(x_input, weight, self.analog_module.bias, *sizes)

    def _compute(self, x_input: Tensor, weight: Tensor, bias: Tensor | None, *sizes: Any) -> Tensor:
        """Compute with torch's kernel on a weight matrix, [out, in / groups * kernel]."""
        raise NotImplementedError

    def _charge(self) -> Charge | None:
        """Return the charge read-out of the columns, or None where currents are read."""
        charge: Charge | None = self.tiles()[0].rpu_config.readout
        return charge

    def _read_out(self, x_input: Tensor, weight: Tensor, *sizes: Any) -> Tensor:
        """Compute with a weight matrix as the columns are read; the periphery is perfect."""
        charge, bias = self._charge(), self.analog_module.bias
        if charge is None:
            return self._compute(x_input, weight, bias, *sizes)
        name = self.name_in_network or f"an {type(self).__name__}"
        check_one_crossbar_of_rows(name, self.analog_module)
        dims = len(getattr(self, "kernel_size", ()))
        batched = dims > 0 and x_input.dim() == dims + 2

        def product(x: Tensor, w: Tensor) -> Tensor:
            y = self._compute(x.flatten(0, 1) if batched else x, w, None, *sizes)
            return y.unflatten(0, (len(x), -1)) if batched else y

        training = self.training
        voltage = charge_voltage(x_input, weight, product, charge, training=training, layer=name)
        return voltage if bias is None else voltage + bias.view(-1, *(1,) * dims)

    def _torch_weight(self) -> Tensor | None:
        """Return the weights of this forward, or None where the periphery is not perfect."""
        tiles = self.tiles()
        if not all(tile.has_perfect_periphery for tile in tiles):
            return None
        return self._joined([tile.mvm_logical_weight() for tile in tiles])

    def _joined(self, weights: list[Tensor]) -> Tensor:
        if len(weights) == 1:
            return weights[0]
        rows = len(self.analog_module.out_sizes)  # tiles come column by column
        columns = [torch.cat(weights[i : i + rows], 0) for i in range(0, len(weights), rows)]
        return torch.cat(columns, 1)


def check_sizes(**sizes: Any) -> None:
    """Refuse sizes of a layer, or lists of them, that are not whole numbers above 0.

    Raises:
        CnetError: names the first one.
    """
    for name, given in sizes.items():
        for size in given if isinstance(given, list | tuple) else (given,):
            check_count(name, size)


def check_weights_fit(rows: int, columns: int) -> None:
    """Refuse weights that the machine's memory cannot hold.

    Raises:
        CnetError: if it cannot.
    """
    need = 4 * rows * columns
    if need > _LARGE:  # looking takes longer than making a small layer
        check_memory(need, f"a layer of {rows} x {columns} weights")


def check_config(rpu_config: Any, layer: str) -> None:
    """Refuse a configuration that is not an RRAMRPUConfig."""
    if not isinstance(rpu_config, RRAMRPUConfig):
        raise CnetError(
            f"{layer} needs an RRAMRPUConfig, not {type(rpu_config).__name__}; aihwkit's own "
            "layers take the other configurations.",
            key=str(layer),
        )


def check_tile_class(tile_module_class: type | None) -> None:
    """Refuse tiles that are not ours.

    Raises:
        CnetError: for another class.
    """
    if tile_module_class is not None and not issubclass(
        tile_module_class, RRAMInferenceTile | TileModuleArray
    ):
        expected = "RRAMInferenceTile or TileModuleArray, or None for what fits"
        raise bad_value("tile_module_class", tile_module_class.__name__, expected)


class RRAMLinear(RRAMLayer, AnalogLinear):
    """Linear layer on RRAM; arguments, weights and bias as ``aihwkit.nn.AnalogLinear``.

    Raises:
        CnetError: if the configuration is not an :class:`~cnet_aihw.rram.RRAMRPUConfig`.
    """

    @checked
    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        rpu_config: RRAMRPUConfig | None = None,
        tile_module_class: type | None = None,
    ) -> None:
        rpu_config = RRAMRPUConfig() if rpu_config is None else rpu_config
        check_tile_class(tile_module_class)
        check_sizes(in_features=in_features, out_features=out_features)
        check_weights_fit(in_features, out_features)
        super().__init__(in_features, out_features, bias, rpu_config, tile_module_class)

    def forward(self, x_input: Tensor) -> Tensor:
        """Return x W^T + b, [..., in] -> [..., out]."""
        weight = self._torch_weight()
        if weight is None:
            return super().forward(x_input)
        return self._read_out(x_input, weight)

    def _compute(self, x_input: Tensor, weight: Tensor, bias: Tensor | None, *sizes: Any) -> Tensor:
        return F.linear(x_input, weight, bias)


class RRAMTransposedLinear(RRAMLinear):
    """Linear layer whose digital weight is [in, out], as ``Conv1D`` of Hugging Face has it."""

    digital_class: type[nn.Module]
    """Class of the digital layer."""

    @staticmethod
    def takes(module: nn.Module) -> bool:
        """Say whether a layer is a ``Conv1D`` by its parameters: weight [in, nf] and bias [nf]."""
        weight, outputs = module._parameters.get("weight"), getattr(module, "nf", None)
        return (
            weight is not None
            and weight.dim() == 2
            and weight.shape[1] == outputs
            and set(module._parameters) <= {"weight", "bias"}
            and not module._modules
        )

    @classmethod
    def from_digital(
        cls, module: Any, rpu_config: Any, tile_module_class: type | None = None
    ) -> RRAMTransposedLinear:
        """Return the analog layer of a digital one, with its weights."""
        rows, columns = module.weight.shape
        bias = module._parameters.get("bias")
        layer = cls(rows, columns, bias is not None, rpu_config, tile_module_class)
        layer.digital_class = type(module)
        layer.set_weights(layer.as_matrix(module.weight), bias)
        return layer.to(module.weight.device)

    @classmethod
    def to_digital(cls, module: RRAMTransposedLinear, realistic: bool = False) -> nn.Module:
        """Return a layer of the digital class with the present weights."""
        kind: Any = module.digital_class
        plain: Any = kind.__new__(kind)
        nn.Module.__init__(plain)
        weight, _ = module.get_weights()
        plain.weight = nn.Parameter(torch.empty(module._weight_shape(), dtype=weight.dtype))
        bias = torch.empty(module.out_features, dtype=weight.dtype)
        plain.register_parameter("bias", None if module.bias is None else nn.Parameter(bias))
        return module._digital(plain)

    def as_matrix(self, weight: Tensor) -> Tensor:
        """Return the transpose."""
        return weight.T

    def as_digital(self, matrix: Tensor) -> Tensor:
        """Return the transpose."""
        return matrix.T

    def _weight_shape(self) -> tuple[int, ...]:
        return self.in_features, self.out_features


@contextmanager
def one_draw(module: nn.Module) -> Iterator[None]:
    """Let all calls of a layer inside the block see one sample of the variation of training.

    A network calls the recurrent layers of one forward many times, on one chip.

    Args:
        module: the layers' module; each RRAM layer in it draws for itself.
    """
    tiles = [t.tile for m in module.modules() if isinstance(m, RRAMLayer) for t in m.tiles()]
    for tile in tiles:
        tile.share_draws(True)
    try:
        yield
    finally:
        for tile in tiles:
            tile.share_draws(False)
