"""aihwkit's torch inference tile with chips beside the weights, without its silent traps."""

from __future__ import annotations

from functools import partialmethod
from typing import Any

import torch
from aihwkit.exceptions import ConfigError
from aihwkit.inference.noise.base import BaseNoiseModel
from aihwkit.simulator.parameters.enums import (
    AnalogMVType,
    WeightClipType,
    WeightModifierType,
    WeightRemapType,
)
from aihwkit.simulator.tiles.base import AnalogTileStateNames
from aihwkit.simulator.tiles.inference import InferenceTileWithPeriphery
from aihwkit.simulator.tiles.inference_torch import TorchInferenceTile
from torch import Tensor
from torch.autograd import no_grad

from cnet_aihw.rram.crossbar.chip_weights import ChipWeights
from cnet_aihw.rram.crossbar.mapping import mapping_scales
from cnet_aihw.rram.crossbar.refusals import not_ours, refusals, saved_configuration
from cnet_aihw.rram.crossbar.saved_state import readable_state
from cnet_aihw.rram.crossbar.simulator_tile import LogicalContext, RRAMSimulatorTile
from cnet_aihw.rram.devices.stochastic_cell import check_binary
from cnet_aihw.runtime.errors import CnetError

_LOGICAL = "nominal_logical_weight"  # in a saved state: the exact weights, where scales would round


class RRAMInferenceTile(TorchInferenceTile):
    """aihwkit's torch inference tile, whose nominal weights stay where they are.

    Programming puts a chip beside the nominal weights (``tile.chip``) instead of overwriting them:
    states, gradients and the next programming always see the nominal ones. A copy stays frozen
    where the original was. Loading keeps this tile's configuration unless ``load_rpu_config=True``
    is asked for. Checkpoints go both ways between this tile and aihwkit's own.
    """

    rpu_config: Any  # an RRAMRPUConfig
    tile: RRAMSimulatorTile
    mapping_scales: Tensor | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        with refusals():
            super().__init__(*args, **kwargs)
        self.load_rpu_config = False
        self.strict_rpu_config_check = False
        self._adopt()

    def _adopt(self) -> None:
        """Take over what aihwkit makes again in each copy."""
        self.analog_ctx.__class__ = LogicalContext
        self.sync_scales()

    # -- what forwards use

    @property
    def chip(self) -> ChipWeights | None:
        """The chip that is programmed, or None; to be set to any chip of this tile."""
        return self.tile.chip

    @chip.setter
    def chip(self, chip: ChipWeights | None) -> None:
        self.tile.chip = chip

    @property
    def is_programmed(self) -> bool:
        """Whether forwards use a chip."""
        return self.tile.chip is not None

    @property
    def has_perfect_periphery(self) -> bool:
        """Whether a forward is a plain matrix product with :meth:`mvm_logical_weight`."""
        config = self.rpu_config
        return (
            (config.forward.is_perfect or config.forward.mv_type == AnalogMVType.IDEAL)
            and self.input_range is None
            and config.modifier.type in (WeightModifierType.NONE, WeightModifierType.COPY)
            and (self.training or config.drift_compensation is None)
        )

    def mvm_logical_weight(self) -> Tensor:
        """Return the logical weights of this forward, variation included, [out, in]."""
        self._prepare_forward()
        tile = self.tile
        if tile.chip is None and not (self.training and self.rpu_config.variation.enabled):
            return self.nominal_weight()  # exact, where scales would round
        return self._with_learned_scale(tile.logical_weight(is_test=not self.training))

    def nominal_weight(self) -> Tensor:
        """Return the nominal logical weights, [out, in]; differentiable."""
        return self._with_learned_scale(self.tile.weight)

    def forward(self, x_input: Tensor, tensor_view: tuple[int, ...] | None = None) -> Tensor:
        """Forward through the periphery, [..., in] -> [..., out]."""
        self._prepare_forward()
        return super().forward(x_input, tensor_view)

    def apply_input_range(self, values: Tensor, update_from_data: bool = False) -> Tensor:
        """Clip inputs to the learned range, which data change only where the tile is trained."""
        trained = self.tile.weight.requires_grad
        return super().apply_input_range(values, update_from_data and trained)

    def post_forward(
        self, x_output: Tensor, dim: int, is_test: bool = False, ctx: Any = None
    ) -> Any:
        """Scale outputs digitally, and undo a chip's drift where that is compensated."""
        x_output, chip = super().post_forward(x_output, dim, is_test, ctx), self.tile.chip
        if is_test and chip is not None and chip.drift_factor is not None:
            x_output = x_output * chip.drift_factor
        return x_output

    def _prepare_forward(self) -> None:
        tile = self.tile
        tile.set_config(self.rpu_config)
        if (
            tile.chip is not None
            and self.training
            and tile.weight.requires_grad
            and torch.is_grad_enabled()
        ):
            raise CnetError(
                "this model is programmed: a training step on a chip would leave the nominal "
                "weights as they are; call cnet_aihw.clear_chip(model) before training, or "
                "freeze_analog(model) to train only digital parts.",
                key="model",
                value="programmed",
                expected="no chip",
                fix="call cnet_aihw.clear_chip(model), or freeze_analog(model)",
            )

    def _with_learned_scale(self, weight: Tensor) -> Tensor:
        alpha = self.out_scaling_alpha
        return weight if alpha is None else weight * alpha.view(-1, 1)

    # -- setting and reading weights

    @no_grad()
    def set_weights(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        apply_weight_scaling: bool = True,
        realistic: bool = False,
        weight_scaling_omega: float | None = None,
    ) -> None:
        """Set the nominal weights, exactly; see aihwkit's ``set_weights``. A chip is forgotten."""
        self.tile.chip = None
        target = self.tile.weight
        weight = torch.as_tensor(weight).detach().reshape(target.shape)
        if bias is not None and self.digital_bias:
            self.bias.data.copy_(torch.as_tensor(bias))
        if apply_weight_scaling:
            omega = weight_scaling_omega
            omega = self.rpu_config.mapping.weight_scaling_omega if omega is None else omega
            if omega is not None and omega > 0:
                columnwise = self.rpu_config.mapping.weight_scaling_columnwise
                scales = mapping_scales(weight, omega, columnwise).to(target.dtype)
                InferenceTileWithPeriphery.set_scales(self, scales)
            target.data.copy_(weight)
        else:
            self.tile.set_weights(weight.to(target.device))
        if realistic:
            self.program_weights()

    @no_grad()
    def get_weights(
        self, apply_weight_scaling: bool = True, realistic: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Return the present weights, a chip's where one is programmed, and the bias; CPU copies.

        Args:
            apply_weight_scaling: in the network's units; otherwise in the crossbar's.
            realistic: estimate them from forward passes, as aihwkit does.

        Returns:
            Weights [out, in], and bias [out] or None.
        """
        if realistic:
            return self.read_weights(apply_weight_scaling=apply_weight_scaling)
        tile = self.tile
        if not apply_weight_scaling:
            weight = tile.crossbar_weight() if tile.chip is None else tile.chip.weight
        elif tile.chip is None:
            weight = self.nominal_weight()
        else:
            weight = tile.chip.weight if tile.scales is None else tile.chip.weight * tile.scales
            weight = self._with_learned_scale(weight)
        bias = self.bias.detach().cpu().clone() if self.digital_bias else None
        return weight.detach().cpu().clone(), bias

    # -- scales: what lies on the crossbar stays, and the logical weights follow

    @no_grad()
    def set_scales(self, scales: Tensor | float) -> None:
        """Set all scales of the outputs; see aihwkit's ``set_scales``."""
        before = self.tile.scales
        before = None if before is None else before.clone()
        InferenceTileWithPeriphery.set_scales(self, scales)
        after = self.tile.scales
        if after is not None:
            ratio = after if before is None else after / before.to(after)
            if not bool((ratio == 1.0).all()):
                self.tile.weight.data *= ratio

    @no_grad()
    def set_mapping_scales(self, mapping_scales: Tensor | float | None) -> None:
        """Set the scales of the mapping; see aihwkit's ``set_mapping_scales``."""
        super().set_mapping_scales(mapping_scales)
        self.sync_scales()

    def sync_scales(self) -> None:
        """Let the simulator tile have the scales that the mapping has now."""
        tile, scales = self._modules.get("tile"), self.mapping_scales  # while it is made, no tile
        if tile is not None:
            tile.scales = None if scales is None else scales.to(tile.weight).view(-1, 1)

    @no_grad()
    def post_update_step(self) -> None:
        """Clip and remap after an optimizer's step, as aihwkit's optimizers ask for."""
        clip, remap = self.rpu_config.clip, self.rpu_config.remap
        if clip.type != WeightClipType.NONE:
            self.tile.clip_weights(clip)
        if remap.type != WeightRemapType.NONE:
            columnwise = remap.type == WeightRemapType.CHANNELWISE_SYMMETRIC
            self.set_mapping_scales(mapping_scales(self.tile.weight, 1.0, columnwise).view(-1))

    # -- programming

    @property
    def reference_combined_weights(self) -> Tensor | None:
        """Nominal weights in the crossbar's units, on a programmed chip (aihwkit's name)."""
        return self.tile.crossbar_weight().detach() if self.is_programmed else None

    @reference_combined_weights.setter
    def reference_combined_weights(self, _: object) -> None:
        """Ignore what aihwkit's constructor and ``set_weights`` reset."""

    @torch.inference_mode(False)  # gradients pass through a chip, wherever it was programmed
    @no_grad()
    def program_weights(
        self, from_reference: bool = True, noise_model: BaseNoiseModel | None = None
    ) -> None:
        """Program a chip beside the nominal weights; see aihwkit's ``program_weights``.

        Weights are drawn on the CPU, so that a seed gives the same chip for every device.

        Args:
            from_reference: start from the nominal weights; otherwise from the present chip's.
            noise_model: becomes the configuration's, as with aihwkit.

        Raises:
            ConfigError: if it is not a noise model.
        """
        if noise_model is not None:
            if not isinstance(noise_model, BaseNoiseModel):
                raise ConfigError("Given noise model has to be of type 'BaseNoiseModel'")
            self.rpu_config.noise_model = noise_model
        tile = self.tile
        check_binary(self.rpu_config.noise_model, tile.scales)
        present = tile.chip.weight if tile.chip is not None and not from_reference else None
        weight = tile.crossbar_weight() if present is None else present
        chip = ChipWeights.program(self.rpu_config.noise_model, weight.detach().cpu())
        tile.chip = chip.apply(lambda tensor: tensor.to(tile.weight.device))
        if self.rpu_config.drift_compensation is not None:
            chip, tile.chip = tile.chip, tile.chip.exact()  # its read-out is exact
            tile.set_config(self.rpu_config)
            chip.drift_baseline = self.rpu_config.drift_compensation.init_baseline(self)
            tile.chip = chip

    @torch.inference_mode(False)  # gradients pass through a chip, wherever it was programmed
    @no_grad()
    def drift_weights(self, t_inference: float = 0.0) -> None:
        """Let the chip drift to a time in seconds; programs one where there is none."""
        tile = self.tile
        if tile.chip is None:
            self.program_weights()
        assert tile.chip is not None
        on_cpu = tile.chip.apply(lambda tensor: tensor.cpu())
        tile.chip = chip = on_cpu.drifted(t_inference).apply(lambda t: t.to(tile.weight.device))
        if self.rpu_config.drift_compensation is not None:
            tile.chip = chip.exact()
            chip.drift_factor = self.rpu_config.drift_compensation.apply(
                self._forward_drift_readout_tensor(), chip.drift_baseline
            )
            tile.chip = chip

    def replace_with(self, rpu_config: Any) -> None:
        """Take another configuration; see aihwkit's ``replace_with``."""
        if not hasattr(rpu_config, "variation"):
            raise not_ours(rpu_config)
        super().replace_with(rpu_config)

    # -- number types

    def get_dtype(self) -> torch.dtype:
        """Return the type of the weights, also after the tile was cast."""
        tile = self._modules.get("tile")  # none yet while the tile is made
        return super().get_dtype() if tile is None else tile.weight.dtype

    # the parent's own casts would call themselves for ever
    double = partialmethod(TorchInferenceTile.to, torch.float64)
    float = partialmethod(TorchInferenceTile.to, torch.float32)
    half = partialmethod(TorchInferenceTile.to, torch.float16)
    bfloat16 = partialmethod(TorchInferenceTile.to, torch.bfloat16)

    # -- saving, loading, copying

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        config, state = self.rpu_config, readable_state(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        if not isinstance(self.rpu_config, type(config)):
            self.rpu_config = config
            raise saved_configuration()
        self.sync_scales()
        self.tile.chip = None
        self.tile.exact = state.get(_LOGICAL)

    def get_analog_state(self) -> dict[str, Any]:
        """Return the state for a ``state_dict``, which stock aihwkit can load: always nominal."""
        state: dict[str, Any] = super().get_analog_state()
        if self.tile.scales is not None:
            state[_LOGICAL] = self.tile.weight.detach().clone()  # loading writes into the weights
        return state

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for copying and saving, such that stock aihwkit can load it."""
        return {**super().__getstate__(), AnalogTileStateNames.CLASS: TorchInferenceTile.__name__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Rebuild after copying, unpickling or loading; a frozen tile stays frozen."""
        state = dict(state)
        logical = state.pop(_LOGICAL, None)
        modules = state.get("_modules")
        own = None if not modules else modules["tile"].weight.detach().clone()
        super().__setstate__(state)
        self.analog_ctx.use_torch_update = True
        self.analog_ctx.requires_grad = self.tile.weight.requires_grad
        self._adopt()
        logical = own if logical is None else logical
        if logical is not None:  # exact, where aihwkit's way over the crossbar's units would round
            self.tile.weight.data.copy_(logical)
