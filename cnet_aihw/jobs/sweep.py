"""Tables and page for a whole sweep, when all its jobs are done."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from cnet_aihw.jobs.searches import SEARCH_COLUMNS
from cnet_aihw.jobs.table import COLUMNS, render
from cnet_aihw.runtime.records import write_json_atomic


class SweepTable(Callback):
    """Gathers the tables of a sweep's jobs in the sweep's folder, and makes its page."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Hydra calls this after the last job."""
        folder = Path(config.hydra.sweep.dir)
        if gather_sweep(folder):
            from cnet_aihw.report import write_report

            print(f"report: {write_report(folder).resolve()}", flush=True)


def gather_sweep(folder: Path) -> bool:
    """Put the tables of a sweep's jobs into one, written and shown.

    Measurements on chips go into sweep.json and sweep.txt, searches into sweep-searches.json and
    sweep-searches.txt.

    Args:
        folder: the sweep's folder.

    Returns:
        Whether there was any.
    """
    measured = _gather(folder, "table.json", "sweep", COLUMNS)
    searched = _gather(folder, "searches.json", "sweep-searches", SEARCH_COLUMNS)
    return measured or searched


def _gather(folder: Path, name: str, sweep: str, known: Sequence[str]) -> bool:
    """Put the jobs' tables of one name into one; nothing where there is none."""
    paths = sorted(folder.rglob(name), key=_job_number)
    if not paths:
        return False
    points = [_point(path) for path in paths]
    varied = _varied([values for values, _ in points])
    called = {name: f"{name}=" if _says_other(name, points) else name for name in varied}
    rows = [
        {
            **row,
            **{called[name]: values.get(name) for name in varied},
            "folder": path.parent.relative_to(folder).as_posix(),
        }
        for path, (values, table) in zip(paths, points, strict=True)
        for row in table
    ]
    varied = list(called.values())
    if known == COLUMNS:
        _add_recovery(rows, varied)
    said = {*varied, *(name.removeprefix("rram.") for name in varied)}
    columns = [*varied, *(name for name in known if name not in said)]
    text = render(
        f"sweep over {', '.join(varied)}",
        rows,
        columns,
        as_named=(*varied, "seed") if known == SEARCH_COLUMNS else varied,
    )
    write_json_atomic(folder / f"{sweep}.json", {"varied": varied, "rows": rows})
    (folder / f"{sweep}.txt").write_text(text, encoding="utf-8")
    print(f"\n{text}\nin {folder}", flush=True)
    return True


def _job_number(path: Path) -> tuple[int, str]:
    """Jobs in the order in which the sweep names them; last, one that was then run by itself."""
    node = OmegaConf.load(path.parent / ".hydra" / "hydra.yaml")
    number = OmegaConf.select(node, "hydra.job.num")
    return sys.maxsize if number is None else int(number), str(path)


def _point(path: Path) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """What was said on the command line of one job, and the rows of its table."""
    said = OmegaConf.load(path.parent / ".hydra" / "overrides.yaml")
    pairs = (str(override).partition("=") for override in said)
    return {name.lstrip("+"): value for name, _, value in pairs}, json.loads(path.read_text())[
        "rows"
    ]


def _varied(said: list[dict[str, str]]) -> list[str]:
    """The overrides that differ between jobs; which training it was stands in the rows."""
    names = dict.fromkeys(name for values in said for name in values)
    return [n for n in names if n != "training" and len({values.get(n) for values in said}) > 1]


def _says_other(name: str, points: Sequence[tuple[dict[str, str], list[dict[str, Any]]]]) -> bool:
    """Whether a column of that name says of some row something else than its job was told."""
    of_rows = [(row, values.get(name)) for values, rows in points for row in rows if name in row]
    return any(str(row[name]) != said for row, said in of_rows)


def _add_recovery(rows: list[dict[str, Any]], varied: list[str]) -> None:
    """Fill in the recovery where the plain training was a job of its own."""
    plain = [r for r in rows if r["training"] == "plain" and r.get("compensation") is None]
    clean = {tuple(row[name] for name in varied): row["clean"] for row in plain}
    for row in rows:
        reference = clean.get(tuple(row[name] for name in varied))
        if row["recovery"] is None and reference:
            row["recovery"] = row["mean"] / reference
