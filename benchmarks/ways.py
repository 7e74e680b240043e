"""Ways to use a chip: what is trained, what is fitted to it, and how it is measured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from benchmarks.common import SIGMA, Row, recorded, result
from benchmarks.subjects import (
    CHIPS_SEED,
    LIMIT,
    VALIDATION_SEED,
    Subject,
    cost_of,
    dataset,
    folder_of,
    kept,
    network,
    overheads,
)
from cnet_aihw import compensation, evaluation, search
from cnet_aihw.cluster import RaySettings
from cnet_aihw.runtime.records import write_json_atomic
from cnet_aihw.search.searchers import Searcher

REFINE_LR = 3e-3


@dataclass(frozen=True)
class Way:
    """One way to use a chip: a row of the results."""

    name: str
    training: str
    corrector: compensation.Corrector | None = None
    placement: compensation.Placement | None = None
    fit: str = "none"
    """"none", "per_chip", "shared" (trained over chips) or "batchnorm"."""

    images: int = 1000
    refine_steps: int = 0
    refine_batch: int = 64
    target: str = "clean"
    beta: float | None = None
    lrs: tuple[float, ...] = (compensation.FitSettings.lr,)
    """Learning rates of a shared fit to choose among, on validation chips."""

    ridge: float | None = None
    """Of a fit per chip; None: chosen at each layer."""


def calibration(way: Way, subject: Subject) -> evaluation.ChipCalibration | None:
    """Return what is done on each chip."""
    x = dataset(subject.data).train.x[: way.images]
    if way.fit == "batchnorm":
        return evaluation.BatchNormReestimation(x)
    if way.fit != "per_chip":
        return None
    assert way.corrector is not None and way.placement is not None
    fit = compensation.PerChipFit(
        x, batch_size=2000, refine_steps=way.refine_steps, refine_lr=REFINE_LR,
        refine_batch=way.refine_batch, ridge=way.ridge,
        target=way.target, task=subject.task,
    )  # fmt: skip
    return compensation.WithCompensation(way.placement, way.corrector, fit)


def prepared(way: Way, subject: Subject, seed: int, sigma: float = SIGMA) -> nn.Module:
    """Return the network of a way; shared correctors are fitted, the best on validation chips."""
    if way.fit != "shared":
        return network(subject, seed, way.training, way.beta, sigma)
    fits: list[tuple[float, nn.Module]] = []
    for lr in way.lrs:
        model = network(subject, seed, way.training, way.beta, sigma)
        compensation.compensate(model, way.placement, way.corrector, 0)
        name = way.name if lr == way.lrs[0] else f"{way.name}, lr {lr:g}"
        settings = compensation.FitSettings(epochs=subject.fit_epochs, lr=lr, validation_chips=2)
        found = compensation.fit_compensation(
            model, dataset(subject.data), settings, folder_of(subject, seed) / "shared" / name,
            task=subject.task, progress=False,
        )  # fmt: skip
        print(f"{subject.name} seed {seed}: {name}: lr {lr:g}, validation {found.chip_score}")
        fits.append((found.chip_score, model))
    sign = 1 if subject.task.higher_is_better else -1
    return max(fits, key=lambda fit: sign * fit[0])[1]


def measure(
    way: Way,
    subject: Subject,
    seed: int,
    records: Path,
    chips: int,
    *,
    part: str = "test",
    samples: int | None = None,
    sigma: float = SIGMA,
) -> Row:
    """Measure one way over chips; return its row."""
    model = prepared(way, subject, seed, sigma)
    asked = calibration(way, subject)
    measured = getattr(dataset(subject.data), part).first(samples)
    chips_seed = CHIPS_SEED if part == "test" else VALIDATION_SEED
    records.parent.mkdir(parents=True, exist_ok=True)
    found = evaluation.evaluate_chips(
        model, measured, task=subject.task, chips=chips, seed=chips_seed, calibration=asked,
        records=records, device="cpu", batch_size=500,
    )  # fmt: skip
    spent, per_chip = getattr(asked, "spent", None), way.fit == "per_chip"
    cost = {"overhead_weights": 0.0, "overhead_macs": 0.0}
    if way.corrector is not None and way.placement is not None:
        cost = overheads(cost_of(subject), way.placement, way.corrector)
    return {
        "way": way.name,
        "network": subject.name,
        "data": subject.data,
        "training": way.training,
        "training_seed": seed,
        "beta": way.beta or (subject.betas[0] if way.training == "lipschitz" else None),
        "metric": subject.task.metric,
        "corrector": None if way.corrector is None else way.corrector.label(),
        "features": getattr(way.corrector, "features", None),
        "placement": None if way.placement is None else dict(way.placement),
        "fit": way.fit,
        "target": way.target if per_chip else None,
        "refine_steps": way.refine_steps if per_chip else None,
        "images": way.images if way.fit in ("per_chip", "batchnorm") else None,
        **cost,
        "part": part,
        "samples": len(measured),
        "sigma": sigma,
        **over_chips(found),
        "chips": chips,
        "chips_seed": chips_seed,
        "seconds_per_chip": None if spent is None else spent.seconds,
        "passes": None if spent is None else spent.passes,
    }


def over_chips(found: evaluation.ChipStatistics) -> dict[str, float | None]:
    """Return what rows say of a measurement."""
    return {name: getattr(found, name) for name in ("clean", "mean", "std", "q05")}


def measure_all(ways: Iterable[Way], subject: Subject, seed: int, sigma: float, chips: int) -> None:
    """Measure ways on test data, each in a file of its own, unless it has as many chips."""
    usual = subject.of_paper and sigma == SIGMA  # then names go without the deviation
    folder = folder_of(subject, seed) / ("test" if usual else f"test-{sigma:g}")
    for way in ways:
        path = folder / f"{way.name.replace(' ', '-')}.json"
        if path.exists() and recorded(path)["chips"] >= chips:
            continue
        if way.fit == "shared" and not usual:
            way = replace(way, name=f"{way.name} {sigma:g}")
        records = path.with_suffix(".jsonl")
        row = measure(way, subject, seed, records, chips, samples=subject.test, sigma=sigma)
        write_json_atomic(path, row)
        print(f"{path}: {row['mean']:.4f}", flush=True)


def searched(
    subject: Subject, searcher: Searcher, beta: float | None, budget: int, limit: float = LIMIT
) -> compensation.Placement:
    """Return the placement that a search finds within both limits, on few chips and images."""
    training, images = "plain" if beta is None else "lipschitz", subject.images
    model, data = network(subject, 0, training, beta), dataset(subject.data)
    cost = cost_of(subject)
    problem = search.placement_problem(
        cost, list(cost.layers), compensation.LowRank(), limit,
        search.SpaceSettings(sizes=list(subject.sizes)),
        objective=search.ObjectiveSettings(overhead="none"), limit_macs=limit,
    )  # fmt: skip
    evaluator = search.PerChipEvaluator(
        model, data.val, data.train.x[: images // 2], task=subject.task, chips=3,
        samples=images, seed=2000, device="cpu",
    )  # fmt: skip
    folder, within = folder_of(subject, 0) / "choose", "" if limit == LIMIT else f"-{limit:g}"
    found = search.run_search(
        problem, evaluator, searcher, folder / f"beta-{beta or 0:g}-{searcher.name}{within}",
        budget=budget, store=folder / "evaluations", ray=RaySettings(dashboard=False),
    )  # fmt: skip
    return found.placement


def choice_file(subject: Subject) -> Path:
    """Where `per_chip choose` records its choice."""
    return folder_of(subject, 0) / "choose.json"


def choice_of(subject: Subject) -> Row:
    """Return what `per_chip choose` chose: its record, or else that of the results."""
    path, known = choice_file(subject), result("per_chip").get("choice", {})
    if not path.exists() and subject.name not in known:
        command = f"python -m benchmarks.per_chip choose --network {subject.name}"
        raise SystemExit(f"{subject.name}: its placement is not chosen yet; {command} does it")
    return dict(recorded(path) if path.exists() else known[subject.name])


def chosen(subject: Subject) -> Row:
    """Return the row of the penalty and placement that were chosen."""
    return dict(choice_of(subject)["chosen"])


def choose_best(candidates: Iterable[Way], subject: Subject, samples: int) -> tuple[list[Row], Row]:
    """Measure ways on validation data, on four chips; return all rows, and the best one."""
    rows, sign = [], 1 if subject.task.higher_is_better else -1
    for way in candidates:
        records = folder_of(subject, 0) / "choose" / f"{way.name.replace(' ', '-')}.jsonl"
        sigma = subject.sigmas[0]
        row = measure(way, subject, 0, records, 4, part="val", samples=samples, sigma=sigma)
        print(f"{subject.name}: {way.name}: {row['mean']:.4f}", flush=True)
        rows.append(row)
    return rows, max(rows, key=lambda row: sign * row["mean"])


def plain_clean(subject: Subject, seed: int, samples: int | None) -> float:
    """Return the clean score of the plain network on the first samples of the test part.

    It is measured, or, where that network is not here, the one that the results have.
    """
    weights = folder_of(subject, seed) / "plain" / "best.safetensors"
    if not (weights.exists() or kept(subject, "plain", seed).exists()):
        about = {"network": subject.name, "training_seed": seed, "samples": samples}
        about["way"] = "plain, none"
        for row in (*result("per_chip")["rows"], *result("transformers")["rows"]):
            if row.items() >= about.items():
                return float(row["clean"])
    part, model = dataset(subject.data).test.first(samples), network(subject, seed, "plain")
    return evaluation.ceiling(model, part, [], task=subject.task, chips=1, batch_size=500).clean
