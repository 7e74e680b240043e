"""Accuracy of scikit-learn's own methods on the same data, without any chip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from sklearn.kernel_approximation import Nystroem, RBFSampler
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge
from torch import Tensor
from torch.nn import functional as F

from cnet_aihw.kernels.functions import check_kernel, exact_kernel
from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import check_count, is_number


@checked
def kernel_ridge_accuracy(
    kernel: str, gamma: float, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor],
    classes: int, alpha: float = 0.5,
) -> float:  # fmt: skip
    """Return the accuracy of kernel ridge regression with the exact kernel.

    Targets are centred, so that what stands for the intercept has no penalty.

    Args:
        kernel: its name.
        gamma: bandwidth.
        train: inputs [N, d] and class numbers [N].
        test: the same of the test part.
        classes: number of classes.
        alpha: penalty.

    Raises:
        CnetError: as :func:`~cnet_aihw.kernels.exact_kernel`.
    """
    check_kernel(kernel, gamma)
    check_parts(train, test, classes)
    if not (is_number(alpha) and alpha > 0.0):
        raise bad_value("alpha", alpha, "a number above 0")
    targets = F.one_hot(train[1].long(), classes).double()
    mean = targets.mean(0)
    model = KernelRidge(alpha=float(alpha), kernel="precomputed")
    model.fit(exact_kernel(kernel, train[0], train[0], gamma).numpy(), (targets - mean).numpy())
    found = model.predict(exact_kernel(kernel, test[0], train[0], gamma).numpy())
    return _accuracy(found + mean.numpy(), test[1])


def check_parts(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], classes: int) -> None:
    """Check that rows and class numbers fit."""
    check_count("classes", classes, most=10**6)
    for key, part in (("train", train), ("test", test)):
        fits = len(part) == 2 and part[0].ndim == 2 and part[1].shape == (len(part[0]),)
        if (
            not fits
            or not len(part[0])
            or not 0 <= int(part[1].min()) <= int(part[1].max()) < classes
        ):
            expected = f"rows [N, d] and class numbers [N] below {classes}"
            raise bad_value(key, [tuple(of.shape) for of in part], expected)


def ridge_accuracy(
    made: Any, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], classes: int, alpha: float
) -> float:
    """Return the accuracy of ridge regression on features that a transformer makes; None: none."""
    z, zt = train[0].double().numpy(), test[0].double().numpy()
    if made is not None:
        z, zt = made.fit_transform(z), made.transform(zt)
    targets = F.one_hot(train[1].long(), classes).double().numpy()
    return _accuracy(Ridge(alpha=alpha).fit(z, targets).predict(zt), test[1])


def baselines(
    kernels: Sequence[str],
    gammas: Sequence[float],
    sizes: Sequence[int],
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    classes: int,
    alpha: float,
    exact_samples: int,
    seeds: Sequence[int],
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a key and a function's arguments for each baseline; run one with :func:`run_baseline`.

    Args:
        kernels: names of kernels.
        gammas: bandwidth of each.
        sizes: rows of projections.
        train: inputs [N, d] and class numbers [N].
        test: the same of the test part.
        classes: number of classes.
        alpha: penalty.
        exact_samples: most training samples of kernel ridge regression.
        seeds: seeds of scikit-learn's draws.
    """
    shared = {"train": train, "test": test, "classes": classes, "alpha": alpha}
    yield "linear ridge", {**shared, "method": "linear ridge"}
    few = train[0][:exact_samples], train[1][:exact_samples]
    for kernel, gamma in zip(kernels, gammas, strict=True):
        of = {"method": "KernelRidge", "kernel": kernel, "gamma": gamma}
        yield f"KernelRidge {kernel}", {**shared, **of, "train": few}
        for s in sizes if kernel == "rbf" else ():
            for seed in seeds:
                for method, most in (
                    ("Nystroem", min(2 * s, len(train[0]))),
                    ("RBFSampler", 2 * s),
                ):
                    more = {"method": method, "s": s, "features": most, "seed": seed}
                    yield f"{method} {kernel} {s} {seed}", {**shared, **of, **more}


def run_baseline(given: dict[str, Any]) -> dict[str, Any]:
    """Return the record of one baseline: what it is, and its accuracy.

    Args:
        given: arguments from :func:`baselines`.
    """
    method = given["method"]
    shared = [given[name] for name in ("train", "test", "classes", "alpha")]
    made: Any = None
    if method == "KernelRidge":
        accuracy = kernel_ridge_accuracy(given["kernel"], given["gamma"], *shared)
    else:
        size = {"gamma": given.get("gamma"), "n_components": given.get("features")}
        if method == "Nystroem":
            made = Nystroem(kernel="rbf", random_state=given["seed"] % 2**32, **size)
        elif method == "RBFSampler":
            made = RBFSampler(random_state=given["seed"] % 2**32, **size)
        accuracy = ridge_accuracy(made, *shared)
    kept = {n: given.get(n) for n in ("method", "kernel", "gamma", "s", "features", "seed")}
    return {**kept, "samples": len(given["train"][0]), "accuracy": accuracy}


def _accuracy(scores: Any, y: Tensor) -> float:
    return float((torch.as_tensor(scores).argmax(1) == y).double().mean())
