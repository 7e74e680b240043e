"""The step that every job ends with: the page of what its folder holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnet_aihw.jobs.sweep import gather_sweep

if TYPE_CHECKING:
    from cnet_aihw.jobs.pipeline import Run


def report(run: Run) -> None:
    """Write report.html from the records in the folder, of a run or of a sweep; say where it is."""
    from cnet_aihw.report import write_report

    if (run.folder / "multirun.yaml").exists():  # of a sweep, to which jobs may have been added
        gather_sweep(run.folder)
    print(f"report: {write_report(run.folder).resolve()}", flush=True)
