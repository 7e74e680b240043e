"""Correctors of a user are tried beside the network's layers before any work."""

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cnet_aihw.compensation import Corrector, CorrectorCost, LayerShape, network_cost
from cnet_aihw.compensation.corrector import cost_of
from cnet_aihw.compensation.trial import try_corrector
from cnet_aihw.rram import RRAMRPUConfig, convert_to_analog, snapshot
from cnet_aihw.runtime.errors import CnetError

from .conftest import Row


class Scaled(nn.Module):
    """A factor for all channels."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x: Tensor, y: Tensor) -> Any:
        return self.factor * y


class Unasked(Scaled):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return x


class Widening(Scaled):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return y.double()


class Summing(Scaled):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return y.sum(0)


class Giving(Scaled):
    def forward(self, x: Tensor, y: Tensor) -> Any:
        return x, y


@dataclass(frozen=True)
class Own(Corrector):
    module: Any = field(default=Scaled)
    weights: int = 1

    sized = False

    def build(self, shape: LayerShape, size: int) -> nn.Module:
        return self.module()

    def cost(self, shape: LayerShape, size: int) -> CorrectorCost:
        return CorrectorCost(self.weights, 0)


def _network() -> tuple[nn.Module, Tensor]:
    layers = nn.Conv2d(1, 3, 3, stride=2), nn.Flatten(), nn.Linear(12, 2)
    return convert_to_analog(nn.Sequential(*layers), RRAMRPUConfig()), torch.randn(2, 1, 6, 6)


@pytest.mark.parametrize(
    "corrector",
    [
        Own(lambda: None),
        Own(lambda: [][0]),
        Own(lambda: Scaled(2.0)),
        Own(Unasked),
        Own(Widening),
        Own(Summing),
        Own(Giving),
        Own(weights=2),
    ],
)
def test_a_corrector_that_does_not_work_is_refused(corrector: Corrector) -> None:
    model, x = _network()
    before, outputs = snapshot(model), model.eval()(x)
    with pytest.raises(CnetError) as error:
        try_corrector(model, corrector, ["0", "2"], x)
    assert error.value.key == "corrector"
    after = snapshot(model)
    assert before.keys() == after.keys()
    assert torch.equal(model(x), outputs)


def test_a_corrector_that_works_is_taken_and_leaves_nothing(row: Row) -> None:
    model, x = row.build()
    outputs, layers = model(x), network_cost(model, x[:1]).correctable
    try_corrector(model, row.corrector, layers, x)
    assert torch.equal(model(x), outputs)


@pytest.mark.parametrize("cost", [(1, 1), None, CorrectorCost(-1, 0), CorrectorCost(0, 0.5)])  # type: ignore[arg-type]
def test_a_cost_is_two_whole_numbers(cost: Any) -> None:
    class Priced(Own):
        def cost(self, shape: LayerShape, size: int) -> CorrectorCost:
            return cost

    with pytest.raises(CnetError) as error:
        cost_of(Priced(), LayerShape(0, 3, 2), 0)
    assert error.value.value == cost
