"""Put tables and figures into README.md and docs, from benchmarks/results alone.

    python -m benchmarks.page

The words of the pages are in docs, what is written here stands between marks there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import fmean
from typing import Any

from benchmarks import figures, pivots
from benchmarks.common import SIGMA, result
from benchmarks.paper import page as rows_page
from benchmarks.tables import DOCS, OVER_CHIPS, README, Row, put, table

TABLES = {
    "training": f"data | training | {OVER_CHIPS} | seed | recovery %=recovery:.2%",
    "selection": "data | training | lr | beta | epochs | clean %=validation_clean:.2% | "
    "mean on chips %=validation_chips_mean:.2% | std=validation_chips_std:.2%",
    "per_chip": "network | training seed=training_seed | way | weights +% | MACs +% | "
    "images of the fit=images | steps=refine_steps | test images=samples | "
    f"{OVER_CHIPS} | recovery %",
    "per_chip_deviations": "network | training seed=training_seed | way | 0.1 | 0.3 | 0.5 | 0.7 | "
    "chips",
    "per_chip_curves": "network | curve=way | features | size | images | sigma | weights +% | "
    "MACs +% | mean % | std | chips | recovery %",
    "per_chip_fronts": "network | method=way | size | weights +% | MACs +% | mean % | std | "
    "chips | recovery % | on the front=front:yes",
    "drift": "device | way | 25 s | 1 h | 1 day | 1 month | 1 year | kept %=recovery:.1% | "
    "passes=passes:.0f | chips",
    "penalty": f"network | setting | correctors=corrector | {OVER_CHIPS}",
    "tuning": "network | training | sigma | fresh=rewrite_sigma | way | writes=writes_most | "
    "images=forwards:.0f | weights +%=overhead:.2% | clean %=clean:.1% | before %=before:.1% | "
    "tuned %=score:.1% | std=std:.1% | on other chips %=others:.1% | "
    "correctors instead %=per_chip:.1% | on top %=tuned_per_chip:.1% | angle=angle:.0f | chips",
    "transformers": "network | score=metric | sigma | way | weights +% | MACs +% | "
    "clean=clean:.4f | mean=mean:.4f | std=std:.4f | 5 % quantile=q05:.4f | chips | recovery %",
    "sensitivity": "network | layer | clean=clean:.4f | alone=mean:.4f | lost %=lost:.2%",
    "per_chip_cost": "network | layers | images | plain passes=ratio:.1f | at most=target:.1f",
    "compensation": f"data | training | method | variant | weights +% | MACs +% | {OVER_CHIPS} | "
    "seed",
    "variants": f"data | training | method | weights +% | MACs +% | {OVER_CHIPS} | seed",
    "search": "problem | searcher | begins with=first | 10 | 25 | 50 | 100 | 200 | seeds",
    "search_rank": "problem | placements | chips | images | s a placement=seconds:.1f | "
    "chips in full=full_chips | images in full=full_images | s=full_seconds:.1f | "
    "Spearman=spearman:.2f",
    "pipeline": "step | seconds=seconds:.0f | of the training=of_training:.2f | searcher | "
    "evaluations | reward %=reward:.2%",
    "devices": f"device | point | knobs | method | weights +% | {OVER_CHIPS} | seed",
    "adc_levels": f"training | levels | ADC bits=adc_bits | ADC steps=adc_cost | {OVER_CHIPS} | "
    "seed",
    "charge": "network | sigma | correctors | way | E 0.5 | E 1 | E 4 | E 16 | E inf | chips | "
    "test images=samples",
    "attacks": "network | recipe | attack | threat | budget=eps:.3g | clean %=clean:.1% | "
    "success %=success:.1% | interval %=ci95:interval | robust %=robust:.1% | flips %=flips:.1% | "
    "noise %=noise:.1% | queries=queries:.0f | images=inputs | chips | "
    "failed checks=failed_checks:names",
    "attacks_by_stage": "network | noise=stage | strength=strength:.3g | kept %=kept:.1% | "
    "threat | budget=eps:.3g | success %=success:.1% | interval %=ci95:interval | chips",
}
"""Result -> columns of its table in docs/results.md."""

SPEED = (
    "case | ours / plain torch=ours_over_plain | ours / stock=ours_over_stock | stock | "
    "lightning / plain torch=lightning_over_plain | repeats"
)
GROWN = (
    "what | layers | width | weights | ours / plain torch=ours_over_plain | "
    "ours / stock=ours_over_stock | ms=milliseconds"
)
PLACED = "what | ours / plain torch=ours_over_plain"
TOGETHER = "network=what | batch | chips | at once / one by one=at_once_over_one_by_one"
STEPS = "step | s=seconds:.0f | of training %=of_training:.0% | evaluations"
WORKERS = (
    "workers | chips | images | seconds=seconds:.1f | first chip after s=first_chip_seconds:.1f | "
    "chips per second=chips_per_second:.2f"
)
MODEL = (
    "network | weights | products an input=macs | inputs | s a chip=seconds:.2f | "
    "by the model=predicted:.2f | model / measured=predicted_over_measured:.2f"
)
PLAN = "workers of one thread=workers | chips | s a chip=seconds_per_chip:.0f | days=days:.1f"
AVERAGED = ("overhead_weights", "overhead_macs", "mean", "std", "recovery")
BILLION = """\
By that model, a transformer of a billion weights on crossbars in {layers} layers, read at 128
positions an input: {macs:.3g} products an input, {inputs:,} inputs a chip, on threads as fast as
this one. Programming a chip takes {programming:.1f} s, reading it {reading:,.0f} s: products are
nearly all that counts, so that half the inputs save as much as twice the workers.

A device that computes R products a second takes {total:.3g} / R seconds for all chips: {gpu:.1f}
hours at 1e14. Programming, which is done on the CPU, then is the longer part: {programmed:.1f}
hours at one thread's rate, so that each such device needs {threads} threads that program, or noise
models that draw on the device. This is arithmetic, not a measurement: nothing of this size has been
run.

Each worker holds the network and a chip: {memory:.0f} GB in float32, beside activations. A network
of this size is sent to each worker once, as one object of Ray."""


def results() -> dict[str, str]:
    """The tables of docs/results.md."""
    found = {name: result(name)["rows"] for name in TABLES}
    found["search_rank"] = [
        {**row, "chips": row["few"]["chips"], "images": row["few"]["samples"],
         "seconds": row["few"]["seconds"], "full_chips": row["full"]["chips"],
         "full_images": row["full"]["samples"], "full_seconds": row["full"]["seconds"]}
        for row in result("search").get("rank", [])
    ]  # fmt: skip
    found["sensitivity"] = result("transformers").get("sensitivity", [])
    curves = found["per_chip_curves"]
    found["per_chip_deviations"] = pivots.deviations(found["per_chip"])
    found["per_chip"] = [row for row in found["per_chip"] if row["sigma"] == SIGMA]
    found["per_chip_fronts"] = [row for row in curves if row["curve"] == "overhead"]
    found["per_chip_curves"] = [row for row in curves if row["curve"] != "overhead"]
    found["search"] = pivots.regrets(found["search"])
    found["drift"] = pivots.drift(found["drift"])
    found["charge"] = [_at_potentials(row) for row in found["charge"]]
    return {
        name: table(rows, TABLES[name]) if rows else "Not measured yet."
        for name, rows in found.items()
    }


def _at_potentials(row: Row) -> dict[str, Any]:
    """A row of charge.json with mean and deviation over chips at each reversal potential."""
    shown = {"correctors": "per chip" if row["corrected"] else "none"}
    for point, mean in row["mean"].items():
        spread = f" ± {100 * row['std'][point]:.1f}" if row["chips"] > 1 else ""
        shown[f"E {point}"] = f"{100 * mean:.1f}{spread}"
    return {**row, **shown}


def speed() -> dict[str, str]:
    """The tables of docs/speed.md."""
    growth, starts = result("growth")["rows"], result("startup")["seconds"]
    by_axis = {
        axis: [row for row in growth if row["axis"] == axis]
        for axis in ("memory", "placement", "together")
    }
    return {
        "steps": table(result("speed")["rows"], SPEED),
        "grown": table([r for r in growth if r["axis"] in ("layers", "width")], GROWN),
        "memory": table(by_axis["memory"], "what | MiB=peak_mebibytes"),
        "placements": table(by_axis["placement"], PLACED),
        "together": table(by_axis["together"], TOGETHER),
        "pipeline": table(result("pipeline")["rows"], STEPS),
        "starts": table([{"what": k, "s": v} for k, v in starts.items()], "what | s=s:.2f"),
    }


def scaling() -> dict[str, str]:
    """The tables of docs/scaling.md, and the words that have figures in them."""
    found = result("scaling")
    rows, rates = found["rows"], found["seconds_for_each"]
    machine = f"{found['cores']} cores, load before the run {found['load']:.1f}."
    if found["load"] > 0.5:
        machine = (
            f"The machine was shared: {machine} Ratios of so few processes are then rough, and "
            "may exceed the number of workers."
        )
    speedup = (
        f"Two workers are {rows[0]['seconds'] / rows[2]['seconds']:.2f} times as fast as this "
        f"process alone, {found['speedup']:.2f} times as fast as one worker, starts included, and "
        f"{found['speedup_without_start']:.2f} times without."
    )
    families = [name for name in rates if name not in ("weight", "layer_call")]
    for_each = "; ".join(
        [f"w = {1e9 * rates['weight']:.1f} ns", f"c = {1e6 * rates['layer_call']:.0f} us"]
        + [f"m = {1e12 * rates[name]:.0f} ps ({name})" for name in families]
    )
    sizes, row = found["billion_network"], found["billion"][0]
    products = sizes["macs_per_input"] * row["inputs"] * sizes["chips"]
    programming = sizes["chips"] * row["programming_seconds"]
    billion = BILLION.format(
        layers=sizes["layers"], macs=sizes["macs_per_input"], inputs=row["inputs"],
        programming=row["programming_seconds"],
        reading=row["seconds_per_chip"] - row["programming_seconds"], total=products,
        gpu=products / 1e14 / 3600, threads=math.ceil(programming / (products / 1e14)),
        programmed=programming / 3600, memory=2 * 4 * sizes["weights"] / 1e9,
    )  # fmt: skip
    command = f"Command: `{found['command']}`. {machine}"
    return {
        "workers": "\n\n".join([command, table(rows, WORKERS), speedup]),
        "model": f"{for_each}.\n\n{table(found['model'], MODEL)}",
        "billion": f"{billion}\n\n{table(found['billion'], PLAN)}",
    }


def of_networks() -> dict[str, list[dict[str, Any]]]:
    """Each network's methods in the README, at sigma 0.5: means over its trainings."""
    found: dict[tuple[str, str], list[Row]] = {}
    rows = result("per_chip")["rows"] + result("transformers")["rows"]
    for row in (row for row in rows if row["sigma"] == SIGMA):
        way = "ahwa-lora-like" if row["way"] == "plain, shared" else row["way"]
        found.setdefault((row["network"], way), []).append(row)
    return {
        title: list(_averaged(network, found))
        for network, title in figures.TITLES.items()
        if any(known == network for known, _ in found)
    }


def _averaged(network: str, found: Any) -> Iterator[dict[str, Any]]:
    for way, (method, color, marker) in figures.METHODS.items():
        if rows := found.get((network, way)):
            clean = fmean(row["clean"] for row in rows)
            accuracy = rows[0].get("metric") != "perplexity"
            yield {
                "method": method, "color": color, "marker": marker,
                "clean_score": f"{100 * clean:.1f} %" if accuracy else f"perplexity {clean:.2f}",
                **{key: fmean(row[key] for row in rows) for key in AVERAGED},
            }  # fmt: skip


def main() -> None:
    """Write all pages."""
    networks = of_networks()
    figures.draw_methods(networks)
    methods = [method for method, *_ in figures.METHODS.values()]
    over = [r for r in result("per_chip_curves")["rows"] if r["curve"] == "overhead"]
    figures.draw_fronts(over)
    figures.draw_growth(result("growth")["rows"])
    figures.draw_drift(result("drift")["rows"])
    put(README, {"results": pivots.networks(networks, methods)})
    put(DOCS / "results.md", results())
    put(DOCS / "speed.md", speed())
    put(DOCS / "scaling.md", scaling())
    put(DOCS / "kernels.md", pivots.kernels())
    put(DOCS / "uncertainty.md", pivots.uncertainty())
    put(DOCS / "rows.md", rows_page.blocks())


if __name__ == "__main__":
    main()
