"""Where records and results are, and what all benchmarks share: commands, cells, the command line.

Records of commands are in outputs/benchmarks (BENCHMARK_RECORDS names another folder), those of
chips in outputs/per_chip (BENCHMARK_PER_CHIP), data in data/ (BENCHMARK_DATA).
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from time import process_time
from typing import Any

import torch

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.records import write_json_atomic, write_text_atomic

HERE = Path(__file__).parent
RESULTS = HERE / "results"
RECORDS = Path(os.environ.get("BENCHMARK_RECORDS", "outputs/benchmarks"))
OUTPUTS = Path(os.environ.get("BENCHMARK_PER_CHIP", "outputs/per_chip"))
DATA = Path(os.environ.get("BENCHMARK_DATA", "data"))
SIGMA = 0.5
"""Of the log-normal variation, where it is not said otherwise."""

Row = dict[str, Any]


def cnet_aihw(*words: str) -> None:
    """Run a command, which is printed, on one thread: threads that wait for others spoil times."""
    print("+", shlex.join(["cnet-aihw", *words]), flush=True)
    script = "from cnet_aihw.jobs.cli import main; main()"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", script, *words], check=True, env=environment)


# -- records, each of which is made once


def once(path: Path, measure: Callable[..., Any], *given: Any) -> Any:
    """Return what a file records; where it is missing, measure it and write the file."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomic(path, measure(*given))
        print(f"{path}: done", flush=True)
    return recorded(path)


def timed(measure: Callable[..., Mapping[str, Any]], *given: Any) -> Row:
    """Return what is measured, with its seconds of the processor."""
    start = process_time()
    return {**measure(*given), "seconds": process_time() - start}


def recorded(path: Path) -> Any:
    """Return what a file records."""
    return json.loads(path.read_text(encoding="utf-8"))


def rows_in(paths: Iterable[Path]) -> list[Row]:
    """Return the rows of the records that are there: of each its list, its `rows`, or itself."""
    rows: list[Row] = []
    for path in (path for path in paths if path.exists()):
        found = recorded(path)
        rows += found if isinstance(found, list) else found.get("rows", [found])
    return rows


# -- results, from which pages are made


def result(name: str) -> Any:
    """Return a result; an empty one where it is not measured yet."""
    path = RESULTS / f"{name}.json"
    return recorded(path) if path.exists() else {"rows": []}


def write_result(name: str, command: str, rows: list[Any], **more: Any) -> None:
    """Write benchmarks/results/NAME.json; single values stand before the rows."""
    _refuse_empty(name, rows)
    single = {key: value for key, value in more.items() if not isinstance(value, list | dict)}
    write_json_atomic(
        RESULTS / f"{name}.json", {"command": command, **single, "rows": rows, **more}
    )


def write_lines(name: str, head: Mapping[str, Any], **rows: Sequence[Any]) -> None:
    """Write benchmarks/results/NAME.json with each row, of which there are many, on a line."""
    _refuse_empty(name, *rows.values())
    parts = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    for key, found in rows.items():
        parts.append(f"{json.dumps(key)}: [\n" + ",\n".join(map(json.dumps, found)) + "\n]")
    write_text_atomic(RESULTS / f"{name}.json", "{\n" + ",\n".join(parts) + "\n}\n")


def _refuse_empty(name: str, *rows: Sequence[Any]) -> None:
    """End with a sentence where there is nothing to write, and leave the result as it is."""
    if not any(rows):
        raise SystemExit(f"{name}.json stays as it is: its records are neither in {RECORDS} nor in "
                         f"{OUTPUTS}; unpack the archive, or measure")  # fmt: skip


def with_earlier(name: str, rows: list[Row], *identity: str, key: str = "rows") -> list[Row]:
    """Return rows beside those of benchmarks/results/NAME.json whose records are not here.

    Args:
        name: the result.
        rows: rows made from the records that are here.
        identity: names of values by which rows are the same.
        key: where the rows of the result are.
    """
    both = [*result(name).get(key, []), *rows]
    return list({tuple(row.get(value) for value in identity): row for row in both}.values())


# -- the command line


def command_line(doc: str | None, *steps: Callable[..., Any], **options: Any) -> None:
    """Take the step that the command line names, with those of the options that it has.

    Args:
        doc: the module's docstring, which is the help.
        steps: functions; the parameters of each are options. A single one needs no name.
        options: values by default. A list can be restricted to some of its values.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if len(steps) > 1:
        parser.add_argument("step", choices=[step.__name__ for step in steps])
    for name, value in options.items():
        if isinstance(value, list):
            kind = type(value[0])
            parser.add_argument(f"--{name}", choices=value, type=kind, nargs="+", default=value)
        elif isinstance(value, bool):
            parser.add_argument(f"--{name}", action="store_true")
        else:
            parser.add_argument(f"--{name}", type=type(value), default=value)
    asked = vars(parser.parse_args())
    torch.set_num_threads(1)
    step = next(step for step in steps if step.__name__ == asked.get("step", step.__name__))
    try:
        step(**{name: asked[name] for name in inspect.signature(step).parameters})
    except CnetError as error:
        raise SystemExit(f"{error} See --help for what comes before this step.") from None
