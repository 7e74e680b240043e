"""The page of whatever a folder holds."""

from pathlib import Path

from cnet_aihw.report.load import SWEEP, SWEEP_SEARCHES
from cnet_aihw.report.run_page import write_run_report
from cnet_aihw.report.sweep_page import write_sweep_report


def write_report(folder: str | Path) -> Path:
    """Write the page of a run or of a sweep, from the records in its folder alone.

    The same records give the same page, byte for byte. Beside it, the folder ``report`` gets each
    figure as PNG and SVG and each table as CSV.

    Args:
        folder: of the run, whole or not; or of a sweep, whose tables are there.

    Returns:
        The page, FOLDER/report.html.

    Raises:
        CnetError: if the folder holds neither, or a record is damaged.
    """
    folder = Path(folder)
    is_sweep = any((folder / name).is_file() for name in (SWEEP, SWEEP_SEARCHES))
    return write_sweep_report(folder) if is_sweep else write_run_report(folder)
