"""Correctors fitted to one chip, in closed form, from what the chip's owner can measure."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cnet_aihw.compensation.closed_form import LinearFit, fit_linear
from cnet_aihw.compensation.corrector import layer_shape
from cnet_aihw.compensation.layer_passes import (
    add_rows,
    calls_seen,
    closed_form_layers,
    layers_seen,
    run,
)
from cnet_aihw.compensation.moments import Moments
from cnet_aihw.compensation.refinement import refine
from cnet_aihw.compensation.settings import AUTO, PerChipSettings, validate_per_chip_settings
from cnet_aihw.compensation.targets import Targets
from cnet_aihw.compensation.wrapping import CompensatedLayer, compensation_parameters
from cnet_aihw.evaluation import BatchNormReestimation
from cnet_aihw.evaluation.calibration import running_batchnorms
from cnet_aihw.evaluation.metrics import evaluation_mode
from cnet_aihw.rram import at_time
from cnet_aihw.rram.tile_chips import is_read_with_noise
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.fingerprint import tensors_fingerprint
from cnet_aihw.runtime.inputs import Inputs, call, inputs_on, named_tensors, samples_in, select
from cnet_aihw.runtime.random_state import forked_random_state
from cnet_aihw.runtime.torch_device import device_of
from cnet_aihw.runtime.typed import checked
from cnet_aihw.tasks import Classification, Task, describe_task


@dataclass(frozen=True)
class FitCost:
    """Cost of fitting one chip."""

    images: int
    """Unlabelled inputs."""

    passes: float
    """Forward passes of the chip over all of them; one that stops at a layer counts as a whole."""

    clean_passes: float
    """Forward passes of the clean network (or of simulated chips) for the wanted outputs; 0 where
    they were known from another chip."""

    seconds: float
    """Time that it took."""


class PerChipFit:
    """Fit a model's correctors to the chip that is programmed: a calibration, without labels.

    From the first layer to the last, each corrector is fitted to give the layer's wanted output
    from the input that arrives on this chip, all earlier layers corrected already. Only inputs and
    outputs of layers are read, never a chip's weights. A layer that is called several times in a
    forward, such as a recurrent one, is fitted to all of its calls at once: each gets the inputs
    that it has once the calls before it are right.

    What follows has a fixed order: after all correctors (which aim at outputs of the network as
    it is, with its own BatchNorm), BatchNorm's statistics are re-estimated on the corrected chip
    (``batchnorm``), and then the correctors are refined (``refine_steps``) by steps of Adam towards
    the network's wanted outputs on the same inputs. A corrector without a closed form is refined
    alone. Afterwards all is as before, bit for bit.

    Wanted outputs do not depend on the chip; they are computed once and kept for the next chips
    where memory allows. Where the inputs fit into one batch and no layer is called several times,
    all layers are fitted in one pass of the chip; otherwise a layer takes a pass as far as that
    layer, and memory does not depend on the number of inputs. A chip that is read with noise is
    read many times (``readings``).

    Args:
        x: unlabelled inputs, at least two: a tensor [N, ...], or a tuple or mapping of them.
        ridge: as all that follow, in :class:`~cnet_aihw.compensation.PerChipSettings`.
        batch_size: inputs that a forward pass takes at once.
        readings: least number of passes on chips that are read with noise.
        refine_steps: steps of Adam after the closed form; 0: none.
        refine_lr: largest learning rate of these.
        refine_batch: inputs of a step.
        target: "clean" or "mean_over_chips".
        target_chips: chips of that mean.
        weighting: "none" or "loss".
        batchnorm: whether BatchNorm is re-estimated.
        at: seconds after programming at which chips are fitted; None: when they are measured.
        seed: seed of all draws.
        task: says what is far from the wanted outputs; None: classification.

    Raises:
        CnetError: for fewer than two inputs, those that are not finite, or a value that cannot be;
            in a fit, for outputs that are not a tensor where they count.
    """

    @checked
    def __init__(
        self,
        x: Inputs,
        ridge: float | None = None,
        *,
        batch_size: int = 1000,
        readings: int = 64,
        refine_steps: int = 0,
        refine_lr: float = 1e-3,
        refine_batch: int = 64,
        target: str = "clean",
        target_chips: int = 8,
        weighting: str = "none",
        batchnorm: bool = False,
        at: float | None = None,
        seed: int = 0,
        task: Task | None = None,
    ) -> None:
        if samples_in(x) < 2:
            raise bad_value("x", samples_in(x), "at least two inputs")
        for name, tensor in named_tensors(x).items():
            if not tensor.isfinite().all():
                raise bad_value(name, "inputs with NaN or infinity", "finite inputs")
        self.x = x
        self.settings = PerChipSettings(
            samples=samples_in(x), ridge=ridge, batch_size=batch_size, readings=readings,
            refine_steps=refine_steps, refine_lr=refine_lr, refine_batch=refine_batch,
            target=target, target_chips=target_chips, weighting=weighting, batchnorm=batchnorm,
            at=at, seed=seed,
        )  # fmt: skip
        validate_per_chip_settings(self.settings, prefix="")
        if target == AUTO:
            expected = "clean or mean_over_chips"
            raise bad_value("target", target, expected, "choose_target tells which is better")
        self.task: Task = task or Classification()
        self.fits: dict[str, LinearFit] = {}
        """Layer -> the fit of the chip that was calibrated last."""
        self.spent: FitCost | None = None
        """Cost of that chip."""
        self._targets = Targets(self.settings, self.task)

    @classmethod
    def of(cls, settings: PerChipSettings, x: Inputs, task: Task | None = None) -> PerChipFit:
        """Return the fit that settings describe, on inputs of which the first ones are taken."""
        named = {f.name: getattr(settings, f.name) for f in fields(PerChipSettings)}
        return cls(select(x, slice(named.pop("samples"))), task=task, **named)

    def __call__(self, model: nn.Module) -> AbstractContextManager[None]:
        """Fit inside a block; afterwards the model is as before."""
        return self._fitted(model)

    def label(self) -> str:
        """Return a short name for tables and records."""
        s = self.settings
        parts = [f"{s.samples} inputs"]
        parts += [f"mean over {s.target_chips} chips"] if s.target == "mean_over_chips" else []
        parts += ["weighted by the loss"] if s.weighting == "loss" else []
        parts += ["BatchNorm re-estimated"] if s.batchnorm else []
        parts += [f"{s.refine_steps} steps"] if s.refine_steps else []
        parts += [f"at {s.at:g} s"] if s.at is not None else []
        return f"fitted per chip ({', '.join(parts)})"

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of the inputs and of the settings that count."""
        s = asdict(self.settings)
        if not s["refine_steps"]:
            s = {n: value for n, value in s.items() if not n.startswith("refine_")}
        if s["target"] == "clean":
            del s["target_chips"]
        if s["at"] is None:
            del s["at"]
        if s["readings"] == PerChipSettings.readings:
            del s["readings"]
        task = describe_task(self.task) if "refine_lr" in s or s["weighting"] == "loss" else ""
        settings = f"{type(self).__name__} {sorted(s.items())} {task}"
        return tensors_fingerprint(
            {f"{settings} {name}": tensor for name, tensor in named_tensors(self.x).items()}
        )

    def cost(self, model: nn.Module) -> int:
        """Return 0: the correctors count by themselves."""
        return 0

    @contextmanager
    def _fitted(self, model: nn.Module) -> Iterator[None]:
        start = time.perf_counter()
        layers = self._checked_layers(model)
        x = inputs_on(device_of(model), self.x)
        batches = self._batches(model, x)
        parameters = compensation_parameters(model)
        before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        known = self._targets.passes

        def restore() -> None:
            with torch.no_grad():
                for name, parameter in parameters.items():
                    parameter.copy_(before[name])

        with ExitStack() as undo:
            undo.callback(restore)
            with forked_random_state(device_of(model)), self._in_time(model):
                with evaluation_mode(model), torch.no_grad():
                    passes = self._fit_closed_form(model, layers, batches)
                if self.settings.batchnorm:  # it puts back the modes that it finds
                    again = BatchNormReestimation(self.x, self.settings.batch_size)
                    undo.enter_context(again(model))
                    passes += 1
                if self.settings.refine_steps:
                    wanted = self._targets.all_outputs()
                    with evaluation_mode(model):
                        passes += refine(
                            model, x, wanted, self.settings, self.task, self._refined(model)
                        )
            clean = self._targets.passes - known
            seconds = time.perf_counter() - start
            self.spent = FitCost(samples_in(self.x), passes, clean, seconds)
            yield

    def _in_time(self, model: nn.Module) -> AbstractContextManager[nn.Module]:
        return nullcontext(model) if self.settings.at is None else at_time(model, self.settings.at)

    def _checked_layers(self, model: nn.Module) -> dict[str, CompensatedLayer]:
        layers = self._layers(model)
        if not layers and not (self.settings.refine_steps and compensation_parameters(model)):
            raise CnetError(
                "the model has no corrector that can be fitted to a chip in closed form; call "
                "compensate(model, placement, LowRank()) first, with a placement that is not "
                "empty, or set refine_steps.",
                key="model",
                expected="correctors with a closed form",
                fix="call compensate(model, placement, LowRank()) first, or set refine_steps",
            )
        if self.settings.batchnorm and not running_batchnorms(model):
            raise bad_value(
                "batchnorm", True, "False for a network without BatchNorm", "set it to False"
            )
        return layers

    def _refined(self, model: nn.Module) -> list[nn.Parameter]:
        return list(compensation_parameters(model).values())

    def _layers(self, model: nn.Module) -> dict[str, CompensatedLayer]:
        return closed_form_layers(model)

    def _batches(self, model: nn.Module, x: Inputs) -> list[Inputs]:
        size = self.settings.batch_size
        if is_read_with_noise(model):
            size = min(size, max(2, samples_in(x) // self.settings.readings))
        starts = range(0, samples_in(x), size)
        batches = [select(x, slice(start, start + size)) for start in starts]
        if len(batches) > 1 and samples_in(batches[-1]) < 2:  # a single one has no spread
            batches[-2:] = [select(x, slice(starts[-2], None))]
        return batches

    def _fit_closed_form(
        self, model: nn.Module, layers: dict[str, CompensatedLayer], batches: Sequence[Inputs]
    ) -> float:
        """Fit all layers; return the passes of the chip."""
        self._targets.begin(model, layers, batches)
        self.fits = {}
        if not layers:
            return 0.0
        if len(batches) == 1 and all(self._targets.calls(name) == 1 for name in layers):
            self._fit_in_one_pass(model, layers, batches[0])
            return 1.0
        return float(self._fit_layer_by_layer(model, layers, batches))

    def _fit_in_one_pass(
        self, model: nn.Module, layers: dict[str, CompensatedLayer], x: Inputs
    ) -> None:
        todo = dict(layers)

        def fit(name: str, layer: CompensatedLayer, x_in: Tensor, y: Tensor) -> None:
            if todo.pop(name, None) is not None:
                moments = self._moments(layer)
                self._add(moments, layer, x_in, y, self._targets.of(model, name, layer, y))
                self._fit_layer(name, layer, moments)

        with layers_seen(layers, fit):
            call(model, x)

    def _fit_layer_by_layer(
        self, model: nn.Module, layers: dict[str, CompensatedLayer], batches: Sequence[Inputs]
    ) -> int:
        order = self._targets.order(model, layers)
        for name in order:
            layer, moments = layers[name], self._moments(layers[name])
            for number, x in enumerate(batches):
                wanted = self._targets.of_calls(model, name, layer, number)
                with calls_seen(name, layer, wanted, partial(self._add, moments, layer)):
                    run(model, x)
            self._fit_layer(name, layer, moments)
        return len(order)

    def _moments(self, layer: CompensatedLayer) -> Moments:
        module: Any = layer.corrector_module
        return module.moments()

    def _add(
        self, moments: Moments, layer: CompensatedLayer, x: Tensor, y: Tensor, wanted: Tensor
    ) -> None:
        add_rows(moments, layer, x, y, wanted)

    def _fit_layer(self, name: str, layer: CompensatedLayer, moments: Moments) -> None:
        """Fit a layer; one whose outputs are not finite on this chip stays as it is."""
        if moments.finite:
            self._put(name, layer, moments)

    def _put(self, name: str, layer: CompensatedLayer, moments: Moments) -> None:
        module: Any = layer.corrector_module
        channels = layer_shape(layer.base_layer).out_channels
        fit = fit_linear(
            moments, channels, module.filters, self.settings.ridge,
            self._targets.weights(name), module.on_output,
        )  # fmt: skip
        module.put(fit)
        self.fits[name] = fit
