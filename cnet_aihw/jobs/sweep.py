"""Sweeps: the folders of their jobs, and one table and page at their end."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from cnet_aihw.report.run_tables import HIDDEN
from cnet_aihw.report.swept_tables import ALL, MEASURED, SweptTable
from cnet_aihw.report.tables import SEVERAL, Column, Metric, Table
from cnet_aihw.runtime.locks import locked
from cnet_aihw.runtime.records import read_json, write_json_atomic, write_text_atomic

_LONGEST = 120  # bytes; encrypted homes take 143, of which 13 are the hash at the end
_Job = tuple[dict[str, str], list[dict[str, Any]]]
"""The words of one job's command line by key, and the rows of its table."""


def job_folder(overrides: str) -> str:
    """Return the overrides of a job as the name of its folder, shortened where they are too long.

    Slashes become underscores. Different overrides have different names.
    """
    name = overrides.replace("/", "_").encode()[:_LONGEST].decode(errors="ignore")
    if name == overrides:
        return overrides
    return f"{name}-{sha256(overrides.encode()).hexdigest()[:12]}"


# On import, not when a job starts: launchers name folders in their own processes.
OmegaConf.register_new_resolver("job_folder", job_folder, replace=True)


class SweepTable(Callback):
    """Collects the tables of a sweep's jobs in the sweep's folder, and makes its page."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Collect the tables after the last job."""
        folder = Path(config.hydra.sweep.dir)
        if gather_sweep(folder):
            from cnet_aihw.report import write_report

            print(f"report: {write_report(folder).resolve()}", flush=True)


def gather_sweep(folder: Path) -> bool:
    """Put the tables of a sweep's jobs into one, written and shown.

    Measurements on chips go into sweep.json and sweep.txt; searches, attacks and the others into
    files of their own, such as sweep-searches.json and sweep-searches.txt.

    Args:
        folder: the sweep's folder.

    Returns:
        Whether there was any table.
    """
    with locked(folder, "tables"):  # of a sweep that ends while job=report is given, or of two
        found = [_gather(folder, table) for table in ALL]
    return any(found)


def _gather(folder: Path, swept: SweptTable) -> bool:
    paths = sorted(folder.rglob(swept.of_job), key=_job_number)
    if not paths:
        return False
    records = [read_json(path) for path in paths]
    jobs = [
        (_words(path, record), record["rows"]) for path, record in zip(paths, records, strict=True)
    ]
    varied = _varied(jobs)
    called = {name: f"{name}=" if _differs_from_rows(name, jobs) else name for name in varied}
    metrics = [Metric.of(record) for record in records]
    several = len(set(metrics)) > 1
    rows, tasks = [], []
    for path, record, metric, (words, listed) in zip(paths, records, metrics, jobs, strict=True):
        more = {called[name]: words.get(name) for name in varied}
        more["folder"] = path.parent.relative_to(folder).as_posix()
        named = {"metric": metric.name} if several else {}
        rows += [{**row, **named, **more} for row in listed]
        tasks += [record["task"]] * len(listed)
    varied, first = list(called.values()), records[0]
    if swept is MEASURED:
        _add_recovery(rows, varied, tasks)
    shown = {*varied, *(name.removeprefix("rram.") for name in varied)}
    known = [c for c in swept.columns_of(SEVERAL if several else metrics[0]) if c.name not in shown]
    table = Table(swept.name, [*map(Column, varied), *known], rows).filled(*HIDDEN)
    text = table.as_text(f"sweep over {', '.join(varied)}")
    head = {key: first[key] for key in ("format", "task", "metric", "higher_is_better")}
    if several:
        head |= {"task": None, "metric": SEVERAL.name, "higher_is_better": True}
    write_json_atomic(folder / swept.file, {**head, "varied": varied, "rows": rows})
    write_text_atomic(folder / f"{swept.name}.txt", text)
    print(f"\n{text}\nin {folder}", flush=True)
    return True


def _job_number(path: Path) -> tuple[int, str]:
    """Order jobs as the sweep names them; last, one that was run by itself later."""
    kept = path.parent / ".hydra" / "hydra.yaml"
    number = OmegaConf.select(OmegaConf.load(kept), "hydra.job.num") if kept.exists() else None
    return sys.maxsize if number is None else int(number), str(path)


def _words(path: Path, record: Mapping[str, Any]) -> dict[str, str]:
    """Return the words of the command that made a table, by key.

    Those that Hydra keeps are of the last command in the folder, also of one that was refused.
    """
    words = shlex.split(record["command"])[1:] if "command" in record else _last_words(path)
    pairs = (word.partition("=") for word in words if "=" in word and not word.startswith("--"))
    return {name.lstrip("+"): value for name, _, value in pairs}


def _last_words(path: Path) -> list[str]:
    return list(map(str, OmegaConf.load(path.parent / ".hydra" / "overrides.yaml")))


def _varied(jobs: Sequence[_Job]) -> list[str]:
    """Return the overrides that differ between jobs; rows name their training already."""
    of_jobs = [words for words, _ in jobs]
    names = dict.fromkeys(name for words in of_jobs for name in words)
    named = not _trainings_share_a_name(jobs)
    differ = [n for n in names if len({words.get(n) for words in of_jobs}) > 1]
    return [name for name in differ if not (named and name == "training")]


def _trainings_share_a_name(jobs: Sequence[_Job]) -> bool:
    """Say whether two files of trainings have one ``name``, as where a user's own has none."""
    words: dict[str, set[str | None]] = {}
    for given, listed in jobs:
        names = {row["training"] for row in listed if "training" in row}
        for name in names if len(names) == 1 else ():
            words.setdefault(name, set()).add(given.get("training"))
    return any(len(several) > 1 for several in words.values())


def _differs_from_rows(name: str, jobs: Sequence[_Job]) -> bool:
    """Say whether a column of that name differs from the override of its job in any row."""
    rows = [(row, words.get(name)) for words, listed in jobs for row in listed if name in row]
    return any(str(row[name]) != word for row, word in rows)


def _add_recovery(rows: list[dict[str, Any]], varied: list[str], tasks: Sequence[Any]) -> None:
    """Fill in the recovery where the plain training was a job of its own."""
    from cnet_aihw.jobs.nodes import make

    varied = [name for name in varied if name != "training="]
    plain = [r for r in rows if r["training"] == "plain" and r.get("compensation") is None]
    clean = {tuple(row[name] for name in varied): row["clean"] for row in plain}
    for row, node in zip(rows, tasks, strict=True):
        reference = clean.get(tuple(row[name] for name in varied))
        if row["recovery"] is None and reference is not None:
            task = make(OmegaConf.create(node), "task")
            row["recovery"] = task.recovery(row["mean"], reference)
