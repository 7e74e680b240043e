"""The environment: a gymnasium one, whose episodes are plans within the limit."""

import itertools
import pickle
from collections.abc import Iterator

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.search import (
    CandidateLayer,
    ObjectiveSettings,
    PlacementEnv,
    PlacementProblem,
    Plan,
    evaluation_service,
)

COSTS = ((0.0, 0.01, 0.03), (0.0, 0.02, 0.9), (0.0, 0.02, 0.04), (0.0, 0.01, 0.02))
EVALUATED: list[Plan] = []


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
        ObjectiveSettings(over_limit=over_limit),
    )


def evaluate(plan: Plan) -> float:
    EVALUATED.append(plan)
    return 0.9 - 0.1 * plan[0]


@pytest.fixture(autouse=True)
def service() -> Iterator[None]:
    EVALUATED.clear()
    with evaluation_service("test", evaluate):
        yield


def make(over_limit: str = "mask", history: bool = True) -> PlacementEnv:
    config = {"problem": problem(over_limit), "service": "test", "history": history}
    return PlacementEnv(config)


def walk(env: PlacementEnv, plan: Plan) -> tuple[list[dict[str, np.ndarray]], float, dict]:
    """All observations, the return and the last info."""
    seen, total, info = [env.reset()[0]], 0.0, {}
    for index, choice in enumerate(plan):
        observation, reward, done, truncated, info = env.step(np.int64(choice))
        seen.append(observation)
        total += reward
        assert done == (index == len(plan) - 1)
        assert done or (reward == 0.0 and info == {})
        assert not truncated
    return seen, total, info


@pytest.mark.filterwarnings("ignore:.*Not able to test alternative render modes.*")
@pytest.mark.parametrize("history", [True, False])
@pytest.mark.parametrize("over_limit", ["mask", "penalty"])
def test_it_is_a_gymnasium_environment(over_limit: str, history: bool) -> None:
    check_env(make(over_limit, history))


def test_every_plan_within_the_limit_can_be_walked_and_no_other() -> None:
    env = make()
    walked = []
    for plan in itertools.product(range(3), repeat=4):
        masks = [observation["action_mask"] for observation in walk(env, plan)[0]]
        if all(mask[choice] == 1.0 for mask, choice in zip(masks, plan, strict=False)):
            walked.append(plan)
    assert walked == list(problem().plans())


def test_a_plan_within_the_limit_is_evaluated_at_its_end() -> None:
    _, total, info = walk(make(), (2, 0, 1, 0))
    assert total == 0.7
    expected = {"plan": (2, 0, 1, 0), "reward": 0.7, "overhead": 0.05, "evaluated": True}
    assert info == {**expected, "overhead": pytest.approx(0.05)}
    assert EVALUATED == [(2, 0, 1, 0)]


@pytest.mark.parametrize("over_limit", ["mask", "penalty"])
def test_a_plan_over_the_limit_is_never_evaluated(over_limit: str) -> None:
    seen, total, info = walk(make(over_limit), (2, 0, 2, 2))
    assert total == info["reward"] == pytest.approx(-0.09)
    assert info["evaluated"] is False
    assert EVALUATED == []
    assert all(o["action_mask"].all() for o in seen) == (over_limit == "penalty")


def test_a_spent_budget_gives_no_value() -> None:
    with evaluation_service("spent", lambda plan: None):
        env = PlacementEnv({"problem": problem(), "service": "spent"})
        _, total, info = walk(env, (0, 0, 0, 0))
    assert (total, info["evaluated"]) == (0.0, False)


def test_without_history_only_the_last_choice_and_what_it_left_are_seen() -> None:
    with_history, without = make(), make(history=False)
    # the same spent, the same last choice, another plan
    plans: list[Plan] = [(1, 1, 0), (2, 0, 0)]
    full = [walk_part(with_history, plan) for plan in plans]
    short = [walk_part(without, plan) for plan in plans]
    assert not np.array_equal(*full)
    assert np.allclose(*short)
    assert not np.allclose(walk_part(without, (1, 1, 1)), short[0])
    assert full[0].size - short[0].size == 12


def walk_part(env: PlacementEnv, prefix: Plan) -> np.ndarray:
    observation = env.reset()[0]
    for choice in prefix:
        observation = env.step(np.int64(choice))[0]
    return observation["observations"]


def test_an_observation_tells_layer_cost_and_what_is_left() -> None:
    values = walk_part(make(history=False), (2,)).tolist()
    place, kind, features = values[:4], values[4:7], values[7:12]
    costs, used, previous = values[12:15], values[15:17], values[17:]
    assert (place, kind) == ([0, 1, 0, 0], [0, 0, 1])
    assert features == pytest.approx([0.2, 0.3, 0.4, 0.25, 0.1])
    assert costs == pytest.approx([0, 0.02 / 0.05, 10])  # far over the limit: cut
    assert used == pytest.approx([0.6, 0.4])
    assert previous == [0, 0, 1]


def test_nothing_but_the_problem_is_in_its_configuration() -> None:
    """So that an agent's checkpoint holds no network and no data."""
    config = {"problem": problem(), "service": "test", "history": True}
    assert len(pickle.dumps(config)) < 2000
    copy = PlacementEnv(pickle.loads(pickle.dumps(config)))
    assert walk(copy, (1, 0, 0, 0))[1] == 0.8


def test_a_service_is_found_by_its_name_while_it_runs() -> None:
    env = PlacementEnv({"problem": problem(), "service": "other"})
    with pytest.raises(CnetError, match="no evaluation service 'other' runs in this process"):
        walk(env, (0, 0, 0, 0))
    with (
        pytest.raises(CnetError, match="'test' runs already"),
        evaluation_service("test", evaluate),
    ):
        pass
    assert walk(make(), (0, 0, 0, 0))[1] == 0.9
