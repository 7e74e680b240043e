"""The page of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from cnet_aihw.report import layer_tables, run_tables
from cnet_aihw.report.attack_tables import (
    ATTACKS_TEXT,
    attacks_table,
    failed_checks,
    matrix_table,
)
from cnet_aihw.report.chip_tables import (
    RECOVERED_TEXT,
    recovered_chips_table,
    recovered_table,
)
from cnet_aihw.report.figures import (
    attacks,
    chips,
    kernels,
    layers,
    search,
    training,
    tunings,
    uncertainty,
)
from cnet_aihw.report.figures.plot import Colors, colors_of
from cnet_aihw.report.kernel_tables import KERNELS_TEXT, kernels_table, pairs_table
from cnet_aihw.report.load import RunRecords, read_run
from cnet_aihw.report.page import Number, Page, Section, write_page
from cnet_aihw.report.search_tables import SEARCH_TEXT, searches_table
from cnet_aihw.report.style import figure_style
from cnet_aihw.report.tables import Table, counted, percent_text
from cnet_aihw.report.tuning_tables import TUNINGS_TEXT, course_table, tunings_table
from cnet_aihw.report.uncertainty_tables import (
    UNCERTAINTY_TEXT,
    reliability_table,
    uncertainties_table,
)


def write_run_report(folder: str | Path) -> Path:
    """Write the page of a run from the records in its folder.

    Args:
        folder: the run's folder, finished or not.

    Returns:
        The page, FOLDER/report.html.

    Raises:
        CnetError: if the folder holds no run.
    """
    run = read_run(folder)
    with figure_style():
        return write_page(_page(run), Path(folder))


def _page(run: RunRecords) -> Page:
    results, origin, metric = run_tables.results_table(run), _origin(run), run.metric
    colors = colors_of(of.name for of in run.trainings)
    return Page(
        title=_title(origin, run),
        subtitle=_subtitle(origin, run),
        command=run.table.get("command", _command(run)),
        versions=", ".join(f"{name} {of}" for name, of in origin.get("versions", {}).items()),
        numbers=_numbers(results, run),
        missing=list(_missing(run)),
        sections=[
            Section(
                "Results",
                text=run_tables.results_text(results, metric),
                table=results,
                notes=[
                    *_without_compensation(run),
                    *run_tables.worse_with_correctors(results.rows, metric),
                    *_selected(run),
                ],
            ),
            *_figures(run, results, colors),
            _search_section(run),
            _attack_section(run),
            _tuning_section(run),
            _uncertainty_section(run),
            _kernel_section(run),
            Section("Configuration", details=list(_details(run))),
        ],
    )


def _figures(run: RunRecords, results: Table, colors: Colors) -> list[Section]:
    epochs, metric = run_tables.epochs_table, run.metric
    scan, recovered = layer_tables.sensitivity_table(run), recovered_table(run)
    return [
        Section(
            "On chips",
            plots=[
                chips.histogram(run_tables.chips_table(run), results, colors, metric),
                chips.over_time(results, colors, metric),
                layers.error_growth(layer_tables.growth_table(run), colors),
            ],
        ),
        Section(
            "Training",
            plots=[
                training.curves(epochs(run), colors, metric=metric),
                training.spectral_norms(layer_tables.norms_table(run), colors),
            ],
        ),
        Section(
            "Compensation",
            text=RECOVERED_TEXT if recovered.rows else "",
            table=recovered,
            notes=list(_ceilings(run)),
            plots=[
                chips.before_after(recovered_chips_table(run), colors, metric),
                layers.sensitivity(scan, colors, _thresholds(run), metric),
                layers.placement(layer_tables.placement_table(run), colors),
                layers.filters(layer_tables.filters_table(run), colors),
                training.curves(epochs(run, fit=True), colors, True, metric),
            ],
        ),
    ]


def _search_section(run: RunRecords) -> Section:
    return Section(
        "Search",
        text=SEARCH_TEXT,
        table=searches_table(run),
        notes=[
            f"{of.name} was not searched: {of.not_searched}."
            for of in run.trainings
            if of.not_searched
        ],
        plots=[
            plot
            for of in run.trainings
            for plot in search.both(of.name, of.name, of.searches, run.metric)
        ],
    )


def _attack_section(run: RunRecords) -> Section:
    found = attacks_table(run)
    return Section(
        "Attacks",
        text=ATTACKS_TEXT,
        table=found,
        notes=failed_checks(run),
        plots=[attacks.success(found), attacks.matrix(matrix_table(run))],
    )


def _tuning_section(run: RunRecords) -> Section:
    found = tunings_table(run)
    return Section(
        "Tuning on chips",
        text=TUNINGS_TEXT,
        table=found,
        plots=[tunings.front(found, run.metric), tunings.course(course_table(run), run.metric)],
    )


def _uncertainty_section(run: RunRecords) -> Section:
    found = uncertainties_table(run)
    return Section(
        "Uncertainty",
        text=UNCERTAINTY_TEXT,
        table=found,
        plots=[
            uncertainty.reliability(reliability_table(run)),
            uncertainty.over_samples(found),
            uncertainty.over_time(found),
        ],
    )


def _kernel_section(run: RunRecords) -> Section:
    found = kernels_table(run)
    return Section(
        "Kernel features",
        text=KERNELS_TEXT,
        table=found,
        plots=[kernels.over_size(found, run.metric), kernels.expected(pairs_table(run))],
    )


def _origin(run: RunRecords) -> Mapping[str, Any]:
    """Return the provenance of the first result that has one; empty without results."""
    for of in run.trainings:
        later = (*of.attacks, *of.tunings, *of.uncertainties)
        for record in (*(m.record for m in of.measurements), of.scan, of.compensation, *later):
            if record is not None and "provenance" in record:
                provenance: Mapping[str, Any] = record["provenance"]
                return provenance
    return {} if run.kernels is None else run.kernels["provenance"]


def _command(run: RunRecords) -> str | None:
    commands = (m.record.get("command") for m in run.measurements)
    others = (
        record.get("command")
        for of in run.trainings
        for record in (of.scan, *of.attacks, *of.tunings, *of.uncertainties)
        if record is not None
    )
    last = (run.kernels or {}).get("command")
    return next((c for c in (*commands, *others) if c is not None), last)


def _title(origin: Mapping[str, Any], run: RunRecords) -> str:
    choices = origin.get("choices", {})
    if not run.trainings:
        return f"kernel features on {choices['data']}"
    if "model" in choices:
        return f"{choices['model']} on {choices['data']}"
    return f"Training of {', '.join(training.name for training in run.trainings)}"


def _subtitle(origin: Mapping[str, Any], run: RunRecords) -> str:
    words = []
    if origin.get("choices", {}).get("rram") is not None:
        found = (origin, *(m.provenance for m in run.measurements if m.provenance))
        devices = dict.fromkeys(str(of["noise_model"] or of["choices"]["rram"]) for of in found)
        words.append(f"chips: {' and '.join(devices)}")
    counts = sorted({s["chips"] for m in run.measurements for s in m.record["statistics"]})
    if counts:
        words.append(
            " and ".join([*map(str, counts[:-1]), counted(counts[-1], "chip")]) + " measured"
        )
    names = [training.name for training in run.trainings]
    words += [f"training{'s' if len(names) > 1 else ''}: {', '.join(names)}"] if names else []
    return " · ".join(words)


def _numbers(results: Table, run: RunRecords) -> list[Number]:
    """Return the best network on chips of the newest table, and the plain one; else trainings."""
    metric = run.metric
    if not results.rows:
        return [
            Number(metric.text(of.result["clean_score"]), f"{of.name}: clean, validation part")
            for of in run.trainings
            if of.result is not None
        ]
    listed = {row["training"] for row in run.table.get("rows", ()) if "mean" in row}
    rows = [row for row in results.rows if row["training"] in listed] or results.rows
    best = metric.best(rows, "mean")
    what = ", ".join(filter(None, (best[k] for k in ("training", "compensation", "calibration"))))
    spread = "" if best["std"] is None else f"; standard deviation {metric.text(best['std'])}"
    numbers = [
        Number(
            metric.text(best["mean"]),
            f"mean {metric.name} on {counted(best['chips'], 'chip')}",
            f"{what}, the best of the table{spread}",
        ),
        Number(metric.text(best["q05"]), "worst 5 % quantile over chips"),
    ]
    if best["yield"] is not None:
        least = metric.text(best["threshold"])
        numbers.append(Number(percent_text(best["yield"]), f"of chips reach {least}"))
    if best["recovery"] is not None:
        numbers.append(
            Number(percent_text(best["recovery"]), "recovery", "of the plain clean score")
        )
    if best["overhead_weights"] is not None:
        macs = best["overhead_macs"]  # a calibration alone counts in weights only
        more = "" if macs is None else f"{percent_text(macs)} of MACs"
        numbers.append(Number(percent_text(best["overhead_weights"]), "weights added", more))
    if best.get("fit_seconds") is not None:
        more = f"{best['images']:,.0f} unlabelled inputs, {best['passes']:g} pass"
        more += "" if best["passes"] == 1 else "es"
        numbers.append(
            Number(f"{best['fit_seconds']:.2g}\N{NO-BREAK SPACE}s", "to fit a chip", more)
        )
    plain = next((r for r in rows if r["training"] == "plain" and r["compensation"] is None), None)
    if plain is not None and plain is not best:
        clean = f"its clean {metric.name} is {metric.text(plain['clean'])}"
        numbers.append(Number(metric.text(plain["mean"]), "plain network on the same chips", clean))
    return numbers


def _selected(run: RunRecords) -> Iterator[str]:
    if run.selected is not None and run.selected["chosen"] is not None:
        chosen = run.selected["chosen"]
        words = filter(None, (chosen[k] for k in ("training", "compensation", "calibration")))
        yield (
            f"Selected on the validation part among {len(run.selected['rows'])} candidates: "
            f"{', '.join(words)}."
        )


def _missing(run: RunRecords) -> Iterator[str]:
    for of in run.trainings:
        if of.run is None:
            continue  # trained in another run, and only searched here
        if of.result is None:
            yield f"{of.name}: its training is not finished; job=train resumes it."
        elif not of.measurements:
            yield f"{of.name}: no chips are measured yet; job=evaluate measures them."
    if run.measurements and not run.table:
        yield "table.json is missing, hence also the recovery; job=table writes it."


def _without_compensation(run: RunRecords) -> Iterator[str]:
    for of in run.trainings:
        if of.compensation is not None and not of.compensation["placement"]:
            yield f"{of.name} has no compensation: {of.compensation['reason']}."


def _ceilings(run: RunRecords) -> Iterator[str]:
    for of in run.trainings:
        found = (of.compensation or {}).get("ceiling")
        if found is not None:
            yield f"{of.name}: {found['sentence']}."


def _thresholds(run: RunRecords) -> dict[str, float]:
    """Return of each scan the score that keeps just the share of the clean one asked for."""
    found = {}
    for of in run.trainings:
        if of.scan is not None:
            share, clean = of.scan["threshold"], of.scan["clean"]
            found[of.name] = clean * share if run.metric.higher_is_better else clean / share
    return found


def _details(run: RunRecords) -> Iterator[tuple[str, str]]:
    origin = _origin(run)
    if origin:
        shared = {name: v for name, v in origin["config"].items() if name != "training"}
        yield "Shared by all trainings", _yaml(shared)
    for of in run.trainings:
        if of.settings is not None:
            yield f"Training {of.name}", _yaml(of.settings)
    if origin:
        made = {"versions": origin["versions"], "data": origin["data"]}
        yield "Versions and data", _yaml(made)


def _yaml(values: Mapping[str, Any]) -> str:
    return str(yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True))
