"""Comparisons of attacks: with random noise of the same size, and with and without gradients."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cnet_aihw.attacks.checks import Check
from cnet_aihw.attacks.statistics import AttackStatistics, Success


def noise_checks(successes: Iterable[Success], inputs: int) -> list[Check]:
    """Say for each threat and budget whether random changes of the same size do better.

    Args:
        successes: statistics of attacks.
        inputs: inputs that were attacked; one input a chip counts as the same.
    """
    found = []
    for one in successes:
        if one.eps > 0 and one.mean is not None and one.noise is not None:
            words = (
                f"{one.threat}, eps {one.eps:.4g}: success {one.mean:.3f}, random noise of the "
                f"same size {one.noise:.3f}"
            )
            passed = one.mean >= one.noise - 1.0 / max(1.0, one.clean * inputs)
            found.append(Check("random_noise", passed, one.mean, one.noise, words))
    return found


def compare_attacks(results: Sequence[AttackStatistics], margin: float = 0.01) -> list[Check]:
    """Say whether attacks with gradients do at least as well as those without.

    Args:
        results: attacks on the same chips and inputs.
        margin: how much less success is taken for the same.

    Returns:
        One check for each threat and budget that the best of both kinds share, in the same norm.
    """
    best: dict[tuple[str, str, float], dict[bool, tuple[float, str]]] = {}
    for result in results:
        for one in result.successes:
            if one.eps > 0 and one.mean is not None:
                kinds = best.setdefault((result.norm, one.threat, one.eps), {})
                found = one.mean, str(result.attack["name"])
                kinds[result.white_box] = max(kinds.get(result.white_box, found), found)
    checks = []
    for (norm, threat, eps), kinds in best.items():
        if len(kinds) == 2:
            (white, white_name), (black, black_name) = kinds[True], kinds[False]
            words = (
                f"{threat}, eps {eps:.4g}, norm {norm}: {white_name}, with gradients, {white:.3f}; "
                f"{black_name}, without, {black:.3f}"
            )
            passed = white >= black - margin
            checks.append(Check("white_box", passed, white, black, words))
    return checks
