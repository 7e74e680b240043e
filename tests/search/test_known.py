"""Prefixes that lead to nothing new, against the list of all encodings."""

import numpy as np
import pytest

from cnet_aihw.search.env import PlacementEnv
from cnet_aihw.search.known import ExhaustedPrefixes
from cnet_aihw.search.settings import ObjectiveSettings

from .synthetic import SMALL, placement_problem

PROBLEM = placement_problem(SMALL, 0.2)
ALL = list(PROBLEM.encodings())


@pytest.mark.parametrize("seed", range(3))
def test_a_choice_is_open_as_long_as_it_leads_to_something_new(seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(ALL))
    known = ExhaustedPrefixes(PROBLEM)
    prefixes = {encoding[:length] for encoding in ALL for length in range(3)}
    for count, index in enumerate(order, 1):
        known.add([ALL[index]])
        new = {ALL[i] for i in order[count:]}
        if count % 5 and new:
            continue
        for prefix in prefixes:
            possible = {e[len(prefix)] for e in new if e[: len(prefix)] == prefix}
            assert known.known(prefix) == (not possible)
            expected = possible or {c for c, fits in enumerate(PROBLEM.mask(prefix)) if fits}
            assert {c for c, is_open in enumerate(known.mask(prefix)) if is_open} == expected


@pytest.mark.parametrize("over_limit", ["mask", "penalty"])
def test_walks_of_the_environment_are_new(over_limit: str) -> None:
    problem = placement_problem(SMALL, 0.2, objective=ObjectiveSettings(over_limit=over_limit))
    env, rng, seen = PlacementEnv({"problem": problem}), np.random.default_rng(0), set()
    over = 0
    while len(seen) < len(ALL):
        observation, done = env.reset()[0], False
        while not done:
            choice = rng.choice(np.flatnonzero(observation["action_mask"]))
            observation, _, done, _, info = env.step(choice)
        if problem.fits(info["encoding"]):
            assert info["encoding"] not in seen
            seen.add(info["encoding"])
            env.known.add([info["encoding"]])
        over += not problem.fits(info["encoding"])
    assert (over > 0) == (over_limit == "penalty")
