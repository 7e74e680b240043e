"""Settings of the Lipschitz penalty, with correctors per chip after it, on validation data.

    python -m benchmarks.penalty run     # --network lenet5_cifar10
    python -m benchmarks.penalty table   # benchmarks/results/penalty.json

Each setting is a training of its own from the same first weights; one value at a time differs from
the first row. Placement and plain network are those of `benchmarks.per_chip`.
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks import common
from benchmarks.subjects import SUBJECTS, Subject, folder_of, where
from benchmarks.ways import Way, chosen, measure
from cnet_aihw.compensation import LowRank, Placement

COMMAND = "python -m benchmarks.penalty"
SETTINGS: dict[str, tuple[str, ...]] = {
    "beta 0.001": (),
    "beta 0.0001": ("beta=0.0001",),
    "beta 0.0003": ("beta=0.0003",),
    "beta 0.003": ("beta=0.003",),
    "beta 0.01": ("beta=0.01",),
    "k 0.5": ("k=0.5",),
    "k 2": ("k=2",),
    "slices": ("gram=slices",),
    "folded 0.0001": ("beta=0.0001", "fold_batchnorm=true"),  # with 0.001 it diverges
}
"""Name -> words of the command beside those of the first row."""


def run(network: list[str], chips: int) -> None:
    """Train with each setting, and measure without correctors and with them."""
    for subject in (SUBJECTS[name] for name in network):
        for name, words in SETTINGS.items():
            if name.startswith("folded") and not subject.name.startswith("vgg"):
                continue  # it has no BatchNorm
            folder = folder_of(subject, 0) / "penalty" / name.replace(" ", "-")
            given = [f"training.lipschitz.{word}" for word in words]
            if not words or not words[0].startswith("beta"):
                given.append(f"training.lipschitz.beta={subject.betas[0]:g}")
            common.cnet_aihw(
                f"experiment={subject.name}", "job=train", *where(subject.data),
                "training=lipschitz", "training.select=last", *given, "progress=false",
                f"run={folder}",
            )  # fmt: skip
            common.once(folder / "rows.json", measured, subject, name, chips)


def measured(subject: Subject, name: str, chips: int) -> list[common.Row]:
    """Return the rows of a setting."""
    training = f"penalty/{name.replace(' ', '-')}/lipschitz"
    bare = Way(f"{name}, none", training)
    placement = Placement(chosen(subject)["placement"])
    fitted = replace(
        bare, name=f"{name}, per chip", corrector=LowRank(), placement=placement, fit="per_chip"
    )
    return [
        {**measure(way, subject, 0, folder_of(subject, 0) / training / f"{way.name}.jsonl", chips,
                   part="val", samples=2000),
         "setting": name, "command": f"{COMMAND} run --network {subject.name} --chips {chips}"}
        for way in (bare, fitted)
    ]  # fmt: skip


def table() -> None:
    """Write all rows."""
    folders = (folder_of(subject, 0) / "penalty" for subject in SUBJECTS.values())
    rows = common.rows_in(path for folder in folders for path in sorted(folder.glob("*/rows.json")))
    common.write_result(
        "penalty", f"{COMMAND} run", common.with_earlier("penalty", rows, "network", "way")
    )


if __name__ == "__main__":
    common.command_line(
        __doc__, run, table, network=["lenet5_cifar10", "vgg16_narrow_cifar10"], chips=20
    )
