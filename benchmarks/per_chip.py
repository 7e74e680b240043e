"""Correctors fitted to each chip against every other way to use a chip, at 5 % of weights and MACs.

    python -m benchmarks.per_chip train    # networks: plain, penalty, noise; up to three seeds
    python -m benchmarks.per_chip choose   # penalty, sizes and refinement, on validation data
    python -m benchmarks.per_chip run      # all ways x sigma on the same chips, on test data
    python -m benchmarks.per_chip scan     # sensitivity of each layer, on validation data
    python -m benchmarks.per_chip curves   # over size, images and sigma
    python -m benchmarks.per_chip cost     # seconds of a fit beside plain passes, a minute
    python -m benchmarks.per_chip table    # benchmarks/results/per_chip.json, transformers.json

`--network NAME`, `--seed 0`, `--sigma 0.5` and `--way 'plain*'` restrict it. Networks, those of the
paper and others, and where records and data are: see benchmarks/subjects.py. Each step resumes
where it was stopped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatch
from itertools import product
from typing import Any

from benchmarks import common
from benchmarks.curves import cost_row, on_front, points
from benchmarks.subjects import (
    LIMIT,
    SUBJECTS,
    Subject,
    cost_of,
    dataset,
    folder_of,
    kept,
    network,
    overheads,
    sizes,
    uniform,
    where,
)
from benchmarks.ways import (
    Way,
    choice_file,
    choice_of,
    choose_best,
    measure,
    measure_all,
    plain_clean,
    searched,
)
from cnet_aihw.compensation import Affine, GeneratorCompensator, LowRank, Placement, Vera
from cnet_aihw.evaluation import scan_layers
from cnet_aihw.search.searchers import CoordinateSearcher, SpectrumSearcher
from cnet_aihw.zoo import VGG16, ResNet20

COMMAND = "python -m benchmarks.per_chip"
SEEDS, SIGMAS = [0, 1, 2], [common.SIGMA, 0.1, 0.3, 0.7]
FROM_KEPT = (
    "experiment=vgg16_narrow_cifar10", "job=train",
    "training.schedule=onecycle", "training.lr=0.02", "training.warmup_epochs=0",
    "training.label_smoothing=0.1", "training.bf16=true", "progress=false",
)  # fmt: skip
VERA_LRS = (2e-3, 2e-4, 2e-5)  # its fit diverges with that of the others on some networks


def asked(names: list[str], seeds: list[int]) -> Iterator[tuple[Subject, int]]:
    """Yield each network with each of its seeds that is asked for."""
    for subject, seed in product((SUBJECTS[name] for name in names), seeds):
        if seed < subject.seeds:
            yield subject, seed


def train(network: list[str], seed: list[int]) -> None:
    """Train all networks, by the commands that are printed."""
    for subject, number in asked(network, seed):
        for words in commands(subject, number):
            common.cnet_aihw(*words)


def commands(subject: Subject, seed: int) -> Iterator[list[str]]:
    """Yield the words of the commands that train a network."""
    plain, folder = kept(subject, "plain", seed), folder_of(subject, seed)
    words = [f"experiment={subject.name.replace('_half', '')}", "job=train", *subject.words,
             *where(subject.data), "progress=false", f"seed={seed}"]  # fmt: skip
    if subject.width != 0.125:
        words.append(f"model.width={subject.width:g}")
    if subject.from_plain is not None:
        under = [
            (subject.under("noise_from_plain", sigma), *subject.from_plain, sigma)
            for sigma in (subject.sigmas[0], common.SIGMA)
        ]
        under += [("milder_noise", *subject.milder)] if subject.milder else []
        if not plain.exists():
            plain = folder / "plain" / "best.safetensors"
            if not plain.exists():
                yield [*words, f"run={folder}", "training=plain"]
        for name, epochs, lr, sigma in under:
            yield [*words, f"run={folder}", "training=noise", f"training.name={name}",
                   f"rram.sigma={sigma:g}", f"pretrained={plain}", f"training.epochs={epochs}",
                   f"training.lr={lr:g}"]  # fmt: skip
    elif not subject.of_paper:
        yield [*words, f"run={folder}"]
    elif subject.later is not None:  # the plain network takes hours: others start from it
        if not plain.exists():
            plain = folder / "plain" / "best.safetensors"
            yield [*words, "training.compare=[plain]", "training.select=last", f"run={folder}"]
        for name in subject.trainings.split(",")[1:]:
            kind, epochs = ("lipschitz", 4) if name == "lipschitz" else ("noise", 8)
            beta = [f"training.lipschitz.beta={subject.betas[0]:g}"] if subject.betas else []
            yield [f"training={kind}", f"training.name={name}", f"training.epochs={epochs}",
                   *FROM_KEPT, *where(subject.data), f"model.width={subject.width:g}",
                   f"pretrained={plain}", f"seed={seed}", *beta, *subject.later,
                   f"run={folder}"]  # fmt: skip
    else:
        for beta in subject.betas or (None,):
            names = subject.trainings if beta in (None, *subject.betas[:1]) else "lipschitz"
            yield [*words, f"training.compare=[{names}]", "training.select=last",
                   f"training.lipschitz.beta={beta or 0:g}",
                   f"run={folder_of(subject, seed, beta)}"]  # fmt: skip


# -- the choice of a penalty, a placement and a refinement, on validation data


def choose(network: list[str]) -> None:
    """Choose penalty, placement and refinement by the first seed's networks."""
    for subject in (SUBJECTS[name] for name in network):
        common.once(choice_file(subject), choose_among, subject)


def choose_among(subject: Subject) -> dict[str, Any]:
    """Measure all candidates, then refinements of the best one."""
    samples = 2000 if subject.of_paper else subject.images
    rows, best = choose_best(candidates(subject, samples), subject, samples)
    if not (subject.refined and subject.of_paper):
        return {"rows": rows, "chosen": best, "refined": None}
    way = Way(
        best["way"], best["training"], LowRank(), Placement(best["placement"]), "per_chip",
        beta=best["beta"],
    )  # fmt: skip
    refined = [
        replace(way, name=f"{way.name}, {n} steps, {images} images", images=images, refine_steps=n)
        for n, images in subject.refined
    ]
    more, best_refined = choose_best(refined, subject, samples)
    return {"rows": rows + more, "chosen": best, "refined": best_refined}


def candidates(subject: Subject, images: int) -> Iterator[Way]:
    """Yield each penalty with each placement within the limits."""
    for beta in subject.betas or (None,):
        training = "plain" if beta is None else "lipschitz"
        cost = cost_of(subject)
        few = (1, 2) if subject.of_paper else (1, 2, 4)
        placements = {f"size {size}": sizes(cost, size) for size in few}
        placements["spectrum"] = searched(subject, SpectrumSearcher(), beta, 1)
        if subject.budget:
            placements["coordinate"] = searched(subject, CoordinateSearcher(), beta, subject.budget)
        for name, placement in placements.items():
            named = f"beta {beta or 0:g}, {name}" if subject.of_paper else name
            way = Way(named, training, LowRank(), placement, "per_chip", images=images, beta=beta)
            if max(overheads(cost, placement, LowRank()).values()) <= LIMIT:
                yield way


# -- ways to use a chip, on test data


def ways(subject: Subject, sigma: float = common.SIGMA) -> Iterator[Way]:
    """Yield all ways that are compared; of networks beside the paper's, fewer.

    Those were trained under noise at the deviation that is measured, or at their first one.
    """
    choice, paper = choice_of(subject), subject.of_paper
    beta, placement = choice["chosen"]["beta"], Placement(choice["chosen"]["placement"])
    cost = cost_of(subject)
    affine = uniform(cost, Affine())
    trainings = subject.trainings.split(",")
    for training in trainings:
        target = "mean_over_chips" if training.startswith("noise") else "clean"
        found = subject.under(training, sigma)
        bare = Way(f"{training}, none", found, beta=beta if training == "lipschitz" else None)
        yield bare
        if subject.kind in (VGG16, ResNet20):
            yield replace(bare, name=f"{training}, batchnorm", fit="batchnorm")
        fitted = replace(bare, fit="per_chip", target=target, images=subject.images)
        if paper or training == "plain":
            yield replace(fitted, name=f"{training}, affine", corrector=Affine(), placement=affine)
        fitted = replace(
            fitted, name=f"{training}, per chip", corrector=LowRank(), placement=placement
        )
        yield fitted
        if not paper:
            steps, images = subject.refined[-1 if training == "milder_noise" else 0]
            yield replace(fitted, name=f"{training}, per chip, refined", refine_steps=steps,
                          images=images, refine_batch=subject.batch)  # fmt: skip
    if not paper:
        yield Way("plain, shared", "plain", LowRank(), placement, "shared")
        return
    if (refined := choice["refined"]) is not None:
        yield Way(
            "lipschitz, per chip, refined", "lipschitz", LowRank(), placement, "per_chip",
            images=refined["images"], refine_steps=refined["refine_steps"], beta=beta,
        )  # fmt: skip
    yield Way("dora-like", "plain", LowRank(), placement, "per_chip", images=10, refine_steps=100)
    correctors = {
        "paper, shared": ("lipschitz", GeneratorCompensator()),
        "ahwa-lora-like": ("plain", LowRank("x")),
        "vera-like": ("plain", Vera()),
    }
    for name, (training, corrector) in correctors.items():
        if training in trainings:
            b = beta if training == "lipschitz" else None
            lrs = VERA_LRS if isinstance(corrector, Vera) else Way.lrs
            yield Way(
                name, training, corrector, uniform(cost, corrector), "shared", beta=b, lrs=lrs
            )


def run(network: list[str], seed: list[int], sigma: list[float], way: str, chips: int) -> None:
    """Measure the ways whose names match a pattern, at each deviation."""
    for subject, number in asked(network, seed):
        for deviation in (each for each in subject.sigmas if each in sigma):
            matching = (found for found in ways(subject, deviation) if fnmatch(found.name, way))
            most = chips or (50 if subject.of_paper else 25)
            measure_all(matching, subject, number, deviation, most)


def scan(network: list[str]) -> None:
    """Measure plain networks beside the paper's with one layer at a time on the chip."""
    for subject in (SUBJECTS[name] for name in network):
        if not subject.of_paper:
            common.once(folder_of(subject, 0) / "scan.json", scanned, subject)


def scanned(subject: Subject) -> dict[str, Any]:
    """Return the mean of each layer alone."""
    found = scan_layers(
        network(subject, 0, "plain", sigma=subject.sigmas[0]),
        dataset(subject.data).val.first(min(500, subject.images)), mode="single",
        task=subject.task, chips=5, seed=1, device="cpu",
        records=folder_of(subject, 0) / "scan.jsonl",
    )  # fmt: skip
    about = {"network": subject.name}
    rows = [about | {"layer": r.name, "mean": r.mean, "clean": found.clean} for r in found.rows]
    return {"rows": rows}


def curves(network: list[str]) -> None:
    """Measure the penalised network over size, images and sigma, on the first seed."""
    for subject in (SUBJECTS[name] for name in network):
        samples = min(subject.test or 2000, 2000)
        for curve, name, way, sigma in points(subject):
            path = folder_of(subject, 0) / "curves" / f"{curve}-{name}.json"
            size = name.rpartition("-")[2] if curve == "size" else None
            if curve == "overhead":
                size = f"within {100 * float(name.rpartition('-')[2]):g} %"
            about = {"curve": curve, "way": way.name.partition(", within")[0], "size": size}
            records = path.with_suffix(".jsonl")
            given = {"samples": samples, "sigma": sigma}
            common.once(path, lambda w=way, s=subject, r=records, g=given, about=about: {
                **measure(w, s, 0, r, 10, **g), **about
            })  # fmt: skip


def cost(network: list[str]) -> None:
    """Time the closed form on one chip beside plain passes over the same images, in turns."""
    rows = [cost_row(SUBJECTS[name]) for name in network]
    common.write_result(
        "per_chip_cost", f"{COMMAND} cost", common.with_earlier("per_chip_cost", rows, "network")
    )


# -- results


def rows_of(subject: Subject, seed: int, kind: str, command: str) -> Iterator[common.Row]:
    """Yield rows with their recovery, that of the plain network's clean score."""
    clean: dict[int, float] = {}
    for row in common.rows_in(sorted(folder_of(subject, seed).glob(f"{kind}*/*.json"))):
        top = clean.get(row["samples"]) or plain_clean(subject, seed, row["samples"])
        clean[row["samples"]] = top
        yield {
            **row,
            "way": row["way"].removesuffix(f" {row['sigma']:g}"),  # of shared fits
            "command": command.format(**row),
            "plain_clean": top,
            "recovery": subject.task.recovery(row["mean"], top),
        }


def table() -> None:
    """Write all results; rows of which no records are here stay as they are there."""
    each, place = list(asked(list(SUBJECTS), SEEDS)), list(SUBJECTS).index
    found: dict[str, list[common.Row]] = {"per_chip": [], "transformers": []}
    for subject, seed in each:
        rows = rows_of(subject, seed, "test", f"{COMMAND} run --chips {{chips}}")
        found["per_chip" if subject.of_paper else "transformers"] += rows
    one = "network", "training_seed", "way"
    rows = common.with_earlier("per_chip", found["per_chip"], *one, "sigma")
    rows.sort(key=lambda row: (
        row["sigma"] != common.SIGMA, place(row["network"]), row["training_seed"], row["way"],
        row["sigma"],
    ))  # fmt: skip
    paths = {s.name: choice_file(s) for s in SUBJECTS.values()}
    choice = common.result("per_chip").get("choice", {})
    choice |= {name: common.recorded(path) for name, path in paths.items() if path.exists()}
    common.write_result("per_chip", f"{COMMAND} run", rows, limit=LIMIT, choice=choice)

    rows = common.with_earlier("transformers", found["transformers"], *one, "sigma")
    rows.sort(key=lambda row: (
        place(row["network"]), row["training_seed"], row["sigma"], row["way"]
    ))  # fmt: skip
    scans = common.rows_in(folder_of(subject, 0) / "scan.json" for subject in SUBJECTS.values())
    scans = common.with_earlier("transformers", scans, "network", "layer", key="sensitivity")
    for row in scans:
        recovery = SUBJECTS[row["network"]].task.recovery(row["mean"], row["clean"])
        row["lost"] = None if recovery is None else 1 - recovery
    scans.sort(key=lambda row: (row["network"], -(row["lost"] or 0.0)))
    common.write_result("transformers", f"{COMMAND} run", rows, limit=LIMIT, sensitivity=scans)

    rows = [row for pair in each for row in rows_of(*pair, "curves", f"{COMMAND} curves")]
    of_point = "curve", "size", "features", "images", "sigma"
    rows = common.with_earlier("per_chip_curves", rows, *one, *of_point)
    rows.sort(key=lambda row: (
        row["curve"], row["way"], row["features"] or "", row["images"] or 0, row["sigma"],
        max(row["overhead_weights"], row["overhead_macs"]),
    ))  # fmt: skip
    over = [row for row in rows if row["curve"] == "overhead"]
    rows = [{**row, "front": on_front(row, over)} if row in over else row for row in rows]
    common.write_result("per_chip_curves", f"{COMMAND} curves", rows)


if __name__ == "__main__":
    common.command_line(
        __doc__, train, choose, run, scan, curves, cost, table,
        network=list(SUBJECTS), seed=SEEDS, sigma=SIGMAS, way="*", chips=0,
    )  # fmt: skip
