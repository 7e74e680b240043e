"""Correctors fitted to one chip, in closed form, from what the chip's owner can measure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from cnet_aihw.compensation.affine import AffineModule
from cnet_aihw.compensation.closed_form import LinearFit, Moments, fit_linear
from cnet_aihw.compensation.low_rank import LowRankModule, rows_of
from cnet_aihw.compensation.wrapping import (
    CompensatedLayer,
    compensated_layers,
    compensation_disabled,
    compensation_parameters,
)
from cnet_aihw.evaluation.metrics import evaluation_mode
from cnet_aihw.rram import nominal_inside
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.fingerprint import tensors_fingerprint
from cnet_aihw.runtime.inputs import Inputs, call, inputs_on, named_tensors, samples_in, select
from cnet_aihw.runtime.random_state import derive_seed
from cnet_aihw.runtime.torch_device import device_of
from cnet_aihw.tasks import Classification, Task, describe_task


class _Enough(Exception):
    """A pass has gone as far as it is needed."""


class PerChipFit:
    """Fit a model's correctors to the chip that is programmed: a calibration, without labels.

    From the first layer to the last, each corrector is fitted to give the layer's wanted output,
    the clean network's on the same inputs, from the input that arrives on this chip, all earlier
    layers corrected already. Only inputs and outputs of layers are read, never a chip's weights.
    A layer that is called several times is fitted at its first call and corrected at all.

    Where the inputs fit into one batch, all layers are fitted in one pass of the clean network and
    one of the chip; otherwise a layer takes a pass of both as far as that layer, and memory does
    not depend on the number of inputs.

    Then the correctors can be refined on the chip, by steps of Adam towards the clean network's
    outputs on the same inputs; without labels too. A corrector without a closed form is refined
    alone.

    Args:
        x: unlabelled inputs, at least two: a tensor [N, ...], or a tuple or mapping of them.
        ridge: ridge / mean variance of the features.
        batch_size: inputs that a forward pass takes at once.
        refine_steps: steps of Adam after the closed form; 0: none.
        refine_lr: largest learning rate of these, which falls to 0 along half a cosine.
        refine_batch: inputs of a step.
        task: says what is far from the clean outputs; None: classification.
        seed: seed of the order of inputs in refinement.

    Raises:
        CnetError: for fewer than two inputs, or a value that cannot be.
    """

    def __init__(
        self,
        x: Inputs,
        ridge: float = 1e-3,
        batch_size: int = 1000,
        refine_steps: int = 0,
        refine_lr: float = 1e-3,
        refine_batch: int = 64,
        task: Task | None = None,
        seed: int = 0,
    ) -> None:
        if samples_in(x) < 2:
            raise bad_value("x", samples_in(x), "at least two inputs")
        if not ridge >= 0.0:
            raise bad_value("ridge", ridge, "a number of at least 0")
        if batch_size < 2:
            raise bad_value("batch_size", batch_size, "a whole number of at least 2")
        if refine_steps < 0:
            raise bad_value("refine_steps", refine_steps, "a whole number of at least 0")
        if not refine_lr > 0.0:
            raise bad_value("refine_lr", refine_lr, "a number above 0")
        if refine_batch < 1:
            raise bad_value("refine_batch", refine_batch, "a whole number of at least 1")
        self.x, self.ridge, self.batch_size = x, ridge, batch_size
        self.refine_steps, self.refine_lr, self.refine_batch = refine_steps, refine_lr, refine_batch
        self.task: Task = task or Classification()
        self.seed = seed
        self.fits: dict[str, LinearFit] = {}
        """Layer -> the fit of the chip that was calibrated last."""

    def __call__(self, model: nn.Module) -> AbstractContextManager[None]:
        """Fit inside a block; afterwards the correctors are as before."""
        return self._fitted(model)

    def label(self) -> str:
        """Return a short name for tables and records."""
        steps = f", {self.refine_steps} steps" if self.refine_steps else ""
        return f"fitted per chip ({samples_in(self.x)} inputs{steps})"

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of the inputs and the settings."""
        settings = f"{type(self).__name__} {self.ridge} {self.batch_size}"
        if self.refine_steps:
            refine = (self.refine_steps, self.refine_lr, self.refine_batch, self.seed)
            settings += f" {refine} {describe_task(self.task)}"
        return tensors_fingerprint(
            {f"{settings} {name}": tensor for name, tensor in named_tensors(self.x).items()}
        )

    def cost(self, model: nn.Module) -> int:
        """Return 0: the correctors count by themselves."""
        return 0

    @contextmanager
    def _fitted(self, model: nn.Module) -> Iterator[None]:
        parameters = compensation_parameters(model)
        before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        try:
            self.fit(model)
            yield
        finally:
            with torch.no_grad():
                for name, parameter in parameters.items():
                    parameter.copy_(before[name])

    @torch.no_grad()
    def fit(self, model: nn.Module) -> None:
        """Fit the correctors of a model to the chip that is programmed, and leave them so.

        Raises:
            CnetError: if the model has no corrector that can be fitted in closed form.
        """
        layers = {
            name: layer
            for name, layer in compensated_layers(model).items()
            if isinstance(layer.corrector_module, LowRankModule | AffineModule)
        }
        if not layers and not (self.refine_steps and compensation_parameters(model)):
            raise CnetError(
                "the model has no corrector that a chip can be fitted with; call "
                "compensate(model, placement, LowRank()) first.",
                key="model",
                expected="correctors LowRank or Affine",
                fix="call compensate(model, placement, LowRank()) first",
            )
        x = inputs_on(device_of(model), self.x)
        count = samples_in(x)
        batches = [
            select(x, slice(start, start + self.batch_size))
            for start in range(0, count, self.batch_size)
        ]
        if len(batches) > 1 and samples_in(batches[-1]) < 2:
            batches = batches[:-1]
        with evaluation_mode(model):
            if len(batches) == 1:
                self.fits = self._fit_in_one_pass(model, layers, batches[0])
            else:
                self.fits = self._fit_layer_by_layer(model, layers, batches)
            if self.refine_steps:
                self._refine(model, batches)

    def _fit_in_one_pass(
        self, model: nn.Module, layers: dict[str, CompensatedLayer], x: Inputs
    ) -> dict[str, LinearFit]:
        wanted = _clean_outputs(model, layers, x)
        fits: dict[str, LinearFit] = {}

        def fit(name: str, layer: CompensatedLayer, x_in: Tensor, y: Tensor) -> None:
            if name not in fits:
                moments = Moments()
                _add(moments, layer, x_in, y, wanted.pop(name))
                fits[name] = self._put(layer, moments)

        with _seen(layers, fit):
            call(model, x)
        return fits

    def _fit_layer_by_layer(
        self, model: nn.Module, layers: dict[str, CompensatedLayer], batches: list[Inputs]
    ) -> dict[str, LinearFit]:
        order = list(_clean_outputs(model, layers, select(batches[0], slice(2))))
        fits = {}
        for name in order:
            layer, moments = layers[name], Moments()
            for x in batches:
                wanted = _clean_outputs(model, {name: layer}, x, stop=True)[name]

                def see(
                    _: str, layer: CompensatedLayer, x_in: Tensor, y: Tensor,
                    moments: Moments = moments, wanted: Tensor = wanted,
                ) -> None:  # fmt: skip
                    _add(moments, layer, x_in, y, wanted)
                    raise _Enough

                with _seen({name: layer}, see):
                    _as_far_as_needed(model, x)
            fits[name] = self._put(layer, moments)
        return fits

    def _refine(self, model: nn.Module, batches: list[Inputs]) -> None:
        """Move all correctors towards the clean network's outputs, by steps of Adam."""
        with nominal_inside(model), compensation_disabled(model):
            wanted = torch.cat([call(model, x) for x in batches])  # [N, ...]
        x = inputs_on(wanted.device, self.x)
        parameters = list(compensation_parameters(model).values())
        required = [parameter.requires_grad for parameter in parameters]
        distance = getattr(self.task, "divergence", None) or _square_distance
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "refine"))
        optimizer = torch.optim.Adam(parameters, lr=self.refine_lr)
        order = torch.empty(0, dtype=torch.long)
        try:
            for parameter in parameters:
                parameter.requires_grad_(True)
            for step in range(self.refine_steps):
                if len(order) < self.refine_batch:
                    order = torch.cat([order, torch.randperm(len(wanted), generator=generator)])
                chosen, order = order[: self.refine_batch], order[self.refine_batch :]
                lr = self.refine_lr * (1 + math.cos(math.pi * step / self.refine_steps)) / 2
                optimizer.param_groups[0]["lr"] = lr
                with torch.enable_grad():
                    outputs = call(model, select(x, chosen.to(wanted.device)))
                    loss = distance(outputs, wanted[chosen.to(wanted.device)], 1.0)
                gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter.grad = gradient
                optimizer.step()
        finally:
            for parameter, before in zip(parameters, required, strict=True):
                parameter.grad = None
                parameter.requires_grad_(before)

    def _put(self, layer: CompensatedLayer, moments: Moments) -> LinearFit:
        module: Any = layer.corrector_module
        channels = len(module.scale)
        size = module.generator.weight.shape[0] if isinstance(module, LowRankModule) else 0
        fit = fit_linear(moments, channels, size, self.ridge)
        module.scale.copy_(fit.scale)
        module.offset.copy_(fit.offset)
        if size:
            found = min(size, channels)
            module.generator.weight.zero_()
            module.compensator.weight.zero_()
            generator = fit.generator.view(found, *module.generator.weight.shape[1:])
            module.generator.weight[:found].copy_(generator)
            weight = module.compensator.weight
            weight[:, :found].copy_(fit.compensator.view(-1, found, *weight.shape[2:]))
        return fit


def _square_distance(outputs: Tensor, wanted: Tensor, temperature: float) -> Tensor:
    """Return the mean squared difference; there is a temperature for classes alone."""
    return (outputs - wanted).square().mean()


def _add(moments: Moments, layer: CompensatedLayer, x: Tensor, y: Tensor, wanted: Tensor) -> None:
    module: Any = layer.corrector_module
    rows, dims = rows_of(y, module.dims), module.dims
    features = module.feature_rows(x, y) if isinstance(module, LowRankModule) else rows[:, :0]
    moments.add(features, rows, rows_of(wanted, dims).to(rows.dtype))


def _clean_outputs(
    model: nn.Module, layers: dict[str, CompensatedLayer], x: Inputs, stop: bool = False
) -> dict[str, Tensor]:
    """Return the first output of each layer in the clean network, in the order of execution."""
    outputs: dict[str, Tensor] = {}
    with ExitStack() as stack:
        for name, layer in layers.items():

            def keep(_: nn.Module, __: Any, y: Tensor, name: str = name) -> None:
                outputs.setdefault(name, y.clone())  # networks change outputs in place
                if stop:
                    raise _Enough

            stack.callback(layer.register_forward_hook(keep).remove)
        stack.enter_context(nominal_inside(model))
        stack.enter_context(compensation_disabled(model))
        _as_far_as_needed(model, x)
    return outputs


@contextmanager
def _seen(
    layers: dict[str, CompensatedLayer],
    see: Callable[[str, CompensatedLayer, Tensor, Tensor], None],
) -> Iterator[None]:
    """Show input and output of each base layer, before its corrector acts."""
    with ExitStack() as stack:
        for name, layer in layers.items():

            def hook(
                _: nn.Module, inputs: Any, y: Tensor,
                name: str = name, layer: CompensatedLayer = layer,
            ) -> None:  # fmt: skip
                see(name, layer, inputs[0], y)

            base: Any = layer.base_layer
            stack.callback(base.register_forward_hook(hook).remove)
        yield


def _as_far_as_needed(model: nn.Module, x: Inputs) -> None:
    try:
        call(model, x)
    except _Enough:
        return
