"""Correction of a chip's logits on labelled validation data: a temperature, or affine by class."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cnet_aihw.bayes.sampling import chip_logits, periphery_is_noisy
from cnet_aihw.bayes.settings import CORRECTIONS
from cnet_aihw.evaluation.metrics import evaluation_mode
from cnet_aihw.rram import has_cells
from cnet_aihw.rram.training_variation import rram_tiles
from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.runtime.fingerprint import tensors_fingerprint
from cnet_aihw.runtime.inputs import (
    Inputs,
    inputs_on,
    main_output,
    named_tensors,
    samples_in,
)
from cnet_aihw.runtime.random_state import forked_random_state
from cnet_aihw.runtime.torch_device import device_of
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import bad_choice, check_count

_KINDS = CORRECTIONS[1:]


@dataclass(frozen=True)
class LogitScales:
    """Scale and offset of logits."""

    scale: Tensor
    """Factor of all logits, [1], or of each class's, [C]."""

    offset: Tensor
    """Added to them, [1] or [C]."""

    @property
    def temperature(self) -> float:
        """The temperature that logits are divided by; for classes the mean scale's."""
        return 1.0 / float(self.scale.mean())

    def __call__(self, logits: Tensor) -> Tensor:
        """Correct logits, [..., C]."""
        return logits * self.scale.to(logits) + self.offset.to(logits)


@checked
def fit_logits(logits: Tensor, targets: Tensor, kind: str = "temperature") -> LogitScales:
    """Return the correction with the best likelihood of the mean prediction.

    Source: temperature and vector scaling of Guo et al., *On calibration of modern neural
    networks* (ICML 2017); here the likelihood is that of the mean over samples.

    Args:
        logits: [T, N, C], or [N, C].
        targets: classes, [N].
        kind: "temperature", or "logit_affine": a scale and an offset for each class.

    Raises:
        CnetError: for another kind, shapes that do not fit, logits that are not finite, and targets
            that are not among the classes.
    """
    if kind not in _KINDS:
        raise bad_choice("kind", kind, _KINDS)
    fixed = logits.detach().double()
    fixed = fixed[None] if fixed.dim() == 2 else fixed
    if fixed.dim() != 3 or targets.shape != fixed.shape[1:2] or 0 in fixed.shape:
        raise bad_value("logits", tuple(logits.shape), "[T, N, C], with targets [N]")
    if not bool(torch.isfinite(fixed).all()):
        raise bad_value("logits", "not finite", "finite numbers")
    _check_classes("targets", targets, fixed.shape[2])
    classes = fixed.shape[2] if kind == "logit_affine" else 1
    log_scale = fixed.new_zeros(classes).requires_grad_()
    offset = fixed.new_zeros(classes)
    fitted = [log_scale]
    if kind == "logit_affine":
        fitted.append(offset.requires_grad_())
    y = targets.to(fixed.device)[None, :, None].expand(len(fixed), -1, 1)
    optimizer = torch.optim.LBFGS(
        fitted, max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        log_p = (fixed * log_scale.exp() + offset).log_softmax(-1).gather(2, y)[..., 0]
        nll = -torch.logsumexp(log_p, 0).mean()  # up to ln T
        # a little pull, so that separable data keep finite scales
        nll = nll + 1e-4 * (log_scale.square().sum() + offset.square().sum())
        nll.backward()
        return nll

    with torch.enable_grad():
        optimizer.step(loss)
    return LogitScales(log_scale.detach().exp(), offset.detach())


def _check_classes(key: str, targets: Tensor, classes: int | None) -> None:
    """Check that targets are class numbers, below a number of classes where it is known."""
    least, most = int(targets.min()), int(targets.max())
    if targets.dtype != torch.int64 or least < 0 or (classes is not None and most >= classes):
        expected = "class numbers, int64" if classes is None else f"0 to {classes - 1}, int64"
        raise bad_value(key, f"{targets.dtype} from {least} to {most}", expected)


class LogitCorrection:
    """Correct each chip's logits by what is fitted on it: a calibration with labels.

    Differences between chips are corrected behind the last layer alone, with one or 2 C digital
    numbers. Source: the abstract of Katti et al. (arXiv 2411.07902) corrects logits; the form is
    ours. Fit on validation data, never on those that are measured.

    Args:
        x: inputs, [N, ...].
        y: their classes, [N].
        kind: "temperature", or "logit_affine": a scale and an offset for each class.
        samples: readings of the chip whose mean prediction is fitted, where it is read with noise.
        batch_size: inputs a forward pass takes at once.

    Raises:
        CnetError: for another kind, fewer than one sample, or inputs and targets that do not fit;
            when calibrating, for targets that the network has no output for. A chip whose outputs
            are not finite stays one.
    """

    @checked
    def __init__(
        self,
        x: Inputs,
        y: Tensor,
        kind: str = "temperature",
        samples: int = 16,
        batch_size: int = 1000,
    ) -> None:
        if kind not in _KINDS:
            raise bad_choice("kind", kind, _KINDS)
        check_count("samples", samples)
        check_count("batch_size", batch_size)
        if y.dim() != 1 or len(y) == 0 or samples_in(x) != len(y):
            raise bad_value("y", tuple(y.shape), "classes [N] of the inputs, at least one")
        _check_classes("y", y, None)
        self.x, self.y, self.kind = x, y, kind
        self.samples, self.batch_size = samples, batch_size

    def __call__(self, model: nn.Module) -> AbstractContextManager[None]:
        """Correct the programmed chip inside a block, where it gives its logits alone."""
        return self._corrected(model)

    def label(self) -> str:
        """Return a short name for tables and records."""
        return f"{self.kind} ({len(self.y)} labelled inputs)"

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of inputs, targets and settings."""
        name = f"{type(self).__name__} {self.kind} {self.samples} {self.batch_size}"
        return tensors_fingerprint({**named_tensors(self.x, name), "y": self.y})

    def cost(self, model: nn.Module) -> int:
        """Return the digital numbers: one, or two for each class."""
        return 1 if self.kind == "temperature" else 2 * self._classes(model)

    @contextmanager
    def _corrected(self, model: nn.Module) -> Iterator[None]:
        device = device_of(model)
        x, y = inputs_on(device, self.x), self.y.to(device)
        # the state of this moment belongs to the chip
        seed = int(torch.randint(2**62, (), device="cpu"))
        tiles = [tile for _, tile in rram_tiles(model)]
        noisy = has_cells(model) or any(
            periphery_is_noisy(tile.rpu_config)
            or getattr(tile.chip, "read_noise", None) is not None
            for tile in tiles
        )
        with forked_random_state(device), evaluation_mode(model):
            count = self.samples if noisy else 1
            logits = chip_logits(model, x, count, seed, self.batch_size, "fit")
        if bool(torch.isfinite(logits).all()):
            scales = fit_logits(logits, y, self.kind)
        else:  # a chip that fails
            scales = LogitScales(torch.tensor([torch.nan]), torch.tensor([torch.nan]))

        def correct(_: nn.Module, __: Any, output: Tensor) -> Tensor:
            return scales(main_output(output))

        hook = model.register_forward_hook(correct)
        try:
            yield
        finally:
            hook.remove()

    def _classes(self, model: nn.Module) -> int:
        one = inputs_on(device_of(model), self.x)
        with evaluation_mode(model), forked_random_state(device_of(model)):
            return chip_logits(model, one, 1, 0, self.batch_size).shape[2]
