"""The simulator tile: nominal weights, a chip beside them, and what a forward uses of both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from aihwkit.inference.noise.base import BaseNoiseModel
from aihwkit.optim.context import AnalogContext
from aihwkit.simulator.parameters.inference import WeightClipParameter
from aihwkit.simulator.tiles.torch_tile import TorchSimulatorTile
from torch import Tensor
from torch.autograd import no_grad

from cnet_aihw.rram.crossbar.chip_weights import ChipWeights
from cnet_aihw.rram.crossbar.factor_table import read_factors
from cnet_aihw.rram.crossbar.mvm import RRAMAnalogMVM
from cnet_aihw.rram.crossbar.perturbation import Perturbation
from cnet_aihw.rram.crossbar.refusals import refusals
from cnet_aihw.rram.crossbar.variation import VariationParameter
from cnet_aihw.runtime.errors import CnetError


class LogicalContext(AnalogContext):
    """aihwkit's view on a tile's weights, where the tile holds them in the network's units."""

    def _logical_data(self) -> Tensor:
        tile = object.__getattribute__(self, "analog_tile")
        raw, alpha = self._raw_data(), tile.out_scaling_alpha
        return raw if alpha is None else raw * alpha.to(raw).view(-1, 1)


class RRAMSimulatorTile(TorchSimulatorTile):
    """Torch simulator tile whose parameter is the nominal weight in the network's own units.

    The crossbar's units (where the mapping scales weights) come up in the forward alone, so that an
    optimizer takes the same steps on any mapping. A chip lies beside the nominal weights.

    Attributes:
        weight: nominal weights, [out, in], before a learned scale of the outputs.
        scales: digital factor on the crossbar's weights, [out, 1] or [1, 1]; None: 1.
        chip: the chip that is programmed, or None.
        groups: convolution groups whose weights lie on this tile; inputs then are [..., groups *
            x_size].
        held: the chip that training holds, or None.
        observer: while set, it is given all outputs before the ADC, [..., out], which then is not
            there.
    """

    def __init__(self, x_size: int, d_size: int, rpu_config: Any, **kwargs: Any) -> None:
        with refusals():
            super().__init__(x_size, d_size, rpu_config, analog_mvm=RRAMAnalogMVM, **kwargs)
        self._variation: VariationParameter = rpu_config.variation
        self._noise_model: BaseNoiseModel = rpu_config.noise_model
        self.scales: Tensor | None = None
        self.chip: ChipWeights | None = None
        self.groups = 1
        self.held: Perturbation | None = None
        self._sharing = False
        self._shared: Perturbation | None = None
        self._varied: Tensor | None = None  # weights with it, where reading them adds nothing
        self.observer: Callable[[Tensor], None] | None = None
        self.exact: Tensor | None = None  # while a state is loaded: its weights, before rounding

    def set_config(self, rpu_config: Any) -> None:
        """Take over changes of the configuration; called at every forward."""
        super().set_config(rpu_config)
        self._variation = rpu_config.variation
        self._noise_model = rpu_config.noise_model

    # -- weights, in the crossbar's units

    def crossbar_weight(self) -> Tensor:
        """Return the nominal weights in the crossbar's units, [out, in]; differentiable."""
        return self.weight if self.scales is None else self.weight / self.scales

    def mvm_weight(self, is_test: bool) -> Tensor:
        """Return the weights that a forward uses, [out, in], in the crossbar's units.

        Args:
            is_test: whether it is an evaluation forward, which sees no variation but a chip's.
        """
        if self.chip is not None:
            return self.chip.read()
        if self._varied is not None:
            return self._varied
        weight = self.crossbar_weight()
        if is_test or not self._variation.enabled:
            return weight
        return self._vary(weight, self._perturbation(weight))

    def logical_weight(self, is_test: bool) -> Tensor:
        """Return the weights that a forward uses, [out, in], in the network's units.

        A factor on each weight is the same in both units: then the scales are left out.

        Args:
            is_test: as for :meth:`mvm_weight`.
        """
        varies = self.chip is None and self._variation.enabled and not is_test
        if varies and self.scales is not None and not self._sharing:
            drawn = self._variation.table or self._variation.hold  # whatever the weights are
            weight = self.weight if drawn else self.crossbar_weight()
            perturbation = self._perturbation(weight.detach())
            if perturbation.factor is not None:
                return self._vary(self.weight, perturbation)
            return self._vary(self.crossbar_weight(), perturbation) * self.scales
        weight = self.mvm_weight(is_test)
        return weight if self.scales is None else weight * self.scales

    def _perturbation(self, weight: Tensor) -> Perturbation:
        """Return the variation of a training forward; weights [out, in] in the crossbar's units."""
        variation = self._variation
        if not variation.hold:
            perturbation = self._shared or self._draw(weight)
            if self._sharing:
                self._shared = perturbation
            return perturbation
        if self.held is None:
            raise CnetError(
                "variation.hold is on but no chip was drawn; call "
                "cnet_aihw.resample_variation(model, seed) first.",
                key="variation.hold",
                value=True,
                fix="call cnet_aihw.resample_variation(model, seed)",
            )
        return self.held.to(weight.device, weight.dtype)

    def _vary(self, weight: Tensor, perturbation: Perturbation) -> Tensor:
        """Return weights, [out, in], with a variation."""
        variation = self._variation
        varied = perturbation.apply(weight, variation.gradient)
        if variation.strength != 1.0:
            varied = weight.lerp(varied, variation.strength)
        if self._sharing and perturbation.read_noise is None:
            self._varied = varied
        return varied

    def _draw(self, weight: Tensor) -> Perturbation:
        """Draw a sample of the variation for weights in the crossbar's units, [out, in]."""
        variation = self._variation
        if variation.table:
            return Perturbation(read_factors(self._noise_model, weight, variation.table), None)
        return Perturbation.draw(self._noise_model, weight.detach(), variation.t_inference)

    def share_draws(self, sharing: bool) -> None:
        """Let the forwards that follow see one sample of the variation of training, or not."""
        self._sharing, self._shared, self._varied = sharing, None, None

    def get_weights(self, as_ref: bool = False) -> Tensor:
        """Return the nominal weights: a detached CPU copy in the crossbar's units.

        Args:
            as_ref: return the parameter's own storage instead, in the network's units.
        """
        if as_ref:
            return self.weight.data
        # a quotient is a copy already
        weight = self.crossbar_weight().detach()
        return weight.cpu().clone() if self.scales is None else weight.cpu()

    def set_weights(self, weight: Tensor) -> None:
        """Set the nominal weights, [out, in], given in the crossbar's units."""
        if self.scales is not None:
            weight = weight.to(self.scales.device) * self.scales
        self.weight.data.copy_(weight)

    @no_grad()
    def clip_weights(self, clip: WeightClipParameter) -> None:
        """Clip the nominal weights in the crossbar's units; see aihwkit's ``clip_weights``."""
        if self.scales is None:
            super().clip_weights(clip)
            return
        self.weight.data /= self.scales
        super().clip_weights(clip)
        self.weight.data *= self.scales

    # -- forward

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

    # -- moving, saving, loading

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Move or cast the chip with the nominal weights."""
        if self.scales is not None:
            self.scales = fn(self.scales)
        if self.chip is not None:
            self.chip = self.chip.apply(fn)
        return super()._apply(fn, recurse)

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        """Save the weights in the crossbar's units, as aihwkit's tiles have them."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.scales is not None:
            weight = self.crossbar_weight()
            destination[prefix + "weight"] = weight if keep_vars else weight.detach()

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        """Load weights in the crossbar's units; the tile above has loaded the scales before."""
        super()._load_from_state_dict(state_dict, prefix, *args)
        exact, self.exact = self.exact, None
        if exact is not None:
            self.weight.data.copy_(exact)
        elif self.scales is not None and prefix + "weight" in state_dict:
            self.weight.data *= self.scales
