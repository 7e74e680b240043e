"""The model that the agent practises on."""

import numpy as np
import pytest

from cnet_aihw.compensation import Placement
from cnet_aihw.search import Evaluation, Evaluations
from cnet_aihw.search.rllib.model_rollouts import ModelRollouts

from ..synthetic import FIVE, Synthetic


def test_imagined_rewards_have_the_level_and_the_order_of_evaluated_ones() -> None:
    """The agent has one baseline for both."""
    s = Synthetic(FIVE, 0.15)

    def measure(placements: list[Placement]) -> list[tuple[Evaluation, bool]]:
        return [(Evaluation(s.evaluate(p), 0.0), False) for p in placements]

    encodings = [encoding for encoding in s.problem.encodings() if s.problem.fits(encoding)]
    order = np.random.default_rng(0).permutation(len(encodings))
    seen, unseen = ([encodings[i] for i in part] for part in (order[:60], order[60:160]))
    evaluations = Evaluations(s.problem, measure, 60)
    rewards = evaluations.many(seen)
    imagined = ModelRollouts(s.problem, 0.0).draw(evaluations.rows, np.random.default_rng(1))
    assert np.mean(imagined(seen)) == pytest.approx(np.mean(rewards), abs=1e-9)
    values = [s.reward(encoding) for encoding in unseen]
    assert np.corrcoef(imagined(unseen), values)[0, 1] > 0.7
    assert np.mean(imagined(unseen)) == pytest.approx(np.mean(values), abs=0.02)
