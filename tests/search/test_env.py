"""The environment: a gymnasium one, whose episodes are encodings within the limit."""

import itertools
import pickle

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from cnet_aihw.search import (
    CandidateLayer,
    Encoding,
    ObjectiveSettings,
    PlacementEnv,
    PlacementProblem,
)

COSTS = ((0.0, 0.01, 0.03), (0.0, 0.02, 0.9), (0.0, 0.02, 0.04), (0.0, 0.01, 0.02))
EVALUATED: list[Encoding] = []


def problem(over_limit: str = "mask") -> PlacementProblem:
    kinds = ("conv1d", "conv2d", "conv2d", "linear")
    return PlacementProblem(
        tuple(
            CandidateLayer(f"l{i}", kind, 4, 8, 16, i / 4, 0.1 * i) for i, kind in enumerate(kinds)
        ),
        (0.0, 0.5, 1.0),
        COSTS,
        COSTS,
        0.05,
        None,
        ObjectiveSettings(over_limit=over_limit),
    )


def evaluate(encoding: Encoding) -> float:
    EVALUATED.append(encoding)
    return 0.9 - 0.1 * encoding[0]


@pytest.fixture(autouse=True)
def forget() -> None:
    EVALUATED.clear()


def make(over_limit: str = "mask", history: bool = True) -> PlacementEnv:
    config = {"problem": problem(over_limit), "evaluate": evaluate, "history": history}
    return PlacementEnv(config)


def episode(
    env: PlacementEnv, encoding: Encoding
) -> tuple[list[dict[str, np.ndarray]], float, dict]:
    """All observations, the return and the last info."""
    seen, total, info = [env.reset()[0]], 0.0, {}
    for index, choice in enumerate(encoding):
        observation, reward, done, truncated, info = env.step(np.int64(choice))
        seen.append(observation)
        total += reward
        assert done == (index == len(encoding) - 1)
        assert done or (reward == 0.0 and info == {})
        assert not truncated
    return seen, total, info


@pytest.mark.filterwarnings("ignore:.*Not able to test alternative render modes.*")
@pytest.mark.parametrize("history", [True, False])
@pytest.mark.parametrize("over_limit", ["mask", "penalty"])
def test_it_is_a_gymnasium_environment(over_limit: str, history: bool) -> None:
    check_env(make(over_limit, history))


def test_every_plan_within_the_limit_can_be_played_and_no_other() -> None:
    env = make()
    played = []
    for encoding in itertools.product(range(3), repeat=4):
        masks = [observation["action_mask"] for observation in episode(env, encoding)[0]]
        if all(mask[choice] == 1.0 for mask, choice in zip(masks, encoding, strict=False)):
            played.append(encoding)
    assert played == list(problem().encodings())


def test_a_plan_within_the_limit_is_evaluated_at_its_end() -> None:
    _, total, info = episode(make(), (2, 0, 1, 0))
    assert total == 0.7
    expected = {"encoding": (2, 0, 1, 0), "reward": 0.7, "overhead": 0.05, "evaluated": True}
    assert info == {**expected, "overhead": pytest.approx(0.05)}
    assert EVALUATED == [(2, 0, 1, 0)]


@pytest.mark.parametrize("over_limit", ["mask", "penalty"])
def test_a_plan_over_the_limit_is_never_evaluated(over_limit: str) -> None:
    seen, total, info = episode(make(over_limit), (2, 0, 2, 2))
    assert total == info["reward"] == pytest.approx(-0.09)
    assert info["evaluated"] is False
    assert EVALUATED == []
    assert all(o["action_mask"].all() for o in seen) == (over_limit == "penalty")


def test_a_spent_budget_gives_no_value() -> None:
    env = PlacementEnv({"problem": problem(), "evaluate": lambda encoding: None})
    _, total, info = episode(env, (0, 0, 0, 0))
    assert (total, info["evaluated"]) == (0.0, False)


def test_without_history_only_the_last_choice_and_what_it_left_are_seen() -> None:
    with_history, without = make(), make(history=False)
    # the same spent, the same last choice, another encoding
    encodings: list[Encoding] = [(1, 1, 0), (2, 0, 0)]
    full = [prefix_of(with_history, encoding) for encoding in encodings]
    short = [prefix_of(without, encoding) for encoding in encodings]
    assert not np.array_equal(*full)
    assert np.allclose(*short)
    assert not np.allclose(prefix_of(without, (1, 1, 1)), short[0])
    assert full[0].size - short[0].size == 12


def prefix_of(env: PlacementEnv, prefix: Encoding) -> np.ndarray:
    observation = env.reset()[0]
    for choice in prefix:
        observation = env.step(np.int64(choice))[0]
    return observation["observations"]


def test_an_observation_tells_layer_cost_and_what_is_left() -> None:
    values = prefix_of(make(history=False), (2,)).tolist()
    place, kind, features = values[:4], values[4:7], values[7:12]
    costs, macs, used, previous = values[12:15], values[15:18], values[18:22], values[22:]
    assert (place, kind) == ([0, 1, 0, 0], [0, 0, 1])
    assert features == pytest.approx([0.2, 0.3, 0.4, 0.25, 0.1])
    assert costs == pytest.approx([0, 0.02 / 0.05, 10])  # far over the limit: cut
    assert macs == [0, 0, 0]  # without a limit
    assert used == pytest.approx([0.6, 0, 0.4, 1])
    assert previous == [0, 0, 1]


def test_an_episode_without_an_evaluator_gives_nothing() -> None:
    """Its reward comes from elsewhere, so that no network and no data are in the configuration."""
    config = {"problem": problem(), "history": True}
    assert len(pickle.dumps(config)) < 2000
    copy = PlacementEnv(pickle.loads(pickle.dumps(config)))
    _, total, info = episode(copy, (1, 0, 0, 0))
    assert (total, info["evaluated"], EVALUATED) == (0.0, False, [])
