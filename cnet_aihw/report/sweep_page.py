"""The page of a sweep: a row for each network of each job, and curves over the swept values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cnet_aihw.report.figures.plot import Plot, colors_of, grouped
from cnet_aihw.report.figures.search import both
from cnet_aihw.report.figures.sweep import against, number
from cnet_aihw.report.load import read_run, read_table
from cnet_aihw.report.page import PAGE, Number, Page, Section, write_page
from cnet_aihw.report.run_page import write_run_report
from cnet_aihw.report.run_tables import results_text
from cnet_aihw.report.style import figure_style
from cnet_aihw.report.swept_tables import MEASURED, OTHERS, SEARCHED, SweptTable, is_sweep
from cnet_aihw.report.tables import SEVERAL, Column, Metric, Table, percent_text
from cnet_aihw.runtime.typed import checked

_SIGMA = "rram.sigma"


def write_sweep_report(folder: str | Path) -> Path:
    """Write the page of a sweep from its tables, such as sweep.json, and its jobs' traces.

    Args:
        folder: the sweep's folder, with at least one table.

    Returns:
        The page, FOLDER/report.html.
    """
    folder = Path(folder)
    measured, searched = (_Sweep.read(folder, table) for table in (MEASURED, SEARCHED))
    others = [_Sweep.read(folder, table) for table in OTHERS]
    with figure_style():
        return write_page(_page(measured, searched, others, folder), folder)


@checked
def write_report(folder: str | Path) -> Path:
    """Write the page of a run or of a sweep, from the records in its folder alone.

    The same records give the same page, byte for byte. Beside it, the folder ``report`` gets each
    figure as PNG and SVG and each table as CSV.

    Args:
        folder: of a run, finished or not; or of a sweep with its tables.

    Returns:
        The page, FOLDER/report.html.

    Raises:
        CnetError: if the folder holds neither, or a record is damaged.
    """
    folder = Path(folder)
    return write_sweep_report(folder) if is_sweep(folder) else write_run_report(folder)


@dataclass(frozen=True)
class _Sweep:
    """A table over a sweep; without rows where the sweep has none of its kind."""

    kind: SweptTable
    varied: list[str]
    rows: list[dict[str, Any]]
    metric: Metric

    @classmethod
    def read(cls, folder: Path, kind: SweptTable) -> _Sweep:
        record = read_table(folder / kind.file)
        return cls(kind, record["varied"], record["rows"], Metric.of(record))

    def table(self) -> Table:
        known = self.kind.columns_of(self.metric)
        columns = [column for column in known if column.name not in self.varied]
        name = Path(self.kind.of_job).stem if self.kind is not MEASURED else "sweep"
        return Table(name, [*map(Column, self.varied), *columns, Column("folder")], self.rows)

    def section(self, text: str, plots: Sequence[Plot] = ()) -> Section:
        return Section(self.kind.title, text=text, table=self.table(), plots=plots)


def _page(measured: _Sweep, searched: _Sweep, others: Sequence[_Sweep], folder: Path) -> Page:
    results, found = measured.table(), [measured, searched, *others]
    jobs = [str(job) for job in grouped([row for sweep in found for row in sweep.rows], "folder")]
    varied = list(dict.fromkeys(name for sweep in found for name in sweep.varied))
    return Page(
        title=f"Sweep over {', '.join(varied) or 'trainings'}",
        subtitle=f"{len(jobs)} job{'' if len(jobs) == 1 else 's'}",
        sortable=True,
        numbers=_numbers(measured, "mean", f"mean {measured.metric.name} on chips")
        or _numbers(searched, "reward", "reward of a search"),
        sections=[
            Section("Curves", plots=_curves(measured, results)),
            measured.section(results_text(results, measured.metric)),
            searched.section(searched.kind.text, _searches(searched, folder)),
            *(sweep.section(sweep.kind.text) for sweep in others),
            Section(
                "Jobs",
                text="Each job has a page of its own.",
                links=list(_links(found, folder)),
            ),
        ],
    )


def _links(found: Sequence[_Sweep], folder: Path) -> Iterator[tuple[str, str]]:
    """Return each job's page under its varied values."""
    varied = dict.fromkeys(name for sweep in found for name in sweep.varied)
    for job, rows in grouped([row for sweep in found for row in sweep.rows], "folder").items():
        if (folder / job / PAGE).exists():
            trainings = ", ".join(dict.fromkeys(r["training"] for r in rows if "training" in r))
            said = [f"{name}={rows[0][name]}" for name in varied if rows[0].get(name) is not None]
            words = ", ".join([*said, trainings] if trainings else said)
            yield words, f"{quote(job)}/{PAGE}"


def _searches(searched: _Sweep, folder: Path) -> list[Plot]:
    """Draw the searches for one network together."""
    of_searches = ("search.", "search=")
    others = [name for name in searched.varied if not name.startswith(of_searches)]
    plots = []
    for number_, (values, rows) in enumerate(grouped(searched.rows, "training", *others).items()):
        training, *rest = values if others else (values,)
        what = ", ".join([training, *(f"{n}={v}" for n, v in zip(others, rest, strict=True))])
        runs = [read_run(folder / row["folder"]) for row in rows]
        trainings = [of for run in runs for of in run.trainings if of.name == training]
        searches = [search for of in trainings for search in of.searches]
        name = f"{training}-{number_}" if others else training
        plots += both(name, what, searches, runs[0].metric)
    return plots


def _curves(sweep: _Sweep, table: Table) -> Sequence[Plot]:
    """Draw curves over the most telling axis: sigma, else that with the most numbers."""
    varied = sweep.varied
    if not varied or not table.rows or sweep.metric == SEVERAL:
        return ()
    counts = {name: len(grouped(table.rows, name)) for name in varied}
    numeric = [n for n in varied if all(number(row[n]) is not None for row in table.rows)]
    swept = _SIGMA if _SIGMA in numeric else max(numeric or varied, key=lambda name: counts[name])
    others = [name for name in varied if name != swept]
    colors = colors_of(row["training"] for row in table.rows)
    return against(table, swept, others, colors, sweep.metric)


def _numbers(sweep: _Sweep, name: str, what: str) -> list[Number]:
    """Return the highest and the lowest value of a column; none without rows."""
    numbers = []
    for choose, which in ((max, "highest"), (min, "lowest")):
        if sweep.rows and (name == "reward" or sweep.metric != SEVERAL):
            row = choose(sweep.rows, key=lambda row: row[name])
            words = [row["training"], row.get("compensation")]
            words += [f"{varied}={row[varied]}" for varied in sweep.varied]
            more = ", ".join(word for word in words if word)
            value = percent_text(row[name]) if name == "reward" else sweep.metric.text(row[name])
            numbers.append(Number(value, f"{which} {what}", more))
    return numbers
