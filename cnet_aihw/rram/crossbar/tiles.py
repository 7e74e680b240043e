"""Torch tiles that inject a noise model in training and refuse what would be silently wrong."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

import torch
from aihwkit.exceptions import ConfigError
from aihwkit.inference.noise.base import BaseNoiseModel
from aihwkit.simulator.parameters.enums import AnalogMVType, WeightModifierType
from aihwkit.simulator.tiles.base import AnalogTileStateNames
from aihwkit.simulator.tiles.inference import InferenceTileWithPeriphery
from aihwkit.simulator.tiles.inference_torch import TorchInferenceTile
from aihwkit.simulator.tiles.torch_tile import TorchSimulatorTile
from torch import Tensor
from torch.autograd import Function, no_grad

from cnet_aihw.rram.crossbar.mvm import RRAMAnalogMVM
from cnet_aihw.rram.crossbar.perturbation import Perturbation
from cnet_aihw.rram.crossbar.read_noise import ReadNoise
from cnet_aihw.runtime.errors import CnetError

if TYPE_CHECKING:
    from cnet_aihw.rram.crossbar.configs import RRAMRPUConfig
    from cnet_aihw.rram.crossbar.variation import VariationParameter


class _ScaleGradient(Function):
    """Forward: the identity; backward: the gradient times a constant."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(scale)
        return weight.view_as(weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (scale,) = ctx.saved_tensors
        return grads[0] * scale, None


class RRAMSimulatorTile(TorchSimulatorTile):
    """Torch simulator tile whose training forwards use varied weights.

    Attributes:
        groups: convolution groups whose weights lie on this tile; inputs then are [..., groups *
            x_size].
        programmed: whether the weights are a chip's, so that nothing is injected on top.
        held: the chip that training holds, or None.
        read_noise: what each forward of a programmed chip reads beside its weights, or None.
        observer: while set, it is given all outputs before the ADC, [..., out], which then is not
            there.
    """

    def __init__(self, x_size: int, d_size: int, rpu_config: RRAMRPUConfig, **kwargs: Any) -> None:
        try:
            super().__init__(x_size, d_size, rpu_config, analog_mvm=RRAMAnalogMVM, **kwargs)
        except ConfigError as error:
            raise CnetError(
                f"torch tiles do not compute this: {str(error).rstrip('.')}; take that setting "
                "back, or measure with aihwkit's InferenceRPUConfig, whose C++ tile may have it."
            ) from error
        self._variation: VariationParameter = rpu_config.variation
        self._noise_model: BaseNoiseModel = rpu_config.noise_model
        self.groups = 1
        self.programmed = False
        self.held: Perturbation | None = None
        self.read_noise: ReadNoise | None = None
        self.gradient_scale: Tensor | None = None
        self.observer: Callable[[Tensor], None] | None = None

    def set_config(self, rpu_config: RRAMRPUConfig) -> None:
        """Take over changes of the configuration; called at every forward."""
        super().set_config(rpu_config)
        self._variation = rpu_config.variation
        self._noise_model = rpu_config.noise_model

    def mvm_weight(self, is_test: bool) -> Tensor:
        """Return the weights that a forward uses, [out, in], in the tile's units.

        Args:
            is_test: whether it is an evaluation forward, which takes the weights as they are.
        """
        weight = self.weight
        if self.gradient_scale is not None and weight.requires_grad:
            weight = _ScaleGradient.apply(weight, self.gradient_scale)
        if self.read_noise is not None:
            return self.read_noise.add_to(weight)
        variation = self._variation
        if is_test or self.programmed or not variation.enabled:
            return weight
        if not variation.hold:
            perturbation = Perturbation.draw(
                self._noise_model, weight.detach(), variation.t_inference
            )
        elif self.held is None:
            raise CnetError(
                "variation.hold is on but no chip was drawn; call "
                "cnet_aihw.resample_variation(model, seed) first."
            )
        else:
            perturbation = self.held.to(weight.device)
        varied = perturbation.apply(weight, variation.gradient)
        return varied if variation.strength == 1.0 else weight.lerp(varied, variation.strength)

    def forward(
        self,
        x_input: Tensor,
        bias: bool = False,
        in_trans: bool = False,
        out_trans: bool = False,
        is_test: bool = False,
        non_blocking: bool = False,
    ) -> Tensor:
        """Matrix-vector product through the periphery, [..., groups * in] -> [..., out]."""
        weight = self.mvm_weight(is_test)
        if not is_test:
            weight = self.modify_weight(weight, self._modifier, x_input.shape[0])
        outputs = [
            self._analog_mvm.matmul(
                group_weight,
                group_input,
                self._f_io,
                False,
                is_test=is_test,
                out_noise_values=noise,
                observer=self.observer,
            )
            for group_weight, group_input, noise in zip(
                weight.chunk(self.groups, dim=-2),
                x_input.chunk(self.groups, dim=-1),
                self._group_noise(),
                strict=True,
            )
        ]
        return outputs[0] if self.groups == 1 else torch.cat(outputs, dim=-1)

    def _group_noise(self) -> list[Tensor | None]:
        if self.out_noise_values is None:
            return [None] * self.groups
        return list(self.out_noise_values.chunk(self.groups))


class RRAMInferenceTile(TorchInferenceTile):
    """aihwkit's torch inference tile without the traps between training and programming.

    It differs from its parent in this: the gradient scaling of mapped weights is part of the
    forward, so that it survives copying and loading; a copy stays frozen where the original was;
    loading keeps this tile's configuration unless ``load_rpu_config=True`` is asked for; loaded
    weights are the nominal ones; training a programmed chip as if its weights were nominal is
    refused.
    """

    rpu_config: RRAMRPUConfig
    tile: RRAMSimulatorTile
    alpha: Tensor
    mapping_scales: Tensor | None
    read_noise: ReadNoise | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.load_rpu_config = False
        self.strict_rpu_config_check = False
        self._chip_version: int | None = None

    # -- what forwards use

    @property
    def has_perfect_periphery(self) -> bool:
        """Whether a forward is a plain matrix product with :meth:`logical_weight`."""
        config = self.rpu_config
        return (
            (config.forward.is_perfect or config.forward.mv_type == AnalogMVType.IDEAL)
            and self.input_range is None
            and config.modifier.type in (WeightModifierType.NONE, WeightModifierType.COPY)
            and (self.training or config.drift_compensation is None)
        )

    def mvm_logical_weight(self) -> Tensor:
        """Return the logical weights that this forward uses, variation included, [out, in]."""
        self._prepare_forward()
        return self._scaled(self.tile.mvm_weight(is_test=not self.training))

    def nominal_weight(self) -> Tensor:
        """Return the wanted logical weights, all scales applied, [out, in]; differentiable.

        Of a programmed chip, those before programming.
        """
        reference = self.reference_combined_weights
        weight = self.tile.weight if reference is None else reference.to(self.tile.weight.device)
        if reference is None and self.mapping_scales is not None and weight.requires_grad:
            # A step along the gradient of a penalty moves the logical weights as a digital step.
            weight = _ScaleGradient.apply(weight, self.mapping_scales.view(-1, 1).pow(-2))
        return self._scaled(weight)

    def forward(self, x_input: Tensor, tensor_view: tuple[int, ...] | None = None) -> Tensor:
        """Forward through the periphery, [..., in] -> [..., out]."""
        self._prepare_forward()
        return super().forward(x_input, tensor_view)

    def _prepare_forward(self) -> None:
        self.tile.set_config(self.rpu_config)
        # A copy has a new simulator tile, which does not know of the chip.
        self.tile.programmed = self.is_programmed
        self.tile.read_noise = self.read_noise
        weight = self.tile.weight
        scales = self.mapping_scales
        self.tile.gradient_scale = (
            None if scales is None else scales.to(weight.device).view(-1, 1).pow(-2)
        )
        if (
            self.is_programmed
            and self.training
            and weight.requires_grad
            and torch.is_grad_enabled()
        ):
            raise CnetError(
                "this model is programmed: a training step would change the chip's weights, not "
                "the nominal ones; call cnet_aihw.restore(model) before training, or "
                "freeze_analog(model) to train only digital parts."
            )

    def _scaled(self, weight: Tensor) -> Tensor:
        if self.mapping_scales is not None:
            weight = weight * self.mapping_scales.view(-1, 1)
        if self.out_scaling_alpha is not None:
            weight = weight * self.out_scaling_alpha.view(-1, 1)
        return weight

    def set_scales(self, scales: Tensor | float) -> None:
        """Set the mapping scales; the gradient's scaling follows them at every forward."""
        # The parent would register a hook on the weight that copies lose and that loading leaves
        # stale.
        InferenceTileWithPeriphery.set_scales(self, scales)

    # -- programming

    @property
    def is_programmed(self) -> bool:
        """Whether the tile holds a chip's weights instead of the nominal ones."""
        return self.reference_combined_weights is not None

    @no_grad()
    def program_weights(
        self, from_reference: bool = True, noise_model: BaseNoiseModel | None = None
    ) -> None:
        """Program the nominal weights once; see aihwkit's ``program_weights``.

        Raises:
            CnetError: if the weights were changed since the last programming, which aihwkit would
            undo.
        """
        weight = self.tile.weight
        if from_reference and self.is_programmed and weight._version != self._chip_version:
            raise CnetError(
                "the weights were changed after programming, and programming again would "
                "silently undo that; call cnet_aihw.restore(model) before the weights are "
                "changed."
            )
        self.tile.read_noise = None  # the read-out for drift compensation is exact
        super().program_weights(from_reference, noise_model)
        self.tile.programmed = True
        self._chip_version = weight._version
        self._read_anew()

    @no_grad()
    def drift_weights(self, t_inference: float = 0.0) -> None:
        """Let the programmed weights drift; see aihwkit's ``drift_weights``."""
        seed = None if self.read_noise is None else self.read_noise.seed
        self.tile.read_noise = None
        super().drift_weights(t_inference)
        self._read_anew()
        if seed is not None:
            self.seed_reads(seed)

    def seed_reads(self, seed: int) -> None:
        """Let the read noise of the programmed chip belong to a seed, from the first reading on."""
        if self.read_noise is not None:
            self.read_noise.seed, self.read_noise.reads = seed, 0

    def _read_anew(self) -> None:
        parameters: Any = self.drift_noise_parameters  # set by programming
        read_noise = ReadNoise.of(self.rpu_config.noise_model, parameters)
        self.read_noise = None if read_noise is None else read_noise.to(self.tile.weight.device)

    @no_grad()
    def restore_weights(self) -> None:
        """Put the nominal weights back, bit for bit, and forget the chip."""
        if self.is_programmed:
            self.tile.set_weights(self.reference_combined_weights)
        self._forget_chip()

    def _forget_chip(self) -> None:
        self.reference_combined_weights = None
        self.programmed_weights = None
        self.drift_noise_parameters = None
        self.drift_baseline = None
        self.alpha = torch.ones_like(self.alpha)
        self.tile.programmed = False
        self.read_noise = self.tile.read_noise = None
        self._chip_version = None

    # -- number types

    def get_dtype(self) -> torch.dtype:
        """Return the type of the weights, also after the tile was cast."""
        tile = self._modules.get("tile")  # none yet while the tile is made
        return super().get_dtype() if tile is None else tile.weight.dtype

    def double(self) -> Self:
        """Cast to float64; the parent's own way would call itself for ever."""
        return self.to(torch.float64)

    def float(self) -> Self:
        """Cast to float32."""
        return self.to(torch.float32)

    def half(self) -> Self:
        """Cast to float16."""
        return self.to(torch.float16)

    def bfloat16(self) -> Self:
        """Cast to bfloat16."""
        return self.to(torch.bfloat16)

    # -- saving, loading, copying

    def state_dict(
        self, destination: dict[str, Any], prefix: str = "", keep_vars: bool = False
    ) -> None:
        """Add the tile to a state; a chip's weights are saved with a warning."""
        if self.is_programmed:
            warnings.warn(
                "the model is programmed: its state_dict holds the weights of one chip, not the "
                "nominal ones; call cnet_aihw.restore(model) before saving to keep those.",
                stacklevel=2,
            )
        super().state_dict(destination, prefix, keep_vars)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        config = self.rpu_config
        super()._load_from_state_dict(*args, **kwargs)
        if not isinstance(self.rpu_config, type(config)):
            self.rpu_config = config
            raise CnetError(
                "the saved state's configuration is no RRAMRPUConfig and would switch the "
                "variation off; load it with load_rpu_config=False."
            )
        self._forget_chip()

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for copying and saving, such that stock aihwkit can load it."""
        state = super().__getstate__()
        state[AnalogTileStateNames.CLASS] = TorchInferenceTile.__name__
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Rebuild after copying, unpickling or loading; a frozen tile stays frozen."""
        super().__setstate__(state)
        self.analog_ctx.use_torch_update = True
        self.analog_ctx.requires_grad = self.tile.weight.requires_grad
