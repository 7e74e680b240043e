"""The page of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from cnet_aihw.report import layer_tables, run_tables
from cnet_aihw.report.figures import chips, layers, search, training
from cnet_aihw.report.figures.plot import Colors, colors_of
from cnet_aihw.report.load import RunRecords, read_run
from cnet_aihw.report.page import Number, Page, Section, write_page
from cnet_aihw.report.search_tables import searches_table
from cnet_aihw.report.style import figure_style
from cnet_aihw.report.tables import Table, percent_text


def write_run_report(folder: str | Path) -> Path:
    """Write the page of a run from the records in its folder.

    Args:
        folder: the run's folder, whole or not.

    Returns:
        The page, FOLDER/report.html.

    Raises:
        CnetError: if the folder holds no run.
    """
    run = read_run(folder)
    with figure_style():
        return write_page(_page(run), Path(folder))


def _page(run: RunRecords) -> Page:
    results, origin = run_tables.results_table(run), _origin(run)
    colors = colors_of(of.name for of in run.trainings)
    return Page(
        title=_title(origin, run),
        subtitle=_subtitle(origin, run),
        command=run.table.get("command", origin.get("command")),
        versions=", ".join(f"{name} {version}" for name, version in _versions(origin).items()),
        numbers=_numbers(results, run),
        missing=list(_missing(run)),
        sections=[
            Section(
                "Results",
                text=run_tables.results_text(results),
                table=results,
                notes=list(_without_compensation(run)),
            ),
            *_figures(run, results, colors),
            _search_section(run),
            Section("Configuration", details=list(_details(run))),
        ],
    )


def _figures(run: RunRecords, results: Table, colors: Colors) -> list[Section]:
    epochs = run_tables.epochs_table
    scan = layer_tables.sensitivity_table(run)
    return [
        Section(
            "On chips",
            plots=[
                chips.histogram(run_tables.chips_table(run), results, colors),
                chips.over_time(results, colors),
                layers.error_growth(layer_tables.growth_table(run), colors),
            ],
        ),
        Section(
            "Training",
            plots=[
                training.curves(epochs(run), colors),
                training.spectral_norms(layer_tables.norms_table(run), colors),
            ],
        ),
        Section(
            "Compensation",
            plots=[
                layers.sensitivity(scan, colors, _thresholds(run)),
                layers.placement(layer_tables.placement_table(run), colors),
                training.curves(epochs(run, fit=True), colors, fit=True),
            ],
        ),
    ]


def _search_section(run: RunRecords) -> Section:
    return Section(
        "Search",
        text="The best placement that each search found; accuracies are those of the search, on "
        "validation chips of its own.",
        table=searches_table(run),
        notes=[
            f"{of.name} was not searched: {of.not_searched}."
            for of in run.trainings
            if of.not_searched
        ],
        plots=[plot for of in run.trainings for plot in search.both(of.name, of.name, of.searches)],
    )


def _origin(run: RunRecords) -> Mapping[str, Any]:
    """What one of the results says it comes from; empty where there is none yet."""
    for of in run.trainings:
        for record in (*(m.record for m in of.measurements), of.scan, of.compensation):
            if record is not None and "config" in record:
                return record
    return {}


def _title(origin: Mapping[str, Any], run: RunRecords) -> str:
    if "model" in origin:
        return f"{origin['model']} on {origin['data']}"
    return f"Training of {', '.join(training.name for training in run.trainings)}"


def _subtitle(origin: Mapping[str, Any], run: RunRecords) -> str:
    words = []
    if "rram" in origin:
        found = (origin, *(m.record for m in run.measurements if "rram" in m.record))
        devices = dict.fromkeys(str(of.get("device", of["rram"])) for of in found)
        words.append(f"chips: {' and '.join(devices)}")
    counts = sorted({s["chips"] for m in run.measurements for s in m.record["statistics"]})
    words += [f"{' and '.join(map(str, counts))} chips measured"] if counts else []
    names = [training.name for training in run.trainings]
    words.append(f"training{'s' if len(names) > 1 else ''}: {', '.join(names)}")
    return " · ".join(words)


def _numbers(results: Table, run: RunRecords) -> list[Number]:
    """The best network on chips of the newest table, and the plain one; else the trainings."""
    if not results.rows:
        return [
            Number(percent_text(of.result["clean_accuracy"]), f"{of.name}: clean, validation part")
            for of in run.trainings
            if of.result is not None
        ]
    listed = {row["training"] for row in run.table.get("rows", ()) if "mean" in row}
    rows = [row for row in results.rows if row["training"] in listed] or results.rows
    best = max(rows, key=lambda row: row["mean"])
    what = ", ".join(filter(None, (best[k] for k in ("training", "compensation", "calibration"))))
    spread = "" if best["std"] is None else f"; standard deviation {percent_text(best['std'])}"
    numbers = [
        Number(
            percent_text(best["mean"]),
            f"mean accuracy on {best['chips']} chips",
            f"{what}, the highest of the table{spread}",
        ),
        Number(percent_text(best["q05"]), "5 % quantile over chips"),
    ]
    if best["yield"] is not None:
        least = percent_text(best["threshold"])
        numbers.append(Number(percent_text(best["yield"]), f"of chips reach {least}"))
    if best["recovery"] is not None:
        numbers.append(
            Number(percent_text(best["recovery"]), "recovery", "of the plain clean accuracy")
        )
    if best["overhead_weights"] is not None:
        macs = best["overhead_macs"]  # a calibration alone counts in weights only
        more = "" if macs is None else f"{percent_text(macs)} of MACs"
        numbers.append(Number(percent_text(best["overhead_weights"]), "weights added", more))
    plain = next((r for r in rows if r["training"] == "plain" and r["compensation"] is None), None)
    if plain is not None and plain is not best:
        clean = f"its clean accuracy is {percent_text(plain['clean'])}"
        numbers.append(
            Number(percent_text(plain["mean"]), "plain network on the same chips", clean)
        )
    return numbers


def _missing(run: RunRecords) -> Iterator[str]:
    for of in run.trainings:
        if of.run is None:
            continue  # trained in another run, and only searched here
        if of.result is None:
            yield f"{of.name}: its training is not finished; job=train goes on with it."
        elif not of.measurements:
            yield f"{of.name}: no chips are measured yet; job=evaluate does it."
    if run.measurements and not run.table:
        yield "There is no table.json, so that no recovery is known; job=table makes it."


def _without_compensation(run: RunRecords) -> Iterator[str]:
    for of in run.trainings:
        if of.compensation is not None and not of.compensation["placement"]:
            yield f"{of.name} has no compensation: {of.compensation['reason']}."


def _thresholds(run: RunRecords) -> dict[str, float]:
    return {
        of.name: of.scan["threshold"] * of.scan["clean"]
        for of in run.trainings
        if of.scan is not None
    }


def _details(run: RunRecords) -> Iterator[tuple[str, str]]:
    origin = _origin(run)
    if origin:
        shared = {name: v for name, v in origin["config"].items() if name != "training"}
        yield "Shared by all trainings", _yaml(shared)
    for of in run.trainings:
        config = next((m.record["config"]["training"] for m in of.measurements), None)
        if config is None and of.run is not None:
            config = of.run["identity"]["training"]
        if config is not None:
            yield f"Training {of.name}", _yaml(config)
    if origin:
        known = {**_versions(origin), "data fingerprint": origin["data_fingerprint"]}
        yield "Versions and data", _yaml(known)


def _versions(origin: Mapping[str, Any]) -> Mapping[str, str]:
    versions: Mapping[str, str] = origin.get("versions", {})
    return versions


def _yaml(values: Mapping[str, Any]) -> str:
    return str(yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True))
