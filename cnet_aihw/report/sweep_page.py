"""The page of a sweep: every network of every job as a row, and curves over what was swept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cnet_aihw.report.figures.plot import Plot, colors_of, grouped
from cnet_aihw.report.figures.search import both
from cnet_aihw.report.figures.sweep import against, number
from cnet_aihw.report.load import SWEEP, SWEEP_SEARCHES, read_run
from cnet_aihw.report.page import PAGE, Number, Page, Section, write_page
from cnet_aihw.report.run_tables import RESULTS, results_text
from cnet_aihw.report.search_tables import SEARCHES
from cnet_aihw.report.style import figure_style
from cnet_aihw.report.tables import Column, Table, percent_text
from cnet_aihw.runtime.records import read_json

_SIGMA = "rram.sigma"


def write_sweep_report(folder: str | Path) -> Path:
    """Write the page of a sweep from sweep.json, sweep-searches.json and its jobs' traces.

    Args:
        folder: the sweep's folder, with at least one of the two.

    Returns:
        The page, FOLDER/report.html.
    """
    folder = Path(folder)
    measured, searched = (_Sweep.read(folder / name) for name in (SWEEP, SWEEP_SEARCHES))
    with figure_style():
        return write_page(_page(measured, searched, folder), folder)


@dataclass(frozen=True)
class _Sweep:
    """A table over a sweep."""

    varied: list[str]
    rows: list[dict[str, Any]]

    @classmethod
    def read(cls, path: Path) -> _Sweep:
        record = read_json(path) if path.is_file() else {"varied": [], "rows": []}
        return cls(record["varied"], record["rows"])

    def table(self, name: str, known: Sequence[Column]) -> Table:
        columns = [column for column in known if column.name not in self.varied]
        return Table(name, [*map(Column, self.varied), *columns, Column("folder")], self.rows)


def _page(measured: _Sweep, searched: _Sweep, folder: Path) -> Page:
    results = measured.table("sweep", RESULTS)
    jobs = [str(job) for job in grouped([*measured.rows, *searched.rows], "folder")]
    varied = list(dict.fromkeys([*measured.varied, *searched.varied]))
    return Page(
        title=f"Sweep over {', '.join(varied) or 'trainings'}",
        subtitle=f"{len(jobs)} jobs",
        numbers=_numbers(measured, "mean", "mean accuracy on chips")
        or _numbers(searched, "reward", "reward of a search"),
        sections=[
            Section("Curves", plots=_curves(measured.varied, results)),
            Section("Results", text=results_text(results), table=results),
            Section(
                "Searches",
                text="The best placement that each search found; accuracies are those of the "
                "search, on validation chips of its own.",
                table=searched.table("searches", SEARCHES),
                plots=_searches(searched, folder),
            ),
            Section(
                "Jobs",
                text="Each job has a page of its own.",
                links=list(_links(measured, searched, folder)),
            ),
        ],
    )


def _links(measured: _Sweep, searched: _Sweep, folder: Path) -> Iterator[tuple[str, str]]:
    """Each job's page, by what was varied there."""
    for job, rows in grouped([*measured.rows, *searched.rows], "folder").items():
        if (folder / job / PAGE).exists():
            trainings = ", ".join(dict.fromkeys(row["training"] for row in rows))
            varied = dict.fromkeys([*measured.varied, *searched.varied])
            said = [f"{name}={rows[0][name]}" for name in varied if rows[0].get(name) is not None]
            yield ", ".join([*said, trainings]), f"{quote(job)}/{PAGE}"


def _searches(searched: _Sweep, folder: Path) -> list[Plot]:
    """What searches for the same network came to, together."""
    of_searches = ("search.", "search=")
    others = [name for name in searched.varied if not name.startswith(of_searches)]
    plots = []
    for number_, (values, rows) in enumerate(grouped(searched.rows, "training", *others).items()):
        training, *rest = values if others else (values,)
        what = ", ".join([training, *(f"{n}={v}" for n, v in zip(others, rest, strict=True))])
        searches = [
            search
            for row in rows
            for of in read_run(folder / row["folder"]).trainings
            if of.name == training
            for search in of.searches
        ]
        name = f"{training}-{number_}" if others else training
        plots += both(name, what, searches)
    return plots


def _curves(varied: Sequence[str], table: Table) -> Sequence[Plot]:
    """Curves over the axis that says most: sigma, else the numbers of which there are most."""
    if not varied or not table.rows:
        return ()
    counts = {name: len(grouped(table.rows, name)) for name in varied}
    numeric = [n for n in varied if all(number(row[n]) is not None for row in table.rows)]
    swept = _SIGMA if _SIGMA in numeric else max(numeric or varied, key=lambda name: counts[name])
    others = [name for name in varied if name != swept]
    return against(table, swept, others, colors_of(row["training"] for row in table.rows))


def _numbers(sweep: _Sweep, name: str, what: str) -> list[Number]:
    """The highest and the lowest value of a column; none where there are no rows."""
    numbers = []
    for choose, which in ((max, "highest"), (min, "lowest")):
        if sweep.rows:
            row = choose(sweep.rows, key=lambda row: row[name])
            words = [row["training"], row.get("compensation")]
            words += [f"{varied}={row[varied]}" for varied in sweep.varied]
            more = ", ".join(word for word in words if word)
            numbers.append(Number(percent_text(row[name]), f"{which} {what}", more))
    return numbers
