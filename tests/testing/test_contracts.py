"""The contracts pass for what the package has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cnet_aihw.attacks import APGD, PGD, Attack, HopSkipJump, OnePixel, Square
from cnet_aihw.compensation import (
    Affine,
    Corrector,
    Digital,
    GeneratorCompensator,
    LowRank,
    Vera,
)
from cnet_aihw.rram import (
    CMONoiseModel,
    CompositeNoiseModel,
    DeviceNoiseModel,
    GaussianAdditiveNoiseModel,
    LevelsNoiseModel,
    LogNormalNoiseModel,
    PCMNoiseModel,
    PowerLawDriftNoiseModel,
    ReadNoiseModel,
    StuckAtNoiseModel,
    Wan2022NoiseModel,
)
from cnet_aihw.search.searchers import (
    CoordinateSearcher,
    GreedySearcher,
    RandomSearcher,
    Searcher,
    SpectrumSearcher,
    SurrogateSearcher,
)
from cnet_aihw.tasks import (
    Classification,
    LanguageModelling,
    MultiLabel,
    Regression,
    Segmentation,
)
from cnet_aihw.testing import (
    check_attack,
    check_corrector,
    check_device,
    check_searcher,
    check_task,
)


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
        CMONoiseModel,
        PowerLawDriftNoiseModel,
        ReadNoiseModel,
        GaussianAdditiveNoiseModel,
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


def test_a_searcher_that_ends_by_itself_keeps_its_contract() -> None:
    check_searcher(SpectrumSearcher, ends_early=True)


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


LABELS = drawn(20).gt(0).long()
TOKENS = drawn(20, 4).gt(0).long()
SEVERAL = drawn(20, 3).gt(0).float()
PIXELS = drawn(20, 5, 6).gt(0).long()


@pytest.mark.parametrize(
    ("task", "outputs", "targets", "perfect"),
    [
        (Classification(), drawn(20, 2), LABELS, 9.0 * nn.functional.one_hot(LABELS)),
        (Regression(), drawn(20, 2), drawn(20, 2) + 1, drawn(20, 2) + 1),
        (LanguageModelling(), drawn(20, 4, 2), TOKENS, 9.0 * nn.functional.one_hot(TOKENS)),
        (
            Segmentation(),
            drawn(20, 2, 5, 6),
            PIXELS,
            9.0 * nn.functional.one_hot(PIXELS).movedim(3, 1),
        ),
        (MultiLabel(), drawn(20, 3).roll(1, 0), SEVERAL, 9.0 * (2 * SEVERAL - 1)),
    ],
)
def test_tasks_keep_their_contract(
    task: Any, outputs: Tensor, targets: Tensor, perfect: Tensor
) -> None:
    check_task(task, outputs, targets, perfect.float())


@pytest.mark.parametrize(
    "attack",
    [PGD(steps=10), APGD(steps=20), Square(steps=50), OnePixel(steps=2), HopSkipJump(steps=3)],
    ids=lambda attack: attack.name,
)
def test_attacks_keep_their_contract(attack: Attack) -> None:
    check_attack(attack)
