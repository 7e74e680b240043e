"""Findings that pages state in words hold in the results that are there."""

from pathlib import Path
from typing import Any

import pytest

from cnet_aihw.runtime.records import read_json

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
MIDDLE = {"lenet5_mnist": 0.1, "lenet5_cifar10": 4 / 255}
"""Budget of the attacks that are compared."""

CORRECTED = "lipschitz, per chip"


def success(network: str, attack: str = "pgd") -> dict[str, dict[str, float]]:
    """Return recipe -> threat -> success of an attack."""
    found: dict[str, dict[str, float]] = {}
    for row in read_json(RESULTS / "attacks.json")["rows"]:
        if (row["network"], row["attack"]) == (network, attack) and row["eps"] == MIDDLE[network]:
            found.setdefault(row["recipe"], {})[row["threat"]] = row["success"]
    return found


@pytest.mark.parametrize("network", MIDDLE)
@pytest.mark.parametrize("attack", ["pgd", "apgd"])
def test_whether_variation_protects_depends_on_the_attacker(network: str, attack: str) -> None:
    recipes = success(network, attack)
    assert len(recipes) >= 4
    for found in recipes.values():
        assert found["other_chip"] < found["nominal"] < found["this_chip"]
        assert found["this_chip_eot"] < found["this_chip"] + 0.06


@pytest.mark.parametrize("network", MIDDLE)
def test_correctors_let_attacks_on_the_trained_network_carry_over(network: str) -> None:
    recipes = success(network)
    assert recipes["plain, per chip"]["nominal"] > recipes["plain"]["nominal"]
    assert recipes[CORRECTED]["this_chip"] < recipes["plain"]["this_chip"]
    hardest = min(recipes, key=lambda name: recipes[name]["this_chip"])
    assert hardest == (CORRECTED if network == "lenet5_mnist" else "noise")


@pytest.mark.parametrize("network", MIDDLE)
def test_within_the_smallest_budget_more_images_stay_right_with_correctors(network: str) -> None:
    rows = read_json(RESULTS / "attacks.json")["rows"]
    rows = [row for row in rows if (row["network"], row["attack"]) == (network, "pgd")]
    least = min(row["eps"] for row in rows)
    robust = {(r["recipe"], r["threat"]): r["robust"] for r in rows if r["eps"] == least}
    threats = {threat for _, threat in robust}
    assert len(threats) == 5
    for threat in threats:
        assert robust[CORRECTED, threat] > robust["lipschitz", threat] + 0.05


def tuned(network: str, sigma: float, rewrite: float) -> dict[str, dict[str, Any]]:
    """Return way -> row."""
    rows = read_json(RESULTS / "tuning.json")["rows"]
    return {
        row["way"]: row
        for row in rows
        if (row["network"], row["sigma"], row["rewrite_sigma"]) == (network, sigma, rewrite)
    }


@pytest.mark.parametrize("network", MIDDLE)
@pytest.mark.parametrize("rewrite", [0.0, 0.1, 0.3])
def test_at_twice_the_variation_of_the_training_correctors_are_the_best_way(
    network: str, rewrite: float
) -> None:
    found = tuned(network, 1.0, rewrite)
    assert max(found, key=lambda way: found[way]["score"]) == "correctors"
    assert found["correctors"]["writes_most"] == 1
    writing = [row for row in found.values() if row["writes_most"] > 1]
    assert max(writing, key=lambda row: row["score"])["writes_most"] == 49
    assert abs(found["exact"]["score"] - found["physics-aware"]["score"]) < 0.015
    assert 45 < found["physics-aware"]["angle"] < 60


@pytest.mark.parametrize("rewrite", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("sigma", [0.3, 0.5])
def test_up_to_the_variation_of_the_training_little_is_lost(sigma: float, rewrite: float) -> None:
    for way, row in tuned("lenet5_mnist", sigma, rewrite).items():
        assert abs(row["score"] - row["before"]) < 0.01 or way == "random target"
    found = tuned("lenet5_cifar10", sigma, rewrite)
    gain = found["physics-aware"]["score"] - found["physics-aware"]["before"]
    assert 0.01 < gain < 0.045
    assert found["physics-aware"]["score"] > found["correctors"]["score"] - 0.001
    assert found["random target"]["score"] < found["random target"]["before"] - 0.1
