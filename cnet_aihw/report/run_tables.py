"""The tables of a run: which record each value is taken from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cnet_aihw.report.reading import Measurement, RunRecords, Search, Training
from cnet_aihw.report.tables import Column, Table

RESULTS = (
    Column("training"),
    Column("compensation"),
    Column("search"),
    Column("t_inference", "since programming", "s"),
    Column("clean", unit="%"),
    Column("mean", "mean", "%"),
    Column("std", unit="%"),
    Column("q05", "5 % quantile", "%"),
    Column("min", "worst chip", "%"),
    Column("yield", unit="%"),
    Column("threshold", unit="%"),
    Column("recovery", unit="%"),
    Column("overhead_weights", "weights added", "%"),
    Column("overhead_macs", "MACs added", "%"),
    Column("levels"),
    Column("adc_bits", "ADC bits"),
    Column("adc_cost", "ADC steps"),
    Column("chips"),
    Column("seed", "chips' seed"),
    Column("training_seed", "training's seed"),
    Column("training_seconds", "to train", "s"),
    Column("chips_seconds", "on chips", "s"),
    Column("command"),
)
SEARCHES = (
    Column("training"),
    Column("search"),
    Column("seed"),
    Column("evaluations"),
    Column("budget"),
    Column("reward"),
    Column("accuracy", unit="%"),
    Column("std", unit="%"),
    Column("q05", "5 % quantile", "%"),
    Column("overhead_weights", "weights added", "%"),
    Column("overhead_macs", "MACs added", "%"),
    Column("seconds", "time", "s"),
    Column("placement"),
)

_NETWORK = (Column("training"), Column("compensation"))
_LAYER = (Column("layer"), Column("index"))


def results_table(run: RunRecords) -> Table:
    """One row for each network and time.

    All from chips*.json; recovery and what the crossbars cost from table.json, times from
    result.json and chips*.jsonl.
    """
    in_table = {_key(row): row for row in run.table.get("rows", ())}
    rows: list[dict[str, Any]] = []
    for training in run.trainings:
        for measured in training.measurements:
            for statistics in measured.record["statistics"]:
                row = {**statistics, **_network(measured), "search": measured.search}
                row = {**in_table.get(_key(row), {}), **row}
                row["recovery"] = in_table.get(_key(row), {}).get("recovery")
                for name in ("overhead_weights", "overhead_macs"):
                    row[name] = measured.record.get("compensation", {}).get(name)
                row["training_seed"] = _seed(measured)
                row["training_seconds"] = (training.result or {}).get("seconds")
                row["chips_seconds"] = _seconds(measured, statistics["t_inference"])
                row["command"] = measured.record.get("command")
                rows.append(row)
    return Table("results", RESULTS, rows)


def results_text(results: Table) -> str:
    """What the numbers of such a table are."""
    text = (
        "Accuracy on the test part: clean, and over chips programmed with the variation (std: "
        "standard deviation over chips)."
    )
    least = sorted({row["threshold"] for row in results.rows if row.get("threshold") is not None})
    if least:
        reached = " or ".join(f"{100.0 * threshold:g}\N{NO-BREAK SPACE}%" for threshold in least)
        text += f" Yield is the share of chips with an accuracy of at least {reached}."
    return text


def chips_table(run: RunRecords) -> Table:
    """The accuracy of each chip, from the statistics in chips*.json."""
    columns = (*_NETWORK, Column("t_inference"), Column("chip"), Column("accuracy", unit="%"))
    rows = [
        {
            **_network(measured),
            "t_inference": statistics["t_inference"],
            "chip": chip,
            "accuracy": accuracy,
        }
        for measured in run.measurements
        for statistics in measured.record["statistics"]
        for chip, accuracy in enumerate(statistics["accuracies"])
    ]
    return Table("chips", columns, rows)


def growth_table(run: RunRecords) -> Table:
    """The growth of the error through the layers, from chips*.json."""
    columns = (
        *(*_NETWORK, *_LAYER, Column("mean"), Column("low"), Column("high")),
        *(Column("chips"), Column("samples")),
    )
    rows = [
        {**row, **_network(measured)}
        for measured in run.measurements
        for row in measured.record.get("error_growth", ())
    ]
    return Table("error-growth", columns, rows)


def epochs_table(run: RunRecords, fit: bool = False) -> Table:
    """Each epoch of the trainings, or of the fits of compensation, from epochs.jsonl."""
    names = ("clean_accuracy", "chip_accuracy", "chip_std", "train_accuracy")
    columns = (
        *(Column("training"), Column("epoch"), Column("loss"), Column("penalty"), Column("lr")),
        *(Column(name, unit="%") for name in names),
        Column("seconds", unit="s"),
    )
    rows = [
        {**record, "training": training.name}
        for training in run.trainings
        for record in (training.fit if fit else training.epochs)
    ]
    return Table("fit-epochs" if fit else "epochs", columns, rows)


def norms_table(run: RunRecords) -> Table:
    """Spectral norms of the selected epoch, from epochs.jsonl; lambda from result.json."""
    rows: list[dict[str, Any]] = []
    for training in run.trainings:
        if training.result is None:
            continue
        chosen = training.result["best_epoch"]
        of_chosen = (record for record in training.epochs if record["epoch"] == chosen)
        norms = next(of_chosen, {}).get("spectral_norms", {})
        rows += [
            {
                "training": training.name,
                "layer": layer,
                "spectral_norm": norm,
                "lambda": training.result["lambda_"],
            }
            for layer, norm in norms.items()
        ]
    columns = (Column("training"), Column("layer"), Column("spectral_norm"), Column("lambda"))
    return Table("spectral-norms", columns, rows)


def sensitivity_table(run: RunRecords) -> Table:
    """Accuracy with variation in some layers only, and the candidates, from scan.json."""
    columns = (
        *(Column("training"), Column("mode"), *_LAYER, Column("clean", unit="%")),
        *(Column("mean", unit="%"), Column("std", unit="%")),
        *(Column("ci95_low", unit="%"), Column("ci95_high", unit="%"), Column("chips")),
        *(Column("seed"), Column("candidate")),
    )
    rows = [
        {
            **row,
            "training": training.name,
            "candidate": row["layer"] in training.scan["candidates"],
        }
        for training in run.trainings
        if training.scan is not None
        for row in training.scan["rows"]
    ]
    return Table("sensitivity", columns, rows)


def placement_table(run: RunRecords) -> Table:
    """What compensation each layer has, and its cost, from compensation.json."""
    columns = (
        *(Column("training"), Column("layer"), Column("ratio"), Column("candidate")),
        *(Column("weights", "weights added"), Column("macs", "MACs added")),
    )
    rows: list[dict[str, Any]] = []
    for training in run.trainings:
        described = training.compensation
        if described is None or not described["placement"]:
            continue
        candidates = described["candidates"] or ()
        layers = dict.fromkeys([*_layers(training), *described["placement"]])
        rows += [
            {
                "training": training.name,
                "layer": layer,
                "ratio": described["placement"].get(layer, 0.0),
                "candidate": layer in candidates,
                "weights": described["weights"].get(layer, 0),
                "macs": described["macs"].get(layer, 0),
            }
            for layer in layers
        ]
    return Table("placement", columns, rows)


def searches_table(run: RunRecords) -> Table:
    """One row for each search: the best of its evaluations, from search.jsonl."""
    rows = []
    for training in run.trainings:
        for search in training.searches:
            if not search.rows:
                continue
            best = max(search.rows, key=lambda row: row["reward"])  # the first of equals
            rows.append(
                {
                    **best,
                    "training": training.name,
                    "search": search.searcher,
                    "seed": search.seed,
                    "evaluations": len(search.rows),
                    "budget": search.described.get("budget"),
                    "seconds": math.fsum(r["seconds"] for r in search.rows if not r["cached"]),
                    "placement": placement_text(best["placement"]),
                }
            )
    return Table("searches", SEARCHES, rows)


def evaluations_table(name: str, searches: Iterable[Search]) -> Table:
    """All evaluations of some searches, from search.jsonl."""
    names = ("evaluation", "reward", "best_reward", "accuracy", "std", "q05")
    columns = (
        *(Column("searcher"), Column("seed"), *map(Column, names), Column("overhead_weights")),
        *(Column("overhead_macs"), Column("cached"), Column("seconds"), Column("placement")),
    )
    rows = [
        {
            **row,
            "searcher": search.searcher,
            "seed": search.seed,
            "placement": placement_text(row["placement"]),
        }
        for search in searches
        for row in search.rows
    ]
    return Table(f"search-{name}", columns, rows)


def limit_of(searches: Iterable[Search]) -> tuple[str, float | None]:
    """The measure of the overhead, ``weights`` or ``macs``, and the limit that all searches had."""
    problems = [search.problem for search in searches if search.problem]
    limits = {problem["limit"] for problem in problems}
    measure = problems[0]["objective"]["overhead"] if problems else "weights"
    return measure, limits.pop() if len(limits) == 1 else None


def placement_text(placement: Mapping[str, Any]) -> str:
    """A placement in a few words."""
    shares = (f"{n}: {r:g}" if isinstance(r, float) else f"{n}: {r}" for n, r in placement.items())
    return ", ".join(shares) or "none"


def _layers(training: Training) -> Sequence[str]:
    """The network's analog layers in the order of execution, as far as records name them."""
    for measured in training.measurements:
        if measured.record.get("error_growth"):
            return [row["layer"] for row in measured.record["error_growth"]]
    rows = (training.scan or {}).get("rows", ())
    return list(dict.fromkeys(row["layer"] for row in rows))


def _network(measured: Measurement) -> dict[str, Any]:
    return {"training": measured.training, "compensation": measured.compensation}


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["training"], row.get("compensation"), row.get("t_inference")


def _seed(measured: Measurement) -> Any:
    return measured.record.get("config", {}).get("training", {}).get("seed")


def _seconds(measured: Measurement, t_inference: float | None) -> float | None:
    seconds = [r["seconds"] for r in measured.chips if r.get("t_inference") == t_inference]
    return math.fsum(seconds) if seconds else None
