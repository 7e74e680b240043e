"""Tables of README.md, docs/kernels.md and docs/uncertainty.md whose lines gather several rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks.common import SIGMA, result
from benchmarks.tables import Row, duration, find, grid

PUBLISHED = {1: (81.90, 82.19), 3: (85.50, 85.57), 5: (86.34, 86.23)}
"""magic, RBF, RFF: log2 ratio -> accuracy in software and on the chip of Büchel et al., in percent,
means over ten projections of their published measurements."""

HEADS = (
    "data | kernel | s | exact | in software | sigma 0.1 | 0.3 | 0.5 | matched 0.3 | matched 0.5",
    "data | s | in software | sigma 0.3 | sigma 0.5 | matched 0.3 | matched 0.5",
    "data | s | linear ridge | RBFSampler | Nystroem | in software | sigma 0.5 | matched | "
    "fitted to each chip",
    "log2 s/d | paper, software | paper, PCM chip | ours, software | ours, sigma 0.1 | "
    "ours, sigma 0.3",
)
"""Of the tables of accuracy, errors, read-outs, and of what the paper published."""


# -- the README


def networks(found: Mapping[str, Sequence[Row]], methods: Iterable[str]) -> str:
    """The table of the README: a method in each line, with its recovery on each network."""
    clean = [rows[0]["clean_score"] for rows in found.values()]
    lines = [["method", "weights, MACs +%", *found], ["score without a chip", "-", *clean]]
    for method in methods:
        of_method = [find(rows, method=method) for rows in found.values()]
        costs = [
            max(100 * row[key] for row in of_method if row is not None)
            for key in ("overhead_weights", "overhead_macs")
        ]
        cells = ["-" if row is None else _recovered(row) for row in of_method]
        lines.append([method, ", ".join(f"{cost:.1f}" for cost in costs), *cells])
    return grid(lines)


def _recovered(row: Row) -> str:
    share = 100 * row["recovery"]
    return f"{share:.1f} ± {share * row['std'] / row['mean']:.1f}"


# -- columns of one value each


Line = dict[str, Any]


def pivot(
    rows: Iterable[Row], identity: Sequence[str], column: Callable[[Row], str],
    cell: Callable[[Row], str],
) -> list[Line]:  # fmt: skip
    """A line for each value of the identity, with a cell for each row; the last row's values."""
    lines: dict[tuple[Any, ...], Line] = {}
    for row in rows:
        line = lines.setdefault(tuple(row.get(name) for name in identity), {})
        line |= {**row, column(row): cell(row)}
    return list(lines.values())


def regrets(rows: Sequence[Row]) -> list[Line]:
    """A line for each problem and searcher: mean regret, least and largest, over evaluations."""

    def cell(row: Row) -> str:
        mean, low, high = (100 * row[f"regret_{name}"] for name in ("mean", "min", "max"))
        return f"{mean:.2f}" if row["seeds"] == 1 else f"{mean:.2f} ({low:.2f} to {high:.2f})"

    one = "problem", "first", "searcher"
    return pivot(rows, one, lambda row: str(row["evaluations"]), cell)


def drift(rows: Sequence[Row]) -> list[Line]:
    """A line for each device and way; recovery, passes and chips are those of the last time."""
    in_order = sorted(rows, key=lambda row: float(row["t_inference"]))
    lines = pivot(in_order, ("device", "way"), lambda row: duration(row["t_inference"]), _spread)
    return sorted(lines, key=lambda line: str(line["device"]))


def deviations(rows: Sequence[Row]) -> list[Line]:
    """A line for each network, training and way that was measured at several deviations."""
    one = "network", "training_seed", "way"
    several = {tuple(row[key] for key in one) for row in rows if row["sigma"] != SIGMA}
    found = [row for row in rows if tuple(row[key] for key in one) in several]
    return pivot(found, one, lambda row: f"{row['sigma']:g}",
                 lambda row: f"{_spread(row)} ({100 * row['recovery']:.1f})")  # fmt: skip


def _spread(row: Row) -> str:
    return f"{100 * row['mean']:.1f} ± {100 * row['std']:.1f}"


# -- kernels


class Kernels:
    """Rows of kernels.json by what they are of."""

    def __init__(self) -> None:
        self.found = result("kernels")
        self.rows = [dict(zip(self.found["columns"], r, strict=True)) for r in self.found["rows"]]

    def numbers(self, name: str, points: Sequence[tuple[float, str]], **given: Any) -> list[str]:
        """Return a number at each sigma and way, as written; accuracies in percent."""
        rows = [find(self.rows, sigma=sigma, way=way, **given) for sigma, way in points]
        values = [None if row is None else row[name] for row in rows]
        scale, digits = (100, 1) if name == "accuracy" else (1, 3)
        return ["-" if value is None else f"{scale * value:.{digits}f}" for value in values]

    def baseline(self, data: str, method: str, kernel: str | None, s: int | None = None) -> str:
        """Return the accuracy of a method of scikit-learn, the mean over its seeds."""
        keys, asked = ("data", "method", "kernel", "s"), (data, method, kernel, s)
        rows = [r for r in self.found["baselines"] if tuple(r[key] for key in keys) == asked]
        return f"{100 * sum(r['accuracy'] for r in rows) / len(rows):.1f}" if rows else "-"

    def sets(self) -> Iterator[tuple[str, int, int]]:
        """Yield each set, its largest log2 ratio and the rows s there."""
        for data in self.found["samples"]:
            of_set = [r for r in self.rows if r["data"] == data]
            if of_set:
                last = max(of_set, key=lambda r: int(r["log2_ratio"]))
                yield data, last["log2_ratio"], last["s"]


def kernels() -> dict[str, str]:
    """The tables of docs/kernels.md."""
    of, exact, sampled = Kernels(), "KernelRidge", ("RBFSampler", "Nystroem")
    bare, matched = [(s, "") for s in (0.0, 0.1, 0.3, 0.5)], [(s, "match") for s in (0.3, 0.5)]
    accuracy, errors, readouts, published = ([head.split(" | ")] for head in HEADS)
    rff = {"kernel": "rbf", "features": "rff"}
    for data, ratio, s in of.sets():
        for kernel in ("rbf", "arc_cosine", "softmax"):
            given = {"data": data, "kernel": kernel, "log2_ratio": ratio, "features": "orf"}
            values = of.numbers("accuracy", [*bare, *matched], **given)
            accuracy.append([data, kernel, str(s), of.baseline(data, exact, kernel), *values])
        points = [bare[0], *bare[2:], *matched]
        pairs = (of.numbers(name, points, data=data, log2_ratio=ratio, **rff)
                 for name in ("error", "predicted"))  # fmt: skip
        errors.append([data, str(s), *map(" / ".join, zip(*pairs, strict=True))])
        row = find(of.rows, data=data, log2_ratio=2, sigma=0.0, way="", **rff)
        small = row["s"] if row else None
        points = [(0.0, ""), (0.5, ""), (0.5, "match"), (0.5, "chip")]
        readouts.append([
            data, str(small), of.baseline(data, "linear ridge", None),
            *(of.baseline(data, method, "rbf", small) for method in sampled),
            *of.numbers("accuracy", points, data=data, log2_ratio=2, **rff),
        ])  # fmt: skip
    for ratio, theirs in PUBLISHED.items():
        ours = of.numbers("accuracy", bare[:3], data="magic", log2_ratio=ratio, **rff)
        published.append([str(ratio), *(f"{value:.1f}" for value in theirs), *ours])
    found = {(ratio, s): f"{error:.2f}" for ratio, s, error in of.found["attention"]}
    sigmas, ratios = (sorted({key[i] for key in found}) for i in (1, 0))
    attention = [["log2 s/d", *(f"sigma {sigma:g}" for sigma in sigmas)]]
    attention += [[str(ratio), *(found[ratio, s] for s in sigmas)] for ratio in ratios]
    return {
        "accuracy": grid(accuracy), "errors": grid(errors), "readouts": grid(readouts),
        "published": grid(published), "attention": grid(attention),
    }  # fmt: skip


# -- uncertainty of predictions


TITLES = {
    "breast_cancer": "breast cancer", "digits": "digits", "mnist": "MNIST", "cifar10": "CIFAR-10",
}  # fmt: skip
CORRECTED = {"none": "", "temperature": ", temperature", "logit_affine": ", affine by class"}
SIGMAS = (0.0, 0.1, 0.3)
Asked = tuple[str, dict[str, Any]]
"""Name of a line, and the values of its rows."""


def asked(name: str, method: str, samples: int, correction: str = "none", **more: Any) -> Asked:
    """Return a line of a table."""
    values = {"method": method, "samples": samples, "correction": correction}
    return name + CORRECTED[correction], {**values, "sigma": None, "t": None, **more}


DIGITAL = [
    asked("digital, plain", "deterministic", 1),
    asked("digital, plain", "deterministic", 1, "temperature"),
    asked("MC dropout, T 64", "MC dropout", 64),
    asked("deep ensemble of 4", "deep ensemble", 4),
    asked("Laplace, T 64", "laplace", 64),
    asked("means of binary weights, digital", "mean binary weights", 1),
]


def on_chips(sigma: float) -> list[Asked]:
    """Return the lines of one programming error."""
    cells, plain = f"cells, sigma {sigma:g}", f"plain, 64 readings of one chip, sigma {sigma:g}"
    lines = [asked(f"{cells}, T {t}", "cells", t, sigma=sigma) for t in (1, 4, 16, 64)]
    for correction in ("temperature", "logit_affine"):
        lines.append(asked(f"{cells}, T 64", "cells", 64, correction, sigma=sigma))
    if sigma:
        lines.append(asked(f"plain, one chip, sigma {sigma:g}", "readings", 1, sigma=sigma))
        lines.append(asked(f"plain, 64 chips, sigma {sigma:g}", "chips", 64, sigma=sigma))
    corrections = ("none", "logit_affine")
    return lines + [asked(plain, "readings", 64, each, sigma=sigma) for each in corrections]


def over_time() -> list[Asked]:
    """Return the lines of drifting cells."""
    return [
        asked(name, "cells", 16, correction, sigma=0.1, t=t, corrected_nu=nu)
        for name, t, nu in (
            ("just programmed", 1.0, 0.0),
            ("after an hour", 3600.0, 0.0),
            ("after an hour, amplified", 3600.0, 0.05),
            ("after a day", 86400.0, 0.0),
            ("after a day, amplified", 86400.0, 0.05),
        )
        for correction in ("none", "temperature")
    ]


def unknown() -> list[Asked]:
    """Return the lines that tell unknown inputs apart."""
    cells = [asked(f"cells, sigma {s:g}, T 64", "cells", 64, sigma=s) for s in SIGMAS]
    chips = [asked(f"plain, 64 chips, sigma {s:g}", "chips", 64, sigma=s) for s in SIGMAS[1:]]
    return [DIGITAL[0], *DIGITAL[2:5], *cells, *chips]


def scores(row: Row) -> str:
    """Write accuracy, NLL and ECE of a row."""
    return f"{100 * row['accuracy']:.1f} / {row['nll']:.3f} / {row['ece']:.3f}"


def uncertainty() -> dict[str, str]:
    """The tables of docs/uncertainty.md: a line for each that is asked for, a column for a set."""
    rows = result("bayes")["rows"]

    def made(head: str, lines: list[Asked], cell: Callable[[Row], str], key: str) -> str:
        sets = [n for n in TITLES if any(r["data"] == n and key in r for r in rows)]
        shown = [[head, *(TITLES[name] for name in sets)]]
        for title, values in lines:
            found = [find(rows, data=name, **values) for name in sets]
            if any(found):
                shown.append([title, *("-" if row is None else cell(row) for row in found)])
        return grid(shown)

    lines = [*DIGITAL, *(line for sigma in SIGMAS for line in on_chips(sigma))]
    return {
        "scores": made("accuracy % / NLL / ECE", lines, scores, "accuracy"),
        "time": made("cells, sigma 0.1, T 16", over_time(), scores, "accuracy"),
        "unknown": made("AUROC of the entropy", unknown(), lambda r: f"{r['auroc_entropy']:.3f}",
                        "auroc_entropy"),
    }  # fmt: skip
