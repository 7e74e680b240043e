"""Tables of README.md, docs/kernels.md and docs/uncertainty.md whose lines gather several rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from benchmarks.common import SIGMA, result
from benchmarks.tables import Row, duration, find, grid, pivot

Line = dict[str, Any]


# -- the README


def networks(found: Mapping[str, Sequence[Row]], methods: Iterable[str]) -> str:
    """The table of the README: a method in each line, with its recovery on each network."""
    lines: list[Line] = [{"method": "score without a chip"}]
    lines[0] |= {network: rows[0]["clean_score"] for network, rows in found.items()}
    for method in methods:
        of = {network: find(rows, method=method) for network, rows in found.items()}
        there = {network: row for network, row in of.items() if row is not None}
        costs = [max(100 * row[f"overhead_{kind}"] for row in there.values())
                 for kind in ("weights", "macs")]  # fmt: skip
        cost = ", ".join(f"{cost:.1f}" for cost in costs)
        line = {network: _recovered(row) for network, row in there.items()}
        lines.append({"method": method, "weights, MACs +%": cost, **line})
    return grid(lines, " | ".join(["method", "weights, MACs +%", *found]))


def _recovered(row: Row) -> str:
    share = 100 * row["recovery"]
    return f"{share:.1f} ± {share * row['std'] / row['mean']:.1f}"


# -- columns of one value each


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


PUBLISHED = {1: (81.90, 82.19), 3: (85.50, 85.57), 5: (86.34, 86.23)}
"""magic, RBF, RFF: log2 ratio -> accuracy in software and on the chip of Büchel et al., in percent,
means over ten projections of their published measurements."""

KERNELS = {
    "accuracy": "data | kernel | s | exact | in software=0 | sigma 0.1=0.1 | 0.3 | 0.5 | "
    "matched 0.3=0.3 match | matched 0.5=0.5 match",
    "errors": "data | s | in software=0 | sigma 0.3=0.3 | sigma 0.5=0.5 | "
    "matched 0.3=0.3 match | matched 0.5=0.5 match",
    "readouts": "data | s | linear ridge | RBFSampler | Nystroem | in software=0 | sigma 0.5=0.5 | "
    "matched=0.5 match | fitted to each chip=0.5 chip",
    "published": "log2 s/d=log2_ratio | paper, software=theirs:.1f | paper, PCM chip=chip:.1f | "
    "ours, software=0 | ours, sigma 0.1=0.1 | ours, sigma 0.3=0.3",
    "attention": "log2 s/d=log2_ratio | sigma 0=0 | sigma 0.1=0.1 | sigma 0.3=0.3 | sigma 0.5=0.5",
}
"""Columns of the tables; those of a deviation are named by it, and by the way."""


def kernels() -> dict[str, str]:
    """The tables of docs/kernels.md."""
    found = result("kernels")
    rows = [dict(zip(found["columns"], row, strict=True)) for row in found["rows"]]
    last = {row["data"]: row["log2_ratio"] for row in rows}  # the largest of each set
    largest = [row for row in rows if row["log2_ratio"] == last[row["data"]]]

    def lines(rows: list[Row], one: str, cell: Callable[[Row], str], **given: Any) -> list[Line]:
        """Return a line for each set, kernel and size, of the rows with the values."""
        those = [row for row in rows if all(row[key] == value for key, value in given.items())]
        return pivot(those, ("data", one), lambda r: f"{r['sigma']:g} {r['way']}".strip(), cell)

    def accuracy(row: Row) -> str:
        return f"{100 * row['accuracy']:.1f}"

    def error(row: Row) -> str:
        pair = (row["error"], row["predicted"])
        return " / ".join("-" if value is None else f"{value:.3f}" for value in pair)

    def baseline(data: str, method: str, kernel: str | None, s: int | None = None) -> str | None:
        """Return the accuracy of a method of scikit-learn, the mean over its seeds."""
        keys, asked = ("data", "method", "kernel", "s"), (data, method, kernel, s)
        same = [r for r in found["baselines"] if tuple(r[key] for key in keys) == asked]
        return accuracy({"accuracy": fmean(r["accuracy"] for r in same)}) if same else None

    rff = {"kernel": "rbf", "features": "rff"}
    made = {
        "accuracy": lines(largest, "kernel", accuracy, features="orf"),
        "errors": lines(largest, "kernel", error, **rff),
        "readouts": lines(rows, "kernel", accuracy, log2_ratio=2, **rff),
        "published": [
            line for line in lines(rows, "log2_ratio", accuracy, data="magic", **rff)
            if line["log2_ratio"] in PUBLISHED
        ],
        "attention": pivot(
            [{"log2_ratio": ratio, "sigma": s, "error": e} for ratio, s, e in found["attention"]],
            ("log2_ratio",), lambda row: f"{row['sigma']:g}", lambda row: f"{row['error']:.2f}",
        ),
    }  # fmt: skip
    for line in made["accuracy"]:
        line["exact"] = baseline(line["data"], "KernelRidge", line["kernel"])
    for line in made["readouts"]:
        line["linear ridge"] = baseline(line["data"], "linear ridge", None)
        for method in ("RBFSampler", "Nystroem"):
            line[method] = baseline(line["data"], method, "rbf", line["s"])
    for line in made["published"]:
        line["theirs"], line["chip"] = PUBLISHED[line["log2_ratio"]]
    return {name: grid(found, KERNELS[name]) for name, found in made.items()}


# -- uncertainty of predictions


TITLES = {
    "breast_cancer": "breast cancer", "digits": "digits", "mnist": "MNIST", "cifar10": "CIFAR-10",
}  # fmt: skip
SOURCES = {
    ("deterministic", 1): "digital, plain",
    ("MC dropout", 64): "MC dropout, T 64",
    ("deep ensemble", 4): "deep ensemble of 4",
    ("laplace", 64): "Laplace, T 64",
    ("mean binary weights", 1): "means of binary weights, digital",
    **{("cells", n): f"cells, sigma {{:g}}, T {n}" for n in (1, 4, 16, 64)},
    ("readings", 1): "plain, one chip, sigma {:g}",
    ("chips", 64): "plain, 64 chips, sigma {:g}",
    ("readings", 64): "plain, 64 readings of one chip, sigma {:g}",
}
"""Method and samples -> name of a line."""

CORRECTED = {"none": "", "temperature": ", temperature", "logit_affine": ", affine by class"}
SIGMAS = (0.0, 0.1, 0.3)
AFTER = {
    (1.0, 0.0): "just programmed",
    (3600.0, 0.0): "after an hour",
    (3600.0, 0.05): "after an hour, amplified",
    (86400.0, 0.0): "after a day",
    (86400.0, 0.05): "after a day, amplified",
}
"""Time, and the exponent that corrects the drift -> name of a line."""

Asked = tuple[str, int, str, float | None]
"""Method, samples, correction and sigma of a line."""


def scored() -> list[Asked]:
    """Return the lines of scores: without chips, then for each deviation."""
    digital = [(*source, "none", None) for source in list(SOURCES)[:5]]
    digital.insert(1, ("deterministic", 1, "temperature", None))
    lines: list[Asked] = [*digital]
    for sigma in SIGMAS:
        lines += [("cells", n, "none", sigma) for n in (1, 4, 16, 64)]
        lines += [("cells", 64, kind, sigma) for kind in ("temperature", "logit_affine")]
        if sigma:
            lines += [("readings", 1, "none", sigma), ("chips", 64, "none", sigma)]
        lines += [("readings", 64, kind, sigma) for kind in ("none", "logit_affine")]
    return lines


def unknown() -> list[Asked]:
    """Return the lines that tell unknown inputs apart."""
    digital = [(*source, "none", None) for source in list(SOURCES)[:4]]
    cells = [("cells", 64, "none", sigma) for sigma in SIGMAS]
    return [*digital, *cells, *(("chips", 64, "none", sigma) for sigma in SIGMAS[1:])]


def uncertainty() -> dict[str, str]:
    """The tables of docs/uncertainty.md: a line for each that is asked for, a column for a set."""
    identity = ("method", "samples", "correction", "sigma", "t", "corrected_nu")

    def made(head: str, asked: Mapping[Any, str], key: str, cell: Callable[[Row], str]) -> str:
        rows = [row for row in result("bayes")["rows"] if key in row]
        lines = pivot(rows, identity, lambda row: TITLES[row["data"]], cell)
        by_identity = {tuple(line.get(name) for name in identity): line for line in lines}
        shown = [{**by_identity[one], head: title} for one, title in asked.items()
                 if one in by_identity]  # fmt: skip
        sets = [title for name, title in TITLES.items() if any(r["data"] == name for r in rows)]
        return grid(shown, " | ".join([head, *sets]))

    def titled(lines: list[Asked]) -> dict[Any, str]:
        return {
            (method, n, kind, sigma, None, None): SOURCES[method, n].format(sigma) + CORRECTED[kind]
            for method, n, kind, sigma in lines
        }

    def scores(row: Row) -> str:
        return f"{100 * row['accuracy']:.1f} / {row['nll']:.3f} / {row['ece']:.3f}"

    over_time = {
        ("cells", 16, kind, 0.1, *point): name + CORRECTED[kind]
        for point, name in AFTER.items() for kind in ("none", "temperature")
    }  # fmt: skip
    return {
        "scores": made("accuracy % / NLL / ECE", titled(scored()), "accuracy", scores),
        "time": made("cells, sigma 0.1, T 16", over_time, "accuracy", scores),
        "unknown": made("AUROC of the entropy", titled(unknown()), "auroc_entropy",
                        lambda row: f"{row['auroc_entropy']:.3f}"),
    }  # fmt: skip
