"""The base of attacks: what they share, and the Adversarial Robustness Toolbox behind them."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import nn

from cnet_aihw.attacks.networks import PixelNetwork
from cnet_aihw.attacks.pixels import Array, within_budget
from cnet_aihw.attacks.settings import NORMS
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.fingerprint import class_elsewhere
from cnet_aihw.runtime.random_state import derive_seed
from cnet_aihw.runtime.torch_device import device_of
from cnet_aihw.runtime.values import bad_choice, check_count

STRONGER = 4
"""How many times the steps of the attack that is to be at least as good."""


@dataclass(frozen=True)
class Attack:
    """Changes images within a budget so that a network misclassifies them.

    A new attack is a frozen dataclass with ``name``, ``white_box``, :meth:`generate` and a field
    that makes it stronger, ``steps`` or what :attr:`effort` names; its fields are its settings.
    """

    name: ClassVar[str]
    """Short name, for records and file names."""

    white_box: ClassVar[bool]
    """Whether it uses gradients."""

    norms: ClassVar[tuple[str, ...]] = ("inf", "2")
    """Norms of budgets that it knows."""

    effort: ClassVar[str] = "steps"
    """Field that makes it stronger and slower: a whole number from 1."""

    one_run: ClassVar[bool] = False
    """Whether one run serves all budgets, whose records have its whole cost each."""

    norm: str = "inf"
    """Norm of the budget: "inf" (largest change of a pixel), "2" (Euclidean length of the change)
    or "0" (number of pixels changed)."""

    batch_size: int = 128
    """Samples a forward pass takes at once."""

    def __post_init__(self) -> None:
        if self.norm not in self.norms:
            known = self.norms if self.norm in NORMS else NORMS
            raise bad_choice("norm", self.norm, known)
        check_count("batch_size", self.batch_size)
        if self.effort not in {field.name for field in fields(self)}:
            kind = type(self).__name__
            raise CnetError(
                f"{kind} has no field {self.effort!r}, of which more makes it stronger; make it a "
                f"dataclass with the field {self.effort!r}, or with another one that its `effort` "
                "names.",
                key="effort",
                value=self.effort,
                expected="a field of the dataclass",
                fix=f"give {kind} the field {self.effort!r}",
            )
        check_count(self.effort, getattr(self, self.effort))
        self._check_class()

    def _check_class(self) -> None:
        kind = type(self)
        has = {
            "name": isinstance(getattr(kind, "name", None), str),
            "white_box": isinstance(getattr(kind, "white_box", None), bool),
            "generate": kind.generate is not Attack.generate or kind.perturb is not Attack.perturb,
        }
        for missing in (name for name, there in has.items() if not there):
            raise CnetError(
                f"{kind.__name__} has no {missing}; give it one, or mend its name.",
                key=missing,
                value=kind.__name__,
                fix=f"give {kind.__name__} {missing}",
            )

    def describe(self) -> dict[str, Any]:
        """Return name and settings as plain values, and the class where it is from elsewhere."""
        elsewhere = class_elsewhere(self)
        kind = {} if elsewhere is None else {"class": elsewhere}
        return {"name": self.name, **kind, **asdict(self)}

    def stronger(self) -> Self:
        """Return the attack with :data:`STRONGER` times the steps."""
        return replace(self, **{self.effort: STRONGER * getattr(self, self.effort)})

    def generate(self, classifier: Any, x: Array, y: Array, eps: float) -> Array:
        """Return changed images, [N, C, H, W] in pixels.

        Draws are from the global generators of numpy, Python and torch, which are seeded here.

        Args:
            classifier: the library's view of the network, a ``PyTorchClassifier``: its ``model``
                takes pixels and gives logits.
            x: pixels, [N, C, H, W], float32.
            y: labels, [N].
            eps: the budget, above 0.
        """
        raise NotImplementedError

    def perturb(
        self, network: nn.Module, x: Array, y: Array, eps: Sequence[float], seed: int
    ) -> Iterator[tuple[float, Array]]:
        """Attack a network with each of several budgets.

        Args:
            network: takes pixels [N, C, H, W] from 0 to 1 and gives logits.
            x: pixels, [N, C, H, W], float32.
            y: labels, [N].
            eps: the budgets, each above 0.
            seed: what all random draws belong to, those of the network's noise too.

        Yields:
            Each budget, and the changed images, which keep to it.
        """
        for budget in eps:
            with library_draws(derive_seed(seed, repr(budget)), network):
                changed = self.generate(classifier_of(network, x), x, y, budget)
            yield budget, within_budget(x, changed, budget, self.norm)

    @property
    def _library_norm(self) -> float:
        return np.inf if self.norm == "inf" else int(self.norm)


def evasion() -> Any:
    """Return the toolbox's module of attacks.

    Raises:
        CnetError: if it is not installed.
    """
    try:
        import art.attacks.evasion
    except ImportError as error:
        fix = "install it: pip install 'cnet_aihw[attacks]'"
        raise CnetError(
            f"attacks need the Adversarial Robustness Toolbox, which cannot be imported ({error}); "
            f"{fix}.",
            key="adversarial-robustness-toolbox",
            expected="an installed package",
            fix=fix,
        ) from error
    logging.getLogger("art").setLevel(logging.WARNING)
    return art.attacks.evasion


def classifier_of(network: nn.Module, x: Array) -> Any:
    """Return the toolbox's view of a network that takes pixels.

    Args:
        network: gives logits.
        x: pixels, for their shape, [N, C, H, W].
    """
    evasion()
    from art.estimators.classification import PyTorchClassifier

    device = device_of(network)
    with torch.no_grad():
        classes = network(torch.from_numpy(x[:1]).to(device)).shape[1]
    return PyTorchClassifier(
        model=network,
        loss=nn.CrossEntropyLoss(),
        input_shape=x.shape[1:],
        nb_classes=classes,
        clip_values=(0.0, 1.0),
        device_type="cpu" if device.type == "cpu" else "gpu",
    )


@contextmanager
def library_draws(seed: int, network: nn.Module | None = None) -> Iterator[None]:
    """Let the draws of numpy and Python, which the toolbox takes, belong to a seed inside.

    The global generators of both are as before afterwards.

    Args:
        seed: the seed.
        network: its noise belongs to the seed too, if it has any.
    """
    states = np.random.get_state(), random.getstate()
    np.random.seed(seed % 2**32)
    random.seed(seed)
    if isinstance(network, PixelNetwork):
        network.seed(derive_seed(seed, "attacker"))
    try:
        yield
    finally:
        np.random.set_state(states[0])
        random.setstate(states[1])
