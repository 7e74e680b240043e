"""Which outputs the correctors of a network should aim at, measured on validation chips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from cnet_aihw.compensation.per_chip import PerChipFit
from cnet_aihw.compensation.settings import TARGETS
from cnet_aihw.compensation.with_compensation import WithCompensation
from cnet_aihw.evaluation import evaluate_chips
from cnet_aihw.runtime.typed import checked
from cnet_aihw.tasks import Classification, Task


@dataclass(frozen=True)
class TargetChoice:
    """The target that scores best, and what was measured."""

    target: str
    scores: Mapping[str, float]
    """Target -> mean score over chips."""


@checked
def choose_target(
    model: nn.Module,
    data: Any,
    correctors: WithCompensation,
    *,
    task: Task | None = None,
    chips: int = 5,
    seed: int = 0,
    t_inference: float | None = None,
    records: str | Path | None = None,
    device: str = "auto",
    progress: bool = False,
) -> TargetChoice:
    """Measure correctors with each target on the same chips, and choose the better one (ours).

    A network that was trained under strong noise may be worse without a chip than on one. Its clean
    outputs are then a bad aim, and correctors that aim at them make it worse.

    Args:
        model: a network on crossbars, without correctors.
        data: validation data: a part, a loader, or inputs and targets.
        correctors: placement, corrector and fit; the fit's own target does not count.
        task: what scores; None: classification.
        chips: number of chips.
        seed: seed of the chips.
        t_inference: seconds after programming; None: just programmed.
        records: a folder for one records file a target, from which the choice resumes; None: none.
        device: "auto", "cpu" or "cuda".
        progress: whether a progress bar is shown.

    Returns:
        The choice; where both score the same, "clean", which costs fewer passes.

    Raises:
        CnetError: as :func:`~cnet_aihw.evaluation.evaluate_chips`.
    """
    task, fit, scores = task or Classification(), correctors.fit, {}
    for target in TARGETS:
        aimed = PerChipFit.of(replace(fit.settings, target=target), fit.x, fit.task)
        scores[target] = evaluate_chips(
            model,
            data,
            task=task,
            chips=chips,
            seed=seed,
            t_inference=t_inference,
            calibration=WithCompensation(correctors.placement, correctors.corrector, aimed),
            records=None if records is None else Path(records) / f"target-{target}.jsonl",
            device=device,
            progress=progress,
        ).mean
    best = max if task.higher_is_better else min
    return TargetChoice(best(TARGETS, key=lambda target: scores[target]), scores)
