"""Tables over the jobs of a sweep: the file of each job, the columns, and what a page says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cnet_aihw.report.attack_tables import ATTACKS_TEXT, attack_columns
from cnet_aihw.report.kernel_tables import KERNELS_TEXT, kernel_columns
from cnet_aihw.report.run_tables import results_columns
from cnet_aihw.report.search_tables import SEARCH_TEXT, searches_columns
from cnet_aihw.report.tables import SEVERAL, Column, Metric
from cnet_aihw.report.tuning_tables import TUNINGS_TEXT, tuning_columns
from cnet_aihw.report.uncertainty_tables import UNCERTAINTY_TEXT, uncertainty_columns


@dataclass(frozen=True)
class SweptTable:
    """One table over the jobs of a sweep."""

    of_job: str
    """File of each job that holds its rows."""

    name: str
    """The table's own name: NAME.json and NAME.txt in the sweep's folder."""

    columns: Callable[[Metric], Sequence[Column]]
    """Columns beside those of the varied values."""

    title: str
    """Above its section of the page."""

    text: str = ""
    """Below that."""

    def columns_of(self, metric: Metric) -> Sequence[Column]:
        """Return its columns; of several metrics, without those that differ by direction."""
        if metric != SEVERAL:
            return self.columns(metric)
        known = [column for column in self.columns(metric) if column.name not in ("min", "max")]
        return [Column("metric"), *known]

    @property
    def file(self) -> str:
        """Name of its file in the sweep's folder."""
        return f"{self.name}.json"


MEASURED = SweptTable("table.json", "sweep", results_columns, "Results")
SEARCHED = SweptTable(
    "searches.json", "sweep-searches", searches_columns, "Searches", SEARCH_TEXT
)  # fmt: skip
OTHERS = (
    SweptTable("attacks.json", "sweep-attacks", attack_columns, "Attacks", ATTACKS_TEXT),
    SweptTable("tunings.json", "sweep-tunings", tuning_columns, "Tuning on chips", TUNINGS_TEXT),
    SweptTable(
        "uncertainties.json", "sweep-uncertainties", lambda _: uncertainty_columns(),
        "Uncertainty", UNCERTAINTY_TEXT,
    ),
    SweptTable("kernels.json", "sweep-kernels", kernel_columns, "Kernel features", KERNELS_TEXT),
)  # fmt: skip
ALL = (MEASURED, SEARCHED, *OTHERS)


def is_sweep(folder: Path) -> bool:
    """Say whether a folder is that of a sweep, with one of its tables at least."""
    return any((folder / table.file).is_file() for table in ALL)
