"""The contract of tasks."""

from __future__ import annotations

import json
import math
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.inputs import map_tensors, named_tensors, select
from cnet_aihw.tasks import Task, describe_task
from cnet_aihw.tasks.base import counted
from cnet_aihw.testing.promises import check_copies, check_settings, promise, promised

_EQUAL: dict[str, float] = {"rel_tol": 1e-4, "abs_tol": 1e-6}


def check_task(task: Task, outputs: Any, targets: Tensor, perfect: Any) -> None:
    """Check that a task's loss, score and texts agree with each other.

    Args:
        task: the task.
        outputs: outputs of a network for a batch, [N, ...], imperfect ones, float. Where targets
            are ignored, such as padding, some should be, not as many for each sample.
        targets: targets of the batch, [N, ...], at least 3.
        perfect: outputs that have the best score for these targets.

    Raises:
        AssertionError: names the promise that is not kept.
    """
    described = describe_task(task)
    promise(json.loads(json.dumps(described)) == described, task, "settings are plain values")
    check_copies(task, describe_task)
    check_settings(task, describe_task)
    for name in ("name", "metric", "loss_name"):
        promise(bool(getattr(task, name)), task, f"{name} is a short text")
    _check_untouched(task, outputs, targets)
    _check_refusal(task, outputs, targets)
    _check_loss(task, outputs, targets, perfect)
    _check_score(task, outputs, targets, perfect)
    _check_extras(task, outputs, targets, perfect)


def _check_untouched(task: Task, outputs: Any, targets: Tensor) -> None:
    given = _clones(outputs), targets.clone()
    task.check(*given)
    task.loss(*given)
    task.new_metric().update(*given)
    same = _equal(given[0], outputs) and torch.equal(given[1], targets)
    promise(same, task, "leaves outputs and targets as they are")
    with promised(task, "check() takes outputs of the first samples with all targets of a part"):
        task.check(select(outputs, slice(2)), targets)


def _check_refusal(task: Task, outputs: Any, targets: Tensor) -> None:
    more = map_tensors(outputs, lambda o: o.unsqueeze(1).expand(-1, 3, *o.shape[1:]))
    sentence = "check() refuses outputs of another shape by a CnetError"
    refused = False
    with promised(task, sentence):
        try:
            task.check(more, targets)
        except CnetError:
            refused = True
    promise(refused, task, sentence)


def _check_loss(task: Task, outputs: Any, targets: Tensor, perfect: Any) -> None:
    leaf = map_tensors(outputs, lambda o: o.detach().clone().requires_grad_())
    loss = task.loss(leaf, targets)
    promise(loss.ndim == 0 and bool(torch.isfinite(loss)), task, "loss() is a finite scalar")
    loss.backward()
    grads = [o.grad for o in named_tensors(leaf).values()]
    promise(
        any(g is not None and bool(g.abs().sum() > 0) for g in grads),
        task,
        "loss() has gradients",
    )
    whole, again = float(loss.detach()), float(task.loss(outputs, targets))
    promise(math.isclose(whole, again, **_EQUAL), task, "loss() gives the same again")
    best = float(task.loss(perfect, targets))
    promise(best < whole, task, f"the loss of perfect outputs is lower ({best:g} and {whole:g})")
    total, weight = 0.0, 0.0
    for part in _uneven(len(targets)):
        count = float(counted(task, targets[part]))
        total += count * float(task.loss(select(outputs, part), targets[part])) if count else 0.0
        weight += count
    promise(
        math.isclose(total / weight, whole, **_EQUAL),
        task,
        f"loss() is a mean over its targets, of which counted(targets) says how many there are, so "
        f"that batches add up ({total / weight:g} and {whole:g})",
    )


def _check_score(task: Task, outputs: Any, targets: Tensor, perfect: Any) -> None:
    best = _score(task, [perfect], [targets])
    whole = _score(task, [outputs], [targets])
    one, other = task.new_metric(), task.new_metric()
    one.update(outputs, targets)
    other.update(perfect, targets)
    alone = math.isclose(float(one.compute()), whole, **_EQUAL)
    promise(
        one is not other and alone and math.isclose(float(other.compute()), best, **_EQUAL),
        task,
        "new_metric() has nothing in it, whatever others have taken in",
    )
    chosen = _uneven(len(targets))
    parts = _score(task, [select(outputs, p) for p in chosen], [targets[p] for p in chosen])
    promise(
        math.isclose(whole, parts, **_EQUAL),
        task,
        f"batches add up, also those of different sizes ({parts:g} and {whole:g} at once)",
    )
    better = best > whole if task.higher_is_better else best < whole
    promise(better, task, f"perfect outputs score better ({best:g} and {whole:g})")
    low, high = getattr(task, "score_range", (-math.inf, math.inf))
    promise(low <= whole <= high and low <= best <= high, task, "scores are in score_range")
    promise(task.format(whole) != "", task, "format() writes a score")
    kept = task.recovery(best, best)
    promise(kept is None or math.isclose(kept, 1.0), task, "recovery() of all is 1")
    kept = task.recovery(whole, best)
    promise(kept is None or kept < 1.0, task, f"recovery() of a worse score is below 1 ({kept})")


def _check_extras(task: Any, outputs: Any, targets: Tensor, perfect: Any) -> None:
    """Check the methods that a task may have."""
    if hasattr(task, "constant_loss"):
        least = float(task.constant_loss(targets))
        axes = max(o.ndim for o in named_tensors(outputs).values())
        for output, axis in product((outputs, perfect), range(1, max(axes, 2))):
            constant = map_tensors(output, partial(_constant, axis=axis))
            found = float(task.loss(constant, targets))
            promise(
                least <= found + 1e-4 * abs(found) + 1e-6,
                task,
                f"constant_loss() is the least of constant outputs ({least:g}, but {found:g} is "
                "there)",
            )
    if hasattr(task, "divergence"):
        none, some = (float(task.divergence(o, outputs, 2.0)) for o in (outputs, perfect))
        promise(
            math.isfinite(some) and none < some,
            task,
            f"divergence() is least for the outputs wanted ({none:g}, and {some:g} for others)",
        )
    if hasattr(task, "drawn_loss"):
        leaf = outputs.detach().clone().requires_grad_()
        with torch.random.fork_rng(devices=[]), promised(task, "drawn_loss() has gradients"):
            (grad,) = torch.autograd.grad(task.drawn_loss(leaf), [leaf])
        promise(bool(grad.abs().sum() > 0), task, "drawn_loss() has gradients")


def _uneven(samples: int) -> tuple[slice, slice]:
    """Return two parts of different sizes."""
    first = max(1, samples // 3)
    return slice(0, first), slice(first, samples)


def _constant(outputs: Tensor, axis: int) -> Tensor:
    """Return the mean of outputs over all axes but one, in their shape."""
    axes = [a for a in range(outputs.ndim) if a != axis]
    return outputs.mean(axes, keepdim=True).expand_as(outputs)


def _clones(outputs: Any) -> Any:
    return map_tensors(outputs, lambda o: o.detach().clone())


def _equal(one: Any, other: Any) -> bool:
    pairs = zip(named_tensors(one).values(), named_tensors(other).values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def _score(task: Task, outputs: list[Any], targets: list[Tensor]) -> float:
    metric = task.new_metric()
    for out, target in zip(outputs, targets, strict=True):
        metric.update(map_tensors(out, Tensor.detach), target)
    return float(metric.compute())
