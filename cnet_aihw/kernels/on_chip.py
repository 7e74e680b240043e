"""Calibration and measurement of chips with kernel features: a read-out of each, its error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from cnet_aihw.evaluation import ChipCalibration, Score
from cnet_aihw.kernels.classifier import check_readout, classifier_of, set_readout
from cnet_aihw.kernels.functions import check_columns, exact_kernel, kernel_error
from cnet_aihw.kernels.ridge import fit_ridge
from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.runtime.fingerprint import tensors_fingerprint, text_fingerprint
from cnet_aihw.runtime.parts import Part
from cnet_aihw.runtime.torch_device import device_of
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import is_number
from cnet_aihw.tasks import Classification


class ReadoutFit:
    """Fit the read-out of a kernel classifier to features measured on each chip: a calibration.

    It takes labels, and one pass of the chip over the inputs. The clean score keeps the read-out
    that the network has.

    Args:
        x: training inputs [N, ...].
        y: class numbers [N].
        alpha: penalty of the ridge regression.
        after: another calibration that comes first, such as correctors of the projection.

    Raises:
        CnetError: for fewer than two inputs, targets that do not fit, and a penalty that is not
            above 0; when calibrating, for a network that is not a kernel classifier, or whose
            read-out lies on a crossbar. A chip whose features are not finite fails.
    """

    @checked
    def __init__(
        self, x: Tensor, y: Tensor, alpha: float = 0.5, after: ChipCalibration | None = None
    ) -> None:
        if x.ndim < 2 or len(x) < 2 or y.shape != (len(x),):
            raise bad_value("x", tuple(x.shape), "inputs [N, ...] and targets [N], at least two")
        if y.is_floating_point() or int(y.min()) < 0:
            raise bad_value("y", str(y.dtype), "class numbers of at least 0")
        if not (is_number(alpha) and alpha > 0.0):
            raise bad_value("alpha", alpha, "a number above 0")
        self.x, self.y, self.alpha, self.after = x, y, alpha, after

    def __call__(self, model: nn.Module) -> AbstractContextManager[None]:
        """Fit inside a block; afterwards the old read-out is back."""
        return self._fitted(model)

    def label(self) -> str:
        """Return a short name for tables and records."""
        first = "" if self.after is None else f"{self.after.label()}, "
        return f"{first}read-out fitted to each chip ({len(self.x)} inputs)"

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of all that determines the fit."""
        first = "" if self.after is None else self.after.fingerprint()
        own = tensors_fingerprint({"x": self.x, "y": self.y})
        return text_fingerprint([type(self).__name__, own, repr(self.alpha), first])

    def cost(self, model: nn.Module) -> int:
        """Return the digital weights that it adds: those of ``after``, as a read-out is there."""
        return 0 if self.after is None else self.after.cost(model)

    @contextmanager
    def _fitted(self, model: nn.Module) -> Iterator[None]:
        classifier = classifier_of(model)
        check_readout(classifier)
        old = {n: t.detach().clone() for n, t in classifier.readout.state_dict().items()}
        device = device_of(model)
        with nullcontext() if self.after is None else self.after(model), torch.no_grad():
            z = classifier.features(self.x.to(device))
            if bool(torch.isfinite(z).all()):
                fitted = fit_ridge(z, self.y.to(device), classifier.classes, self.alpha)
            else:  # a chip that fails
                nothing = z.new_full((classifier.classes, z.shape[1]), torch.nan)
                fitted = nothing, nothing[:, 0]
            set_readout(classifier, *fitted)
            try:
                with torch.enable_grad():
                    yield
            finally:
                set_readout(classifier, old["weight"], old["bias"])


class KernelScore:
    """Accuracy, loss, and the error of the kernel that a chip computes: a measurement.

    Args:
        x: inputs [N, ...] between which the kernel is.
        kernel: its name.
        gamma: bandwidth.
        columns: columns of the inputs that count; None: all.
    """

    name = "kernel"

    @checked
    def __init__(
        self, x: Tensor, kernel: str, gamma: float = 1.0, columns: Tensor | None = None
    ) -> None:
        if x.ndim < 2 or 0 in x.shape or x.is_complex():
            raise bad_value("x", tuple(x.shape), "inputs [N, ...]")
        check_columns(columns, x[0].numel())
        self.x, self.kernel, self.gamma = x, kernel, float(gamma)
        self.columns = columns
        rows = x.flatten(1) if columns is None else x.flatten(1)[:, columns]
        self.exact = exact_kernel(kernel, rows, rows, gamma)
        self._score = Score(Classification())

    def __call__(self, model: nn.Module, part: Part, batch_size: int) -> dict[str, float]:
        """Measure score, loss and ``kernel_error``."""
        values = self._score(model, part, batch_size)
        with torch.inference_mode():
            z = classifier_of(model).features(self.x.to(device_of(model))).cpu()
        return {**values, "kernel_error": kernel_error(self.exact, z)}

    def describe(self) -> dict[str, Any]:
        """Return what tells the measurement apart."""
        columns = None if self.columns is None else self.columns.tolist()
        return {
            **self._score.describe(),
            "kernel": self.kernel,
            "gamma": self.gamma,
            "inputs": tensors_fingerprint({"x": self.x}),
            "columns": columns,
        }
