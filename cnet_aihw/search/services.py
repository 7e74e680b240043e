"""Evaluation services: what values plans in this process, by name.

An environment is told the name alone, so that no network and no data are written into an agent's
checkpoints or sent along with its configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.search.problem import Plan

EvaluatePlan = Callable[[Plan], float | None]
"""Gives the reward of a plan that fits; None for one that the budget no longer covers."""

_SERVICES: dict[str, EvaluatePlan] = {}


@contextmanager
def evaluation_service(name: str, evaluate: EvaluatePlan) -> Iterator[None]:
    """Let environments of this process evaluate plans under a name, inside the block.

    Args:
        name: the name; different searches in one process take different ones.
        evaluate: gives the reward of a plan that fits.

    Raises:
        CnetError: if the name is taken.
    """
    if name in _SERVICES:
        raise CnetError(f"the evaluation service {name!r} runs already; take another name.")
    _SERVICES[name] = evaluate
    try:
        yield
    finally:
        del _SERVICES[name]


def find_service(name: str) -> EvaluatePlan:
    """Return what values plans under a name in this process.

    Raises:
        CnetError: if there is none.
    """
    if name not in _SERVICES:
        raise CnetError(
            f"no evaluation service {name!r} runs in this process; start one with "
            "evaluation_service(name, evaluate) around the search."
        )
    return _SERVICES[name]
