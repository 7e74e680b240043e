"""Write docs/results.md, and the results of the README, from benchmarks/results alone.

python -m benchmarks.page
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks import scaling_page, speed_page
from benchmarks.summary import write_figure, write_readme
from benchmarks.tables import CHIPS, Row, number, percent, table, text

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "results.md"


def _interval(row: Row) -> str:
    low, high = row["ci95"]
    return f"{100 * low:.1f} to {100 * high:.1f}"


def _at(potential: str) -> Callable[[Row], str]:
    """Write mean and deviation over chips at one reversal potential; a dash where there is none."""

    def cell(row: Row) -> str:
        mean, std = row["mean"].get(potential), row["std"].get(potential)
        if mean is None:
            return "-"
        return f"{100 * mean:.1f}" + (f" ± {100 * std:.1f}" if row["chips"] > 1 else "")

    return cell


INTRO = (
    "Made by `python -m benchmarks.page` from benchmarks/results. Each command resumes with the "
    "records in outputs/benchmarks, which `python -m benchmarks.archive` packs and unpacks; with "
    "`BENCHMARK_RECORDS=FOLDER` in the environment it makes all of them from scratch in that "
    "folder, except evaluations of placements that are in outputs/evaluations. "
    "MNIST is expected in data/ as torchvision lays it out, CIFAR-10 as data/cifar10.npz."
)
SECTIONS: list[tuple[str, str, str, Mapping[str, Callable[[Row], str]]]] = [
    (
        "training",
        "Training, LeNet-5 at sigma 0.5, test part",
        "One learning rate and one beta per data set were chosen on the validation part (next "
        "table): the learning rate with the highest accuracy on chips summed over plain and "
        "noise-injected training, then the beta with the highest sum over the two trainings with "
        "the penalty. The number of epochs is what a CPU carries in minutes; the epoch whose "
        "weights are measured is chosen on the validation part: by clean accuracy for the plain "
        "network, on 5 chips for the others. All trainings start from the same weights. The "
        "chips of this table were seen by no choice. Recovery is the mean over the plain "
        "network's clean accuracy.",
        {
            "data": text("data"),
            "training": text("training"),
            **CHIPS,
            "recovery %": percent("recovery"),
        },
    ),
    (
        "selection",
        "What was chosen from, validation part",
        "Short trainings, the last epoch's weights, 20 chips of the validation part.",
        {
            "data": text("data"),
            "training": text("training"),
            "lr": text("lr"),
            "beta": text("beta"),
            "epochs": text("epochs"),
            "clean %": percent("validation_clean"),
            "mean on chips %": percent("validation_chips_mean"),
            "std": percent("validation_chips_std"),
        },
    ),
    (
        "per_chip",
        "Correctors fitted to each chip, sigma 0.5, test part",
        "At most 5 % of the weights and 5 % of the MACs are added. Penalty, placement (at all "
        "layers: scale, offset and some filters) and refinement were chosen on validation data "
        "with the networks of the first seed. `per chip`: closed form on 1,000 unlabelled "
        "training images, `refined`: steps of Adam on the chip after it. `paper, shared`: "
        "CorrectNet's modules, at all layers at one ratio; `ahwa-lora-like`: low-rank "
        "correctors that all chips share, trained under the variation (after arXiv 2411.17367); "
        "`vera-like`: the same with VeRA (after arXiv 2603.26016); `dora-like`: fitted to each "
        "chip with 10 images and 100 steps (after arXiv 2504.03763). All ways see the same "
        "chips. Recovery is the mean over the plain network's clean accuracy on the same "
        "images.",
        {
            "network": text("network"),
            "training seed": text("training_seed"),
            "way": text("way"),
            "weights +%": percent("overhead_weights"),
            "MACs +%": percent("overhead_macs"),
            "images of the fit": text("images"),
            "steps": text("refine_steps"),
            "test images": text("samples"),
            **{name: cell for name, cell in CHIPS.items() if name != "seed"},
            "recovery %": percent("recovery", 1),
        },
    ),
    (
        "per_chip_curves",
        "Correctors fitted to each chip, over size, images and sigma",
        "The penalised network of the first seed; at one size at all layers, or with the placement "
        "of the table above. `patch` takes the input's whole patch as features.",
        {
            "network": text("network"),
            "curve": text("curve"),
            "features": text("features"),
            "size": text("size"),
            "images": text("images"),
            "sigma": text("sigma"),
            "weights +%": percent("overhead_weights"),
            "MACs +%": percent("overhead_macs"),
            "mean %": percent("mean"),
            "std": percent("std"),
            "chips": text("chips"),
            "recovery %": percent("recovery", 1),
        },
    ),
    (
        "tuning",
        "Tuning on one chip, LeNet-5, test part",
        "Networks trained with noise injection at sigma 0.5, tuned on each chip by itself "
        "([tuning](tuning.md)). Sigma lasts from device to device, `fresh` is drawn again at each "
        "write. 1,024 training images: three passes in batches of 64, `progressive` one pass after "
        "each layer that is written. `few writes` writes at every twelfth step. Writes are "
        "those of the cell that was written most often. `correctors instead`: low rank at all "
        "layers within 5 % of the weights and MACs, fitted to each chip in closed form with 300 "
        "images, to the outputs (clean, or their mean over chips) that are better on validation "
        "chips, without tuning; `on top`: the same on the tuned "
        "chip. The angle is that to the exact gradient. The first 1,000 test images; all ways see "
        "the same chips.",
        {
            "network": text("network"),
            "training": text("training"),
            "sigma": text("sigma"),
            "fresh": text("rewrite_sigma"),
            "way": text("way"),
            "writes": text("writes_most"),
            "images": lambda row: f"{row['forwards']:.0f}",
            "weights +%": percent("overhead"),
            "clean %": percent("clean", 1),
            "before %": percent("before", 1),
            "tuned %": percent("score", 1),
            "std": percent("std", 1),
            "on other chips %": percent("others", 1),
            "correctors instead %": percent("per_chip", 1),
            "on top %": percent("tuned_per_chip", 1),
            "angle": lambda row: "-" if row["angle"] is None else f"{row['angle']:.0f}",
            "chips": text("chips"),
        },
    ),
    (
        "transformers",
        "Transformers, recurrent networks and other tasks, test part",
        "A vision transformer on CIFAR-10, a causal language model of bytes, a GRU that reads "
        "MNIST by rows, a U-Net on scenes of digits and a regression, as their experiments train "
        "them (`conf/experiment`): plainly, and under variation of sigma 0.3, as far as they "
        "have been measured. Correctors have the "
        "placement that did best on validation data at sigma 0.3, for all sigmas. `shared`: low "
        "rank, one for all chips, trained under the variation. Perplexity is better where it is "
        "lower, and its recovery is the plain network's clean one over it.",
        {
            "network": text("network"),
            "score": text("metric"),
            "sigma": text("sigma"),
            "way": text("way"),
            "weights +%": percent("overhead_weights"),
            "MACs +%": percent("overhead_macs"),
            "clean": number("clean", 4),
            "mean": number("mean", 4),
            "std": number("std", 4),
            "5 % quantile": number("q05", 4),
            "chips": text("chips"),
            "recovery %": percent("recovery", 1),
        },
    ),
    (
        "per_chip_cost",
        "Seconds of a fit to one chip",
        "Closed form with two filters at all layers, beside forward passes of the same chip "
        "over the same images, in turns, one thread; the network's wanted outputs are computed "
        "once for all chips.",
        {
            "network": text("network"),
            "layers": text("layers"),
            "images": text("images"),
            "plain passes": number("ratio", 1),
            "at most": number("target", 1),
        },
    ),
    (
        "compensation",
        "Compensation, LeNet-5 at sigma 0.5, test part",
        "Compensation stands on the layers whose variation alone costs most accuracy (20 chips, "
        "1,000 validation images), as many as fit into the limit at a ratio of 0.1 or more, at "
        "one ratio, the largest that fits: the candidate layers of the method alone would often "
        "stay far below it. `paper` is CorrectNet's variant as we read it; a method without a "
        "row at a limit does not fit into it. Digital layers are taken in the same order. The "
        "affine correction uses 1,000 unlabelled training images per chip. All methods see the "
        "same chips.",
        {
            "data": text("data"),
            "training": text("training"),
            "method": text("method"),
            "variant": text("variant"),
            "weights +%": percent("overhead_weights"),
            "MACs +%": percent("overhead_macs"),
            **CHIPS,
        },
    ),
    (
        "variants",
        "Variants of compensation at 2 % of the weights, validation part",
        "2 % of the weights, 30 chips that no table of the test part uses. The project's "
        "default is the variant with the highest sum of means over these rows.",
        {
            "data": text("data"),
            "training": text("training"),
            "method": text("method"),
            "weights +%": percent("overhead_weights"),
            "MACs +%": percent("overhead_macs"),
            **CHIPS,
        },
    ),
    (
        "search",
        "Searchers at equal budgets",
        "Regret in points (of 100) of the best placement found after a number of evaluations, "
        "over seeds. LeNet-5 on CIFAR-10: 5 layers, 5 choices each, all placements within the "
        "limit evaluated, so that the optimum is known. VGG16 of an eighth of the width on "
        "CIFAR-10, at sigma 0.3: 13 convolutions, 5 choices each; the optimum is not known, and "
        "the best placement that any searcher found stands for it. The weight of `ppo`'s entropy "
        "was chosen on the latter problem, with a seed that is not among these; all other settings "
        "were chosen on synthetic problems.",
        {
            "problem": text("problem"),
            "searcher": text("searcher"),
            "evaluations": text("evaluations"),
            "mean regret": percent("regret_mean"),
            "least": percent("regret_min"),
            "largest": percent("regret_max"),
            "seeds": text("seeds"),
        },
    ),
    (
        "pipeline",
        "Time of the steps, LeNet-5 on MNIST",
        "Each step is a command of its own, its start included; one thread. The searches spend the "
        "default budget of evaluations, with the fit of the compensation that all placements "
        "share; where fewer placements fit the limit, all of them are evaluated.",
        {
            "step": text("step"),
            "seconds": lambda row: f"{row['seconds']:.0f}",
            "of the training": lambda row: f"{row['of_training']:.2f}",
            "searcher": text("searcher"),
            "evaluations": text("evaluations"),
            "reward %": percent("reward"),
        },
    ),
    (
        "devices",
        "Devices, LeNet-5 on MNIST, test part",
        "Each device at its published operating point (its file in `conf/rram`) and at a harsher "
        "one (the knobs named). Noise injection draws from the device itself; the penalty's lambda "
        "comes from it. CorrectNet is the network of the row above with a searched placement of "
        "compensation; where it has no row, no layer took the accuracy below 95 % of the clean "
        "one, and there is nothing to compensate. `measured` is a table of conductances drawn "
        "from the fit of Wan et al. Devices that drift are measured after a day, or when the knobs "
        "say, and trainings, scans, searches and fits see them so too (`rram.t_inference`). "
        "Three epochs; LeNet-5 has no BatchNorm to re-estimate.",
        {
            "device": text("device"),
            "point": text("point"),
            "knobs": text("knobs"),
            "method": text("method"),
            "weights +%": percent("overhead_weights"),
            **CHIPS,
        },
    ),
    (
        "adc_levels",
        "Conductance levels and ADC bits, LeNet-5 on MNIST, test part",
        "Networks trained without either, measured on crossbars of 128 x 128 with lognormal "
        "variation of sigma 0.5 on top of the levels, ADC ranges calibrated on training images "
        "(`experiment=adc_levels`). The ADC's cost is the number of its steps for one image, "
        "conversions times 2^bits.",
        {
            "training": text("training"),
            "levels": text("levels"),
            "ADC bits": text("adc_bits"),
            "ADC steps": text("adc_cost"),
            **CHIPS,
        },
    ),
    (
        "evaluators",
        "The shared evaluator beside a fit of each placement",
        "Rank correlation over the same placements, and how many times longer the fit of a "
        "placement takes than measuring it with the shared compensation (amortised: with the one "
        "fit of the shared compensation spread over these placements); `two fits`: the rank "
        "correlation of fits with two seeds, which is what could be reached.",
        {
            "problem": text("problem"),
            "placements": text("placements"),
            "Spearman": number("spearman"),
            "two fits": number("spearman_two_fits"),
            "cost ratio": number("cost_ratio"),
            "amortised": number("cost_ratio_amortised"),
        },
    ),
    (
        "charge",
        "Charge read-out over reversal potentials, test part",
        "Networks of clipped values without biases ([charge read-out](charge.md)): `mapped` is "
        "trained without a limit and put into the circuit, `scaled` has its weights scaled by sign "
        "on validation data, `trained` starts from it and is trained through the circuit for one "
        "short epoch; all without variation. Accuracy in percent, mean and deviation over chips, "
        "at reversal potentials of plus and minus the number on top. Correctors: low rank with "
        "one filter and scale and offset at all layers, fitted to each chip. All have noise of "
        "spikes of 0.01. "
        "Beside it, as published (Sakemi et al., arXiv 2412.09010, table 3, best potential for "
        "noise of spikes 0 / 0.01 / 0.04, other data): Fashion-MNIST, 784-400-400-10: 90.46 / "
        "90.40 / 90.12; its larger convolutional network: 94.11 / 94.09 / 93.63.",
        {
            "network": text("network"),
            "sigma": text("sigma"),
            "correctors": lambda row: "per chip" if row["corrected"] else "none",
            "way": text("way"),
            **{f"E {name}": _at(name) for name in ("0.5", "1", "4", "16", "inf")},
            "chips": text("chips"),
            "test images": text("samples"),
        },
    ),
    (
        "attacks",
        "Attacks on chips, test part",
        "Devices have lognormal variation of sigma 0.5 and read noise of 1 % of the largest "
        "conductance ([attacks](attacks.md)). Success: of the images that a chip classifies "
        "correctly, the share that it misclassifies after the attack, over chips, with the "
        "interval of 95 % of its mean; `robust`: of all images, the share classified correctly "
        "after the attack; `flips`: misclassified in another reading without an attack; `noise`: "
        "after random noise of the same size. Means (`eot`) are over 4 chips or readings, without "
        "gradients over 2. Budgets are parts of the pixels' range, for "
        "`one_pixel` numbers of pixels.",
        {
            "network": text("network"),
            "recipe": text("recipe"),
            "attack": text("attack"),
            "threat": text("threat"),
            "budget": lambda row: f"{row['eps']:.3g}",
            "clean %": percent("clean", 1),
            "success %": percent("success", 1),
            "interval %": _interval,
            "robust %": percent("robust", 1),
            "flips %": percent("flips", 1),
            "noise %": percent("noise", 1),
            "queries": lambda row: f"{row['queries']:.0f}",
            "images": text("inputs"),
            "chips": text("chips"),
            "failed checks": lambda row: ", ".join(row["failed_checks"]) or "none",
        },
    ),
    (
        "attacks_by_stage",
        "Attacks on chips by where the noise comes from, PGD, test part",
        "Plainly trained networks; the strength of each kind of noise is set, on validation "
        "chips, to keep 90 % of the clean accuracy: levels (bits), programming (sigma), read noise "
        "and noise on the outputs (parts of the largest conductance and output).",
        {
            "network": text("network"),
            "noise": text("stage"),
            "strength": lambda row: f"{row['strength']:.3g}",
            "kept %": percent("kept", 1),
            "threat": text("threat"),
            "budget": lambda row: f"{row['eps']:.3g}",
            "success %": percent("success", 1),
            "interval %": _interval,
            "chips": text("chips"),
        },
    ),
]


def main() -> None:
    """Write the page of all results that are there."""
    parts = ["# Results", INTRO]
    for name, title, words, columns in SECTIONS:
        path = HERE / "results" / f"{name}.json"
        if path.exists():
            result = json.loads(path.read_text(encoding="utf-8"))
            parts += [f"## {title}", f"Command: `{result['command']}`. {words}"]
            parts.append(table(result["rows"], columns))
    PAGE.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    speed_page.write_page()
    scaling_page.write_page()
    write_figure()
    write_readme()


if __name__ == "__main__":
    main()
