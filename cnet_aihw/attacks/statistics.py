"""Statistics of attacks over chips, from records."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from cnet_aihw.attacks.checks import Check
from cnet_aihw.evaluation.statistics import confidence_interval
from cnet_aihw.runtime.errors import CnetError

Records = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Success:
    """One threat and budget over chips.

    The success rate of a chip is fooled / clean-correct inputs of that chip, its mean over sources
    where an attacker has several.
    """

    threat: str
    """The attacker's knowledge, such as "this_chip"."""

    eps: float
    """The budget, in pixel units."""

    rates: tuple[float | None, ...]
    """Success rate on each chip, chip 0 first; None where no input is clean-correct."""

    mean: float | None
    """Mean success rate over chips."""

    std: float | None
    """Standard deviation over chips (n - 1 in the denominator); None for one chip."""

    min: float | None
    """Smallest success rate."""

    max: float | None
    """Largest success rate."""

    ci95: tuple[float, float] | None
    """95 % interval of the mean: Student's t over chips, or Wilson's over the inputs of one chip;
    within 0 to 1."""

    clean: float
    """Mean share of inputs that are classified correctly without an attack."""

    robust: float
    """Mean share of inputs that are classified correctly without and with it."""

    flips: float | None
    """Mean share of clean-correct inputs that other readings misclassify without any change."""

    noise: float | None
    """Mean success rate of random changes of the same size."""

    queries: float
    """Samples that went through a network, for each input attacked."""

    seconds: float
    """Time of the attacks together."""


@dataclass(frozen=True)
class AttackStatistics:
    """One attack on a number of chips."""

    attack: dict[str, Any]
    """Name and settings of the attack."""

    white_box: bool
    """Whether it uses gradients."""

    norm: str
    """Norm of the budgets: "inf", "2" or "0"."""

    inputs: int
    """Inputs that were attacked."""

    chips: int
    """Chips that were attacked."""

    readings: int
    """Readings that judged an input."""

    successes: tuple[Success, ...]
    """By threat, then by budget."""

    matrices: dict[float, list[list[float | None]]]
    """Budget -> success rates [source chip][target chip], where single chips were the source."""

    checks: tuple[Check, ...]
    """How the attack checked itself."""

    def of(self, threat: str, eps: float) -> Success:
        """Return the statistics of one threat and budget.

        Raises:
            CnetError: if it was not measured.
        """
        for success in self.successes:
            if success.threat == threat and success.eps == eps:
                return success
        measured = [(success.threat, success.eps) for success in self.successes]
        raise CnetError(
            f"({threat!r}, {eps}) was not measured; there are {measured}.",
            key="threat",
            value=(threat, eps),
            expected=measured,
        )

    def as_record(self) -> dict[str, Any]:
        """Return all fields as plain values for a record."""
        record = asdict(self)
        record["successes"] = [_plain(success) for success in record["successes"]]
        record["matrices"] = [{"eps": eps, "rates": m} for eps, m in self.matrices.items()]
        record["checks"] = [check.as_record() for check in self.checks]
        return record


def statistics_of(record: Mapping[str, Any]) -> AttackStatistics:
    """Return the statistics that :meth:`AttackStatistics.as_record` wrote.

    Args:
        record: the record; other keys in it are left out.
    """
    values = {field.name: record[field.name] for field in fields(AttackStatistics)}
    tuples = ("rates", "ci95")
    successes: list[dict[str, Any]] = [
        {n: tuple(v) if n in tuples and v is not None else v for n, v in success.items()}
        for success in values["successes"]
    ]
    return AttackStatistics(
        **{
            **values,
            "successes": tuple(Success(**success) for success in successes),
            "matrices": {matrix["eps"]: matrix["rates"] for matrix in values["matrices"]},
            "checks": tuple(Check(**check) for check in values["checks"]),
        }
    )


def wilson(fooled: float, correct: float) -> tuple[float, float] | None:
    """Return Wilson's 95 % interval of a success rate; None without inputs.

    Args:
        fooled: successes; a mean over several attackers of the same inputs need not be whole.
        correct: inputs.
    """
    if correct == 0:
        return None
    z, p = 1.959963984540054, fooled / correct
    scale = 1.0 + z * z / correct
    middle = (p + z * z / (2 * correct)) / scale
    half = z * math.sqrt(p * (1 - p) / correct + z * z / (4 * correct * correct)) / scale
    return max(0.0, middle - half), min(1.0, middle + half)


def success_of(records: Records, threat: str, eps: float, chips: int) -> Success:
    """Return the statistics of one threat and budget.

    Args:
        records: records of attacks on chips, at least one of this threat and budget.
        threat: the threat.
        eps: the budget.
        chips: number of chips.
    """
    chosen = [r for r in records if r["threat"] == threat and r["eps"] == eps]
    of_chips = [[r for r in chosen if r["target"] == chip] for chip in range(chips)]

    def over_chips(value: Callable[[Mapping[str, Any]], float | None]) -> list[float | None]:
        # some chips may have fewer sources than others; each chip counts the same
        return [_mean(map(value, of_chip)) for of_chip in of_chips]

    rates = over_chips(lambda r: _rate(r, "fooled"))
    values = [rate for rate in rates if rate is not None]
    mean = _mean(values)
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    interval = None
    if std is not None and mean is not None:
        low, high = confidence_interval(mean, std, len(values))
        interval = max(0.0, low), min(1.0, high)
    elif values:
        one = [r for r in chosen if r["clean_correct"]]  # of the one chip that has a rate
        counts = [_mean(r[n] for r in one) or 0.0 for n in ("fooled", "clean_correct")]
        interval = wilson(*counts)  # all sources fool the same inputs
    return Success(
        threat=threat,
        eps=eps,
        rates=tuple(rates),
        mean=mean,
        std=std,
        min=min(values, default=None),
        max=max(values, default=None),
        ci95=interval,
        clean=_mean(over_chips(lambda r: r["clean_correct"] / r["inputs"])) or 0.0,
        robust=_mean(over_chips(lambda r: (r["clean_correct"] - r["fooled"]) / r["inputs"])) or 0.0,
        flips=_mean(over_chips(lambda r: _rate(r, "flips"))),
        noise=_mean(over_chips(lambda r: _rate(r, "noise_fooled"))),
        queries=_mean({r["source"]: r["queries"] for r in chosen}.values()) or 0.0,
        seconds=math.fsum({r["source"]: r["seconds"] for r in chosen}.values()),
    )


def matrix_of(records: Records, eps: float, chips: int) -> list[list[float | None]]:
    """Return success rates [source chip][target chip]; None where not measured.

    Empty where no single chip is a source.
    """
    rates = {
        (r["source"], r["target"]): _rate(r, "fooled")
        for r in records
        if r["threat"] in ("other_chip", "this_chip") and r["eps"] == eps
    }
    sources = sorted({source for source, _ in rates})
    return [
        [rates.get((source, target)) for target in range(chips)]
        for source in range(max(sources, default=-1) + 1)
    ]


def _rate(record: Mapping[str, Any], name: str) -> float | None:
    correct = record["clean_correct"]
    return record[name] / correct if correct else None


def _mean(values: Iterable[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return math.fsum(found) / len(found) if found else None


def _plain(success: dict[str, Any]) -> dict[str, Any]:
    return {n: list(v) if isinstance(v, tuple) else v for n, v in success.items()}
