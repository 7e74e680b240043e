"""Tables of docs/kernels.md from results/kernels.json: python -m benchmarks.kernels_page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "kernels.md"
BEGIN, END = "<!-- results: begin -->\n", "<!-- results: end -->"
PUBLISHED = {1: (81.90, 82.19), 3: (85.50, 85.57), 5: (86.34, 86.23)}
"""magic, RBF, RFF: log2 ratio -> accuracy in software and on the chip of Büchel et al., in percent,
means over ten projections of their published measurements."""


class Results:
    """Rows of the file by what they are of."""

    def __init__(self, found: dict[str, Any]) -> None:
        self.found, self.columns = found, found["columns"]
        self.rows = [dict(zip(self.columns, row, strict=True)) for row in found["rows"]]

    def one(self, **given: Any) -> dict[str, Any] | None:
        """Return the row with these values."""
        return next((r for r in self.rows if all(r[n] == v for n, v in given.items())), None)

    def number(self, name: str, **given: Any) -> str:
        """Return a number of a row as written; accuracies in percent."""
        row = self.one(**given)
        if row is None or row[name] is None:
            return "-"
        return f"{100 * row[name]:.1f}" if name == "accuracy" else f"{row[name]:.3f}"

    def baseline(self, data: str, method: str, kernel: str | None, s: int | None = None) -> str:
        """Return the accuracy of a method of scikit-learn, the mean over its seeds."""
        found = [
            r["accuracy"] for r in self.found["baselines"]
            if (r["data"], r["method"], r["kernel"], r["s"]) == (data, method, kernel, s)
        ]  # fmt: skip
        return f"{100 * sum(found) / len(found):.1f}" if found else "-"

    def sets(self) -> Iterator[tuple[str, int, int]]:
        """Yield each set, its largest log2 ratio and the rows s there."""
        for data in self.found["samples"]:
            of_set = [r for r in self.rows if r["data"] == data]
            if of_set:
                last = max(of_set, key=lambda r: int(r["log2_ratio"]))
                yield data, last["log2_ratio"], last["s"]


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def accuracy(results: Results) -> str:
    """Accuracy of all kernels at the largest size, with orthogonal rows."""
    rows = []
    for data, ratio, s in results.sets():
        for kernel in ("rbf", "arc_cosine", "softmax"):
            given = {"data": data, "kernel": kernel, "log2_ratio": ratio, "features": "orf"}
            bare = [results.number("accuracy", **given, sigma=sigma, way="")
                    for sigma in (0.0, 0.1, 0.3, 0.5)]  # fmt: skip
            matched = [results.number("accuracy", **given, sigma=sigma, way="match")
                       for sigma in (0.3, 0.5)]  # fmt: skip
            exact = results.baseline(data, "KernelRidge", kernel)
            rows.append([data, kernel, str(s), exact, *bare, *matched])
    head = ["data", "kernel", "s", "exact", "in software", "sigma 0.1", "0.3", "0.5",
            "matched 0.3", "matched 0.5"]  # fmt: skip
    return table(head, rows)


def errors(results: Results) -> str:
    """Errors of the RBF kernel by independent rows, measured / predicted."""
    rows = []
    for data, ratio, s in results.sets():
        given = {"data": data, "kernel": "rbf", "log2_ratio": ratio, "features": "rff"}
        shown = [
            " / ".join(results.number(name, **given, **of) for name in ("error", "predicted"))
            for of in ({"sigma": 0.0, "way": ""}, {"sigma": 0.3, "way": ""},
                       {"sigma": 0.5, "way": ""}, {"sigma": 0.3, "way": "match"},
                       {"sigma": 0.5, "way": "match"})
        ]  # fmt: skip
        rows.append([data, str(s), *shown])
    head = ["data", "s", "in software", "sigma 0.3", "sigma 0.5", "matched 0.3", "matched 0.5"]
    return table(head, rows)


def readouts(results: Results) -> str:
    """Read-outs fitted to features in software, or to those of each chip."""
    rows = []
    for data, _, _ in results.sets():
        given = {"data": data, "kernel": "rbf", "features": "rff", "log2_ratio": 2}
        row = results.one(**given, sigma=0.0, way="")
        s = row["s"] if row else None
        ways = [("", 0.0), ("", 0.5), ("match", 0.5), ("chip", 0.5)]
        shown = [results.number("accuracy", **given, way=way, sigma=sigma) for way, sigma in ways]
        sampled = [results.baseline(data, m, "rbf", s) for m in ("RBFSampler", "Nystroem")]
        rows.append([data, str(s), results.baseline(data, "linear ridge", None), *sampled, *shown])
    head = ["data", "s", "linear ridge", "RBFSampler", "Nystroem", "in software", "sigma 0.5",
            "matched", "fitted to each chip"]  # fmt: skip
    return table(head, rows)


def published(results: Results) -> str:
    """Accuracy on magic beside the paper's chip."""
    rows = []
    for ratio, (software, chip) in PUBLISHED.items():
        given = {"data": "magic", "kernel": "rbf", "features": "rff", "log2_ratio": ratio}
        ours = [results.number("accuracy", **given, way="", sigma=sigma)
                for sigma in (0.0, 0.1, 0.3)]  # fmt: skip
        rows.append([str(ratio), f"{software:.1f}", f"{chip:.1f}", *ours])
    head = ["log2 s/d", "paper, software", "paper, PCM chip", "ours, software", "ours, sigma 0.1",
            "ours, sigma 0.3"]  # fmt: skip
    return table(head, rows)


def attention(results: Results) -> str:
    """Relative error of the outputs of Performer attention."""
    found = {(ratio, sigma): f"{error:.2f}" for ratio, sigma, error in results.found["attention"]}
    sigmas = sorted({sigma for _, sigma in found})
    rows = [[str(ratio), *(found[ratio, sigma] for sigma in sigmas)]
            for ratio in sorted({ratio for ratio, _ in found})]  # fmt: skip
    return table(["log2 s/d", *(f"sigma {sigma:g}" for sigma in sigmas)], rows)


WORDS = {
    accuracy: "Accuracy in percent at the largest size, orthogonal rows, read-out fitted in "
    "software. `exact` is kernel ridge regression of scikit-learn, on at most 4000 training "
    "samples.",
    errors: "Relative error of the RBF kernel, independent rows, on 200 test samples: measured / "
    "predicted.",
    readouts: "Accuracy in percent of the RBF kernel, independent rows, s = 4 d; methods of "
    "scikit-learn have as many features (2 s).",
    published: "magic, RBF, independent rows, beside the chip of the paper (means over ten "
    "projections of its published measurements).",
    attention: "Relative error of the outputs of Performer attention against softmax attention of "
    "random weights and tokens: 4 heads of 16, 64 tokens, the projection of features alone on a "
    "crossbar.",
}


def text(results: Results) -> str:
    """Return all tables with their words."""
    parts = [f"Command: `{results.found['command']}`."]
    for make, words in WORDS.items():
        parts += [words, make(results)]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Put the tables between the marks of the page."""
    found = json.loads((HERE / "results" / "kernels.json").read_text(encoding="utf-8"))
    page = PAGE.read_text(encoding="utf-8")
    first, rest = page.split(BEGIN)
    last = rest.partition(END)[2]
    PAGE.write_text(first + BEGIN + "\n" + text(Results(found)) + "\n" + END + last, "utf-8")


if __name__ == "__main__":
    main()
