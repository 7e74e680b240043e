"""Tables of attacks on chips, from the contents of TRAINING/attack-*.json."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cnet_aihw.report.load import RunRecords
from cnet_aihw.report.run_tables import NETWORK
from cnet_aihw.report.tables import ACCURACY, Column, Metric, Table

ATTACKS_TEXT = (
    "How often small changes of the inputs fool a chip. The success rate counts the inputs that "
    "the same chip classifies correctly without an attack. Budgets are in pixel units, where "
    "pixels are 0 to 1 (numbers of pixels in the norm 0). The threat is what the attacker has: the "
    "nominal weights, one other chip, the chip itself, or the mean over several other chips or "
    "readings (eot). Random noise is the success of random changes of the same size."
)

_SUCCESS = ("threat", "eps", "clean", "robust", "mean", "std", "min", "max", "noise", "flips")


def attack_columns(metric: Metric) -> tuple[Column, ...]:
    """Return the columns of a table of attacks; success rates are in percent whatever the score."""
    return (
        *NETWORK,
        Column("attack"),
        Column("norm"),
        Column("threat"),
        Column("eps"),
        Column("clean", "clean accuracy", metric.unit),
        Column("robust", "robust accuracy", metric.unit),
        Column("mean", "success", "%"),
        Column("std", unit="%"),
        Column("ci95_low", "95 % from", "%"),
        Column("ci95_high", "to", "%"),
        Column("min", "least", "%"),
        Column("max", "most", "%"),
        Column("noise", "random noise", "%"),
        Column("flips", "flips without attack", "%"),
        Column("queries", text="{:.4g}".format),
        Column("checks", "checks passed"),
        Column("chips"),
        Column("inputs"),
    )


def attack_rows(found: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one row for each network, attack, threat and budget.

    Args:
        found: contents of attack-*.json.
    """
    return [
        {
            **_network(result),
            **{name: success[name] for name in _SUCCESS},
            "ci95_low": success["ci95"] and success["ci95"][0],
            "ci95_high": success["ci95"] and success["ci95"][1],
            "queries": success["queries"],
            "checks": _passed(result["checks"]),
            "chips": result["chips"],
            "inputs": result["inputs"],
        }
        for result in found
        for success in result["successes"]
    ]


def attacks_table(run: RunRecords) -> Table:
    """Return the table of all attacks of a run."""
    return Table("attacks", attack_columns(ACCURACY), attack_rows(_found(run)))


def matrix_table(run: RunRecords) -> Table:
    """Return success rates by source and target chip, at the middle budget of each attack."""
    columns = (
        *NETWORK,
        Column("attack"),
        Column("norm"),
        Column("eps"),
        Column("source", "source chip"),
        Column("target", "target chip"),
        Column("success", unit="%"),
    )
    rows = [
        {**_network(result), "eps": eps, "source": source, "target": target, "success": rate}
        for result in _found(run)
        for eps, rates in _middle(result["matrices"])
        for source, line in enumerate(rates)
        for target, rate in enumerate(line)
        if rate is not None
    ]
    return Table("attack-matrix", columns, rows)


def failed_checks(run: RunRecords) -> list[str]:
    """Return a sentence for each check that an attack did not pass."""
    return [
        f"{result['training']}, {result['attack']['name']}: a check was not passed: "
        f"{check['sentence']}."
        for result in _found(run)
        for check in result["checks"]
        if not check["passed"]
    ]


def _found(run: RunRecords) -> list[Mapping[str, Any]]:
    return [record for training in run.trainings for record in training.attacks]


def _network(result: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{name: result[name] for name in ("training", "compensation", "calibration")},
        "attack": result["attack"]["name"],
        "norm": result["norm"],
    }


def _middle(matrices: Sequence[Mapping[str, Any]]) -> list[tuple[float, Any]]:
    above = sorted((m for m in matrices if m["eps"] > 0), key=lambda m: float(m["eps"]))
    return [(m["eps"], m["rates"]) for m in above[len(above) // 2 :][:1]]


def _passed(checks: Sequence[Mapping[str, Any]]) -> str | None:
    return f"{sum(check['passed'] for check in checks)} of {len(checks)}" if checks else None
