"""Tables of uncertainty, from the contents of TRAINING/uncertainty-*.json."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cnet_aihw.report.load import RunRecords
from cnet_aihw.report.tables import Column, Table

UNCERTAINTY_TEXT = (
    "Predictions are means over samples: of several chips, of readings of one chip, or of its "
    "stochastic cells. Mean over chips, on the test part. The negative log likelihood (in nats) "
    "judges accuracy and confidence together; the expected calibration error depends on bins and "
    "on the number of inputs, so that it stands beside the others. Entropy is the uncertainty in "
    "all; mutual information is the part of it in which samples differ. AUROC is of telling inputs "
    "of another kind apart by the entropy. Corrections are fitted to the validation part, on each "
    "chip. Digital baselines have no chip."
)

_SCORES = (
    *("accuracy", "nll", "brier", "ece", "ece_mass", "entropy", "mutual_information"),
    *("auroc_entropy", "auroc_mutual_information"),
)


def uncertainty_columns() -> tuple[Column, ...]:
    """Return the columns of a table of uncertainty."""
    number = "{:.3f}".format
    return (
        Column("training"),
        Column("method"),
        Column("correction"),
        Column("t_inference", "time", "s", text="{:g}".format),
        Column("samples"),
        Column("accuracy", unit="%"),
        Column("nll", "NLL", text=number),
        Column("nll_std", "std", text=number),
        Column("brier", "Brier", text=number),
        Column("ece", "ECE", text=number),
        Column("ece_mass", "ECE, equal mass", text=number),
        Column("entropy", text=number),
        Column("mutual_information", "mutual information", text=number),
        Column("auroc_entropy", "AUROC entropy", text=number),
        Column("auroc_mutual_information", "AUROC mutual information", text=number),
        Column("chips"),
    )


def uncertainty_rows(found: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one row for each network, method, correction, time and number of samples.

    Args:
        found: contents of uncertainty-*.json.
    """
    return [
        {
            **{name: result[name] for name in ("training", "method", "correction", "chips")},
            **{name: row[name] for name in ("samples", "t_inference")},
            **{name: row["mean"].get(name) for name in _SCORES},
            "nll_std": None if row["std"] is None else row["std"]["nll"],
        }
        for result in found
        for row in result["rows"]
    ]


def uncertainties_table(run: RunRecords) -> Table:
    """Return the table of uncertainty of a run."""
    return Table("uncertainties", uncertainty_columns(), uncertainty_rows(_found(run)))


def reliability_table(run: RunRecords) -> Table:
    """Return the reliability diagrams: the bins that hold inputs."""
    columns = (
        Column("training"),
        Column("method"),
        Column("correction"),
        Column("inputs"),
        Column("confidence", "mean largest probability", text="{:.3f}".format),
        Column("accuracy", "share correct", text="{:.3f}".format),
    )
    rows = [
        {
            **{name: result[name] for name in ("training", "method", "correction")},
            "inputs": count,
            "confidence": confidence,
            "accuracy": accuracy,
        }
        for result in _found(run)
        for count, confidence, accuracy in result["reliability"]
        if count
    ]
    return Table("reliability", columns, rows)


def _found(run: RunRecords) -> list[Mapping[str, Any]]:
    return [record for training in run.trainings for record in training.uncertainties]
