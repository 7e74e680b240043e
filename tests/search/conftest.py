"""Fixtures that the tests of evaluators share."""

from collections.abc import Callable
from typing import Any

import pytest

from cnet_aihw.training import TrainingSettings, train

from .evaluator_cases import DATA, EVALUATORS, network


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    model = network()
    settings = TrainingSettings(
        epochs=4, batch_size=50, optimizer="adam", lr=5e-3, select="last", validation_chips=0
    )
    train(model, DATA, settings, tmp_path_factory.mktemp("base"), device="cpu", progress=False)
    return model


@pytest.fixture(params=EVALUATORS)
def make(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return EVALUATORS[request.param]
