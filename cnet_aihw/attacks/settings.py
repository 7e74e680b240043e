"""Settings of attacks, readable without torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.runtime.typed import check_fields, check_type
from cnet_aihw.runtime.values import bad_choice, check_count, check_seed, is_number

THREATS = ("nominal", "other_chip", "other_chips_eot", "this_chip", "this_chip_eot")
"""Knowledge of attackers: the nominal weights, one other chip, the mean over several other chips,
the chip itself, the mean over several readings of the chip itself."""

NORMS = ("inf", "2", "0")
"""Norms of budgets: largest change of a pixel, Euclidean length, number of changed pixels."""


@dataclass
class AttackSettings:
    """An attack, what it knows, and how it is judged."""

    method: Any = None
    """The attack, as a Hydra target."""

    threat: list[str] = field(default_factory=lambda: ["nominal", "other_chip", "this_chip"])
    """Knowledge of the attackers: ``nominal`` (the trained weights), ``other_chip`` (one other
    chip), ``other_chips_eot`` (the mean over several other chips), ``this_chip`` (the chip itself),
    ``this_chip_eot`` (the mean over several readings of it)."""

    eps: list[Any] = field(default_factory=lambda: ["1/255", "2/255", "4/255", "8/255"])
    """Budgets in pixel units, where pixels are 0 to 1; numbers, or fractions in quotes."""

    samples: int = 200
    """Samples of the test part that are attacked, from its beginning."""

    chips: int = 5
    """Number of chips that are attacked, the first ones of the evaluation."""

    sources: int | None = None
    """Number of chips that ``other_chip`` attacks from, the first ones; null: as many as are
    attacked, at least 2."""

    readings: int = 5
    """Readings of a chip that judge an input, by majority, where reading is random."""

    eot_chips: int = 8
    """Number of other chips in the mean of ``other_chips_eot``; none of them is attacked."""

    eot_readings: int = 8
    """Number of readings in the mean of ``this_chip_eot``."""

    seed: int = 0
    """Seed of the attacks' random draws; the chips have that of the evaluation."""

    checks: bool = True
    """Whether the attack checks itself: more steps, the whole range, gradients by differences."""


def validate_attack_settings(settings: AttackSettings) -> None:
    """Check all values but the attack, which checks itself.

    Raises:
        CnetError: names the field, its value and what is allowed.
    """
    check_type("attack", settings, AttackSettings)
    check_fields(settings, "attack.")
    threats_of(settings.threat, "attack.threat")
    eps_of(settings.eps, "attack.eps")
    for name, least in (
        *(("samples", 1), ("chips", 1), ("readings", 1), ("eot_chips", 2), ("eot_readings", 2)),
    ):
        check_count(f"attack.{name}", getattr(settings, name), least)
    if settings.sources is not None:
        check_count("attack.sources", settings.sources, 2)
    check_seed("attack.seed", settings.seed)


def threats_of(threat: str | Iterable[str], key: str = "threat") -> list[str]:
    """Return the threats asked for, each once.

    Raises:
        CnetError: for an unknown threat, or none.
    """
    found = [threat] if isinstance(threat, str) else list(dict.fromkeys(threat))
    for name in found:
        if name not in THREATS:
            raise bad_choice(key, name, THREATS)
    if not found:
        raise bad_value(key, found, f"one or more of {', '.join(THREATS)}")
    return found


def eps_of(eps: Any, key: str = "eps") -> list[float]:
    """Return budgets as numbers, each once, in their order.

    Args:
        eps: one budget or several; a number, or a fraction as text such as "8/255".
        key: name in messages.

    Raises:
        CnetError: for a budget that is not a finite number of at least 0, or none.
    """
    several = isinstance(eps, Iterable) and not isinstance(eps, str | Mapping)
    found = [_number(one, key) for one in (eps if several else [eps])]
    if not found:
        raise bad_value(key, found, "one or more budgets in pixel units")
    return list(dict.fromkeys(found))


def _number(eps: Any, key: str) -> float:
    value = eps
    if isinstance(eps, str):
        try:
            value = float(Fraction(eps.replace(" ", "")))
        except (ValueError, ZeroDivisionError):
            value = None
    if not is_number(value) or value < 0:
        raise bad_value(key, eps, "a budget in pixel units of at least 0, such as 0.03 or '8/255'")
    return float(value)
