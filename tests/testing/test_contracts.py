"""The contracts pass for what the package has, and name what a broken stranger breaks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from cnet_aihw.compensation import (
    Affine,
    Corrector,
    CorrectorCost,
    Digital,
    GeneratorCompensator,
    LayerShape,
    LowRank,
    Vera,
)
from cnet_aihw.rram import (
    CompositeNoiseModel,
    DeviceNoiseModel,
    LevelsNoiseModel,
    LogNormalNoiseModel,
    PCMNoiseModel,
    ReadNoiseModel,
    StuckAtNoiseModel,
    Wan2022NoiseModel,
)
from cnet_aihw.search.searchers import (
    CoordinateSearcher,
    GreedySearcher,
    RandomSearcher,
    Searcher,
    SurrogateSearcher,
)
from cnet_aihw.tasks import Classification, LanguageModelling, MultiLabel, Regression
from cnet_aihw.testing import check_corrector, check_device, check_searcher, check_task


def lognormal_pair() -> CompositeNoiseModel:
    return CompositeNoiseModel([LogNormalNoiseModel(0.3), ReadNoiseModel(0.01)])


@pytest.mark.parametrize(
    "make",
    [
        LogNormalNoiseModel,
        lambda: LogNormalNoiseModel(0.0),
        LevelsNoiseModel,
        StuckAtNoiseModel,
        PCMNoiseModel,
        Wan2022NoiseModel,
        lognormal_pair,
    ],
)
def test_devices_keep_their_contract(make: Callable[[], DeviceNoiseModel]) -> None:
    check_device(make())


@pytest.mark.parametrize(
    "corrector",
    [LowRank(), LowRank("x"), Vera(), Affine(), Digital(), GeneratorCompensator()],
    ids=lambda corrector: corrector.label(),
)
def test_correctors_keep_their_contract(corrector: Corrector) -> None:
    check_corrector(corrector)


@pytest.mark.parametrize(
    "make", [RandomSearcher, GreedySearcher, CoordinateSearcher, SurrogateSearcher]
)
def test_searchers_keep_their_contract(make: Callable[[], Searcher]) -> None:
    check_searcher(make)


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


LABELS = drawn(20).gt(0).long()
TOKENS = drawn(20, 4).gt(0).long()
SEVERAL = drawn(20, 3).gt(0).float()


@pytest.mark.parametrize(
    ("task", "outputs", "targets", "perfect"),
    [
        (Classification(), drawn(20, 2), LABELS, 9.0 * nn.functional.one_hot(LABELS)),
        (Regression(), drawn(20, 2), drawn(20, 2) + 1, drawn(20, 2) + 1),
        (LanguageModelling(), drawn(20, 4, 2), TOKENS, 9.0 * nn.functional.one_hot(TOKENS)),
        (MultiLabel(), drawn(20, 3).roll(1, 0), SEVERAL, 9.0 * (2 * SEVERAL - 1)),
    ],
)
def test_tasks_keep_their_contract(
    task: Any, outputs: Tensor, targets: Tensor, perfect: Tensor
) -> None:
    check_task(task, outputs, targets, perfect.float())


class Forgetful(DeviceNoiseModel):
    """Draws from a generator of its own, so that a seed means nothing."""

    draws = 0

    def label(self) -> str:
        return "forgetful"

    def program_device(self, g: Tensor, scale: Any) -> tuple[Tensor, Any]:
        Forgetful.draws += 1
        generator = torch.Generator().manual_seed(Forgetful.draws)
        return g + torch.rand(g.shape, generator=generator), None


@dataclass(frozen=True)
class Cheap(LowRank):
    """Names less than it costs."""

    def cost(self, shape: LayerShape, size: int) -> CorrectorCost:
        return CorrectorCost(1, 1)


@dataclass
class Greedy:
    """Asks for the first placement again and again."""

    name: ClassVar[str] = "greedy"

    def search(self, problem: Any, evaluations: Any, rng: Any, context: Any) -> None:
        evaluations.many([(0, 0, 0)] * evaluations.left)


class Upside(Classification):
    """Believes that fewer right answers are better."""

    higher_is_better = False


@pytest.mark.parametrize(
    ("check", "sentence"),
    [
        (lambda: check_device(Forgetful()), "the same seed gives the same chip"),
        (lambda: check_corrector(Cheap()), "cost"),
        (lambda: check_searcher(Greedy), "spends the budget"),
        (
            lambda: check_task(
                Upside(), drawn(20, 2), LABELS, 9.0 * nn.functional.one_hot(LABELS).float()
            ),
            "perfect outputs score better",
        ),
    ],
    ids=["device", "corrector", "searcher", "task"],
)
def test_a_broken_promise_is_named(check: Callable[[], None], sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check()
