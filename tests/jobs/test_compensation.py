"""Compensation in a job: where it goes, what it leaves, what it costs, what it may not change."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from cnet_aihw.compensation import (
    PAPER,
    Affine,
    Digital,
    GeneratorCompensator,
    LowRank,
    Vera,
    load_compensation,
)
from cnet_aihw.compensation.settings import CompensationSettings, PerChipSettings
from cnet_aihw.evaluation import BatchNormReestimation, evaluate_chips
from cnet_aihw.jobs.application import CONFIG_DIR
from cnet_aihw.rram import (
    LogNormalNoiseModel,
    RRAMRPUConfig,
    convert_to_analog,
    load_snapshot,
)
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.records import read_records
from cnet_aihw.training import load_checkpoint
from cnet_aihw.zoo import MLP, ResNet20, arrays, digits

Cli = Callable[..., Any]
Only = Callable[[Callable[[Any], Any]], str]
ErrorOf = Callable[..., CnetError]
CORRECTORS = {
    "affine": Affine(),
    "digital": Digital(),
    "generator": PAPER,
    "low_rank": LowRank(),
    "residual": GeneratorCompensator(form="residual"),
    "vera": Vera(),
}
LEFT = ("scan.json", "compensation.json", "compensation.safetensors", "chips-compensated.json")


@pytest.fixture
def words(tiny: list[str]) -> list[str]:
    """A job with compensation of a second: two trainings of a small network."""
    return [
        *tiny,
        *(
            *("compensation=paper", "search=none"),
            "compensation.corrector.form=residual",
            "compensation.scan.chips=2",
            "compensation.scan.samples=100",
        ),
        *("compensation.shared.epochs=1", "compensation.shared.batch_size=32"),
        *("compensation.shared.validation_chips=2", "hydra.run.dir=run"),
        *("training.compare=[plain,noise]", "data.limit_train=200"),
    ]


@pytest.fixture
def small(words: list[str]) -> list[str]:
    """It learns enough for its layers to be candidates."""
    more = ["model=mlp", "data.size=8", "training.lr=0.1", "training.epochs=3"]
    return [*words, *more, "compensation.threshold=1.0"]


@pytest.fixture
def plain(small: list[str]) -> list[str]:
    """The plain training of these alone."""
    return [*small, "training.compare=[]", "training=plain"]


def read(path: str) -> Any:
    return json.loads(Path(path).read_text())


def contents(folder: str) -> dict[str, bytes]:
    """All files of the results, without Hydra's own, logs and what is written at each start."""
    return {
        str(path): path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file() and not {".hydra", "tensorboard"} & set(path.parts)
        if path.suffix != ".log"
    }


def test_the_way_with_compensation(cli: Cli, small: list[str]) -> None:
    outcome = cli(*small)
    assert outcome.code == 0, outcome.err
    rows = read("run/table.json")["rows"]
    label = "xy-none-k1-residual"
    assert [(row["training"], row["compensation"]) for row in rows] == [
        *(("plain", None), ("plain", label), ("noise", None), ("noise", label)),
    ]
    for row in rows:
        end = "" if row["compensation"] is None else "-compensated"
        lines = read_records(f"run/{row['training']}/chips{end}.jsonl")
        accuracies = [line["score"] for line in lines]
        assert row["mean"] == pytest.approx(sum(accuracies) / 2, abs=1e-12)
        assert row["recovery"] == pytest.approx(row["mean"] / rows[0]["clean"], abs=1e-12)
        # before and after are the same chips
        before = read_records(f"run/{row['training']}/chips.jsonl")
        assert [line["seed"] for line in lines] == [line["seed"] for line in before]
    text = Path("run/table.txt").read_text()
    assert {"weights", "added", "%"} <= set(text.split("---")[0].split())
    assert label in text

    # what it costs, counted in the file itself
    data = digits(size=8, limit_train=200)
    network = MLP(data.input_shape, data.classes, hidden=(256, 128))
    weights = sum(parameter.numel() for parameter in network.parameters())
    added = sum(t.numel() for t in load_file("run/noise/compensation.safetensors").values())
    described = read("run/noise/compensation.json")
    assert rows[3]["overhead_weights"] == added / weights == described["overhead_weights"]
    assert 0 < rows[3]["overhead_weights"] <= 0.05
    assert sum(described["weights"].values()) == added
    assert list(described["placement"]) == read("run/noise/scan.json")["candidates"]
    assert len(set(described["placement"].values())) == 1

    # the numbers are those of the library alone, on the test part
    model = convert_to_analog(network, RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.5)))
    load_snapshot(model, load_checkpoint("run/noise/best.safetensors").model)
    assert evaluate_chips(model, data.test, chips=2).mean == rows[2]["mean"]
    load_compensation(model, "run/noise/compensation.safetensors")
    compensated = evaluate_chips(model, data.test, chips=2)
    assert (compensated.mean, compensated.clean) == (rows[3]["mean"], rows[3]["clean"])

    # again: nothing is done twice
    before = contents("run")
    for name in LEFT:
        Path("run/noise", name).unlink()
    assert cli(*small).code == 0
    assert contents("run") == before


@pytest.mark.slow
def test_each_step_alone_gives_back_what_is_missing(
    cli: Cli, plain: list[str], error_of: ErrorOf
) -> None:
    assert cli(*plain).code == 0
    rows = read("run/table.json")["rows"]
    for name in LEFT:
        Path("run/plain", name).unlink()
    for job, name in (("scan", "scan.json"), ("compensate", "compensation.json")):
        assert cli(*plain, f"job={job}").code == 0
        assert Path("run/plain", name).exists()
    assert cli(*plain, "job=evaluate").code == 0
    assert read("run/table.json")["rows"] == rows

    # another compensation does not resume this one's fit; none at all leaves it alone
    error = error_of(*plain, "job=compensate", "compensation.corrector.activation=tanh")
    assert error.key == "compensation.corrector.activation"
    assert (error.value, error.expected) == ("tanh", "none")
    assert cli(*plain, "job=evaluate", "compensation.enabled=false").code == 0
    assert [row["compensation"] for row in read("run/table.json")["rows"]] == [None]


def test_scans_are_of_the_validation_part_and_of_both_kinds(cli: Cli, plain: list[str]) -> None:
    steps = "job.steps=[cnet_aihw.jobs.steps.train,cnet_aihw.jobs.steps_search.scan]"
    assert cli(*plain, steps).code == 0
    scan = read("run/plain/scan.json")
    names = [row["layer"] for row in scan["rows"]]
    assert names[:3] == names[3:]
    assert [row["mode"] for row in scan["rows"]] == ["suffix"] * 3 + ["single"] * 3
    assert all(row["chips"] == 2 and row["seed"] == 1 for row in scan["rows"])
    data = digits(size=8, limit_train=200)
    network = MLP(data.input_shape, data.classes, hidden=(256, 128))
    model = convert_to_analog(network, RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.5)))
    load_snapshot(model, load_checkpoint("run/plain/best.safetensors").model)
    part = (data.val.x[:100], data.val.y[:100])
    whole = evaluate_chips(model, part, chips=2, seed=1)  # a suffix from the first layer on
    assert scan["rows"][0]["mean"] == whole.mean
    assert scan["clean"] == whole.clean


def test_a_placement_can_be_given(cli: Cli, words: list[str]) -> None:
    given = "compensation.placement={conv1:0.5,conv2:digital,fc3:0}"
    outcome = cli(*words, given, "training.compare=[]", "training=plain")
    assert outcome.code == 0, outcome.err
    described = read("run/plain/compensation.json")
    assert described["placement"] == {"conv1": 0.5, "conv2": "digital"}
    # conv1: 3 filters over 1 + 6 channels, 6 over these 3; conv2: all its weights and biases
    assert described["weights"] == {"conv1": 7 * 3 + 3 + 3 * 6 + 6, "conv2": 16 * 6 * 25 + 16}
    # ... at 28 x 28 positions for conv1, 10 x 10 for conv2
    assert described["macs"] == {"conv1": (21 + 18) * 28 * 28, "conv2": 16 * 6 * 25 * 100}
    assert read("run/table.json")["rows"][1]["compensation"] == "xy-none-k1-residual"
    saved = load_file("run/plain/compensation.safetensors")
    assert {name.partition(".")[0] for name in saved} == {"conv1"}


def test_layers_kept_digital_need_no_fit_and_no_scan(
    cli: Cli, words: list[str], error_of: ErrorOf
) -> None:
    alone = [*words, "training.compare=[]", "training=plain"]
    assert cli(*alone, "job=train").code == 0
    placement = "compensation.placement={conv1:digital,conv2:digital,fc1:digital,fc2:digital}"
    outcome = cli(*alone, placement, "job=compensate")
    assert outcome.code == 0, outcome.err
    assert not Path("run/plain/compensation").exists()
    assert not Path("run/plain/scan.json").exists()
    error = error_of(*alone, "compensation.placement={conv1:0.5}", "job=evaluate")
    assert error.key == "compensation.placement.conv1"
    assert cli(*alone, placement, "job=evaluate").code == 0
    row = read("run/table.json")["rows"][1]
    assert row["compensation"] == "digital"
    assert row["overhead_weights"] == pytest.approx(1 - 850 / 61706)
    assert row["clean"] == read("run/table.json")["rows"][0]["clean"]


@pytest.mark.slow
def test_layers_that_are_not_on_crossbars_count_as_added(cli: Cli, words: list[str]) -> None:
    alone = [*words, "training.compare=[]", "training=plain", "compensation.enabled=false"]
    assert cli(*alone, "hydra.run.dir=all").code == 0
    assert read("all/plain/chips.json")["digital"]["layers"] == []
    (row,) = read("all/table.json")["rows"]
    assert row["overhead_weights"] is row["overhead_macs"] is None
    outcome = cli(*alone, "rram.exclude=[conv2]", "evaluation.calibration=affine")
    assert outcome.code == 0, outcome.err
    (row,) = read("run/table.json")["rows"]
    corrected = 2 * (6 + 120 + 84 + 10)  # a factor and an offset for each channel
    assert row["overhead_weights"] == pytest.approx((16 * (6 * 25 + 1) + corrected) / 61706)
    macs = {"conv1": 6 * 25 * 784, "conv2": 16 * 6 * 25 * 100, "fc": 400 * 120 + 120 * 84 + 840}
    assert row["overhead_macs"] == pytest.approx(macs["conv2"] / sum(macs.values()))
    assert " MACs " in outcome.out and " added % " in outcome.out


def test_a_placement_is_a_mapping_text_or_a_file(cli: Cli, only: Only) -> None:
    seen: list[Any] = []
    Path("mine.yaml").write_text('{"conv1": 0.5, "fc1": "digital"}')
    for value in ('"{conv1: 0.5, fc1: digital}"', "mine.yaml"):
        outcome = cli(f"compensation.placement={value}", "training=plain", only(seen.append))
        assert outcome.code == 0, outcome.err
        found = seen[-1].variants[0].placement
        assert dict(found) == {"conv1": 0.5, "fc1": "digital"}


def test_layers_named_by_numbers_can_be_placed(cli: Cli, only: Only) -> None:
    seen: list[Any] = []
    placed = "compensation.placement={0: 0.5, 1: 1, 2.1: digital}"
    assert cli(placed, "training=plain", only(seen.append)).code == 0
    assert dict(seen[0].variants[0].placement) == {"0": 0.5, "1": 1.0, "2.1": "digital"}


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("compensation.threshold=1e-9", "no layer takes the score below 1e-07 % of the clean"),
        ("compensation.placement={layers.fc1:0}", "the placement gives no layer a ratio above 0"),
    ],
)
def test_where_nothing_is_compensated_the_table_says_why(
    cli: Cli, plain: list[str], option: str, reason: str
) -> None:
    outcome = cli(*plain, option)
    assert outcome.code == 0, outcome.err
    assert reason in Path("run/table.txt").read_text()
    assert reason in read("run/plain/compensation.json")["reason"]
    assert len(read("run/table.json")["rows"]) == 1
    assert not Path("run/plain/compensation.safetensors").exists()


def test_without_compensation_its_steps_do_nothing(trained: list[str]) -> None:
    left = {path.name for path in Path("run/plain").iterdir()}
    assert not {name for name in left if "scan" in name or "compens" in name}
    assert "compensation" not in Path("run/table.txt").read_text().split("cnet-aihw")[0]


@pytest.mark.slow
def test_batchnorm_per_chip_is_measured_as_it_was_fitted(
    cli: Cli, words: list[str], images: Callable[..., Path], error_of: ErrorOf
) -> None:
    path = images(32, 3)
    own = ["data=arrays", f"data.path={path}", "data.val_size=0.2", "data.limit_train=null"]
    own += ["model=resnet20", "model.width=0.125", "training.compare=[]", "training=plain"]
    per_chip = ["compensation.shared.batchnorm=per_chip", "compensation.calibration_samples=20"]
    placement = "compensation.placement={conv1:0.5}"
    outcome = cli(*words, *own, *per_chip, placement)
    assert outcome.code == 0, outcome.err
    measured = read("run/plain/chips-compensated.json")
    assert measured["compensation"]["calibration_samples"] == 20
    assert measured["compensation"]["label"] == "xy-none-k1-residual, BatchNorm per chip"
    data = arrays(path, val_size=0.2)
    network = ResNet20(data.input_shape, data.classes, width=0.125)
    model = convert_to_analog(network, RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.5)))
    load_snapshot(model, load_checkpoint("run/plain/best.safetensors").model)
    load_compensation(model, "run/plain/compensation.safetensors")
    calibration = BatchNormReestimation(data.train.x[:20])
    expected = evaluate_chips(model, data.test, chips=2, calibration=calibration)
    assert measured["statistics"][0]["scores"] == list(expected.scores)
    more = "compensation.calibration_samples=30"
    error = error_of(*words, *own, per_chip[0], more, placement, "job=evaluate")
    assert error.key == "compensation.calibration_samples"
    assert (error.value, error.expected) == (30, 20)


def test_any_chip_model_can_be_compensated(cli: Cli, plain: list[str]) -> None:
    outcome = cli(*plain, "rram=pcm")
    assert outcome.code == 0, outcome.err
    assert "compensation" in read("run/table.json")["rows"][0]


def test_what_a_sweeper_gets_is_of_the_compensated_network(
    cli: Cli, small: list[str], returned: list[float | None]
) -> None:
    assert cli(*small, "training.compare=[]", "training=noise").code == 0
    assert returned == [read("run/noise/compensation/result.json")["chip_score"]]


@pytest.mark.slow
def test_a_sweep_compares_with_the_plain_network_without_compensation(
    cli: Cli, small: list[str]
) -> None:
    words = [w for w in small if not w.startswith(("training.compare", "hydra.run"))]
    command = ["-m", "training=plain,noise", "rram.sigma=0.3,0.5", "hydra.sweep.dir=sweep"]
    command += ["hydra.sweep.subdir=${hydra:job.num}"]  # so many values make no folder's name
    outcome = cli(*command, *words)
    assert outcome.code == 0, outcome.err
    rows = read("sweep/sweep.json")["rows"]
    assert len(rows) == 8
    assert [row["compensation"] is None for row in rows] == [True, False] * 4
    clean = {row["rram.sigma"]: row["clean"] for row in rows[::2] if row["training"] == "plain"}
    for row in rows:
        assert row["recovery"] == pytest.approx(row["mean"] / clean[row["rram.sigma"]], abs=1e-12)


def test_the_files_are_the_correctors_of_the_library(cli: Cli, only: Only) -> None:
    seen: list[Any] = []
    groups = {"default": LowRank(), "digital": LowRank(), "paper": PAPER}
    for name, corrector in groups.items():
        assert cli(f"compensation={name}", "training=plain", only(seen.append)).code == 0
        assert seen[-1].variants[0].corrector == corrector
    kinds = {path.stem for path in (CONFIG_DIR / "compensation" / "corrector").glob("*.yaml")}
    for name in kinds:
        words = [f"compensation/corrector={name}", "compensation.fit=shared", "training=plain"]
        assert cli(*words, only(seen.append)).code == 0
    assert [run.variants[0].corrector for run in seen[3:]] == [CORRECTORS[name] for name in kinds]
    default = seen[0].variants[0].compensation
    chosen = PerChipSettings(target="auto")  # which needs a job; all else repeats the defaults
    assert replace(default, corrector=None) == CompensationSettings(per_chip=chosen)
    for seed in (7, -7):
        assert cli(f"seed={seed}", "training=plain", only(seen.append)).code == 0
        settings = seen[-1].variants[0].compensation
        assert settings.shared.seed == settings.per_chip.seed == seed


def test_a_placement_may_keep_the_most_sensitive_layers_digital(cli: Cli, small: list[str]) -> None:
    words = ["training.compare=[]", "training=plain", "compensation=digital"]
    small = [word for word in small if "corrector" not in word]
    outcome = cli(*small, *words, "compensation.limit=0.5", "compensation.limit_macs=null")
    assert outcome.code == 0, outcome.err
    described, scan = (read(f"run/plain/{name}.json") for name in ("compensation", "scan"))
    order = sorted(scan["sensitivity"], key=scan["sensitivity"].get, reverse=True)
    weights = {"layers.fc1": 65 * 256, "layers.fc2": 257 * 128, "layers.fc3": 129 * 10}
    total, fitting = sum(weights.values()), []
    for name in order:
        if sum(weights[n] for n in (*fitting, name)) <= 0.5 * total:
            fitting.append(name)
    assert described["placement"] == dict.fromkeys(fitting, "digital")
    rows = read("run/table.json")["rows"]
    assert [row["compensation"] for row in rows] == [None, "digital"]
    assert rows[1]["overhead_weights"] == described["overhead_weights"] <= 0.5


MISTAKES = [
    ("compensation.limit=0", "compensation.limit"),
    ("compensation.limit=nan", "compensation.limit"),
    ("compensation.limit_macs=-1", "compensation.limit_macs"),
    ("compensation.threshold=0", "compensation.threshold"),
    ("compensation.fill=some", "compensation.fill"),
    ("compensation.scan.mode=both", "compensation.scan.mode"),
    ("compensation.fit=some", "compensation.fit"),
    ("compensation.per_chip.ridge=-1", "compensation.per_chip.ridge"),
    ("compensation.per_chip.at=-1", "compensation.per_chip.at"),
    ("search.evaluator.kind=supernet", "search.evaluator.kind"),
    ("compensation.fit=shared search.evaluator.kind=per_chip", "search.evaluator.kind"),
    ("+compensation.per_chip.rigde=1", "compensation.per_chip.rigde"),
    ("compensation.scan.chips=0", "compensation.scan.chips"),
    ("compensation.shared.epochs=-1", "compensation.shared.epochs"),
    ("compensation.shared.batchnorm=off", "compensation.shared.batchnorm"),
    ("compensation.shared.lipschitz.enabled=true", "compensation.shared.lipschitz.enabled"),
    (
        "compensation.fit=shared compensation.shared.batchnorm=per_chip "
        "evaluation.calibration=affine",
        "evaluation.calibration",
    ),
    ("compensation.corrector._target_=builtins.dict", "compensation.corrector"),
    ("+compensation.limt=0.1", "compensation.limt"),
    ("+compensation.shared.epoch=3", "compensation.shared.epoch"),
    ("+compensation.scan.chip=3", "compensation.scan.chip"),
]


@pytest.mark.parametrize(("word", "key"), MISTAKES, ids=[word for word, _ in MISTAKES])
def test_a_mistake_names_its_key(wrong: ErrorOf, word: str, key: str) -> None:
    assert wrong(*word.split()).key == key


@pytest.mark.parametrize(
    "word",
    [
        *("compensation=nix", "compensation.corrector.kernel_size=2"),
        *("compensation.placement={conv1:2}", "compensation.placement=nix.yaml"),
    ],
)
def test_mistakes_that_other_rooms_find_are_one_line(cli: Cli, word: str) -> None:
    outcome = cli(word, "training=plain", "hydra.run.dir=run")
    assert outcome.code == 2
    assert outcome.err.startswith("cnet-aihw: error: ")
    assert outcome.err.count("\n") == 1
    assert outcome.out == ""


@pytest.mark.parametrize(
    "word",
    [
        "compensation.placement={conv9:0.5}",
        "compensation.limit=1e-6",
        "compensation.limit_macs=1e-6",
        "compensation.shared.batchnorm=per_chip",
    ],
)
def test_what_only_the_network_shows_is_reported_before_training(
    cli: Cli, words: list[str], word: str
) -> None:
    outcome = cli(*words, word)
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert {p.name for p in Path("run").iterdir()} <= {".hydra", ".locks", "cnet-aihw.log"}


def test_a_first_layer_that_is_too_dear_does_not_refuse_the_others(cli: Cli) -> None:
    # The compensator of 256 outputs has more weights than the network, that of 10 0.5 % of them.
    outcome = cli(
        *("model=mlp", "data.size=8", "data.limit_train=200", "training=plain", "rram.sigma=1"),
        *("training.epochs=1", "training.validation_chips=2", "evaluation.chips=2"),
        *("compensation=paper", "compensation.limit=0.01", "compensation.threshold=1.0"),
        *("compensation.shared.epochs=1", "search=none", "progress=false", "hydra.run.dir=run"),
    )
    assert outcome.code == 0, outcome.err
    assert set(read("run/plain/compensation.json")["placement"]) == {"layers.fc3"}


def test_a_step_without_the_one_before_names_it(
    cli: Cli, words: list[str], error_of: ErrorOf
) -> None:
    words = [*words, "training.compare=[]", "training=plain", "model=mlp", "data.size=8"]
    assert error_of(*words, "job=scan").key == "best.safetensors"
    assert cli(*words, "job=train").code == 0
    assert error_of(*words, "job=compensate").key == "scan.json"


@pytest.mark.slow
def test_candidates_are_those_of_the_threshold_asked_for(
    cli: Cli, words: list[str], error_of: ErrorOf
) -> None:
    word = "compensation.threshold=0.5"
    alone = [*words, "training.compare=[]", "training=plain", "model=mlp", "data.size=8"]
    for job in ("train", "scan"):
        assert cli(*alone, f"job={job}").code == 0
    error = error_of(*alone, word, "job=compensate")
    assert error.key == f"config.{word.partition('=')[0]}"
    assert str(error.value) == word.partition("=")[2]
    assert cli(*alone, word, "job=scan").code == 0
    assert cli(*alone, word, "job=compensate").code == 0
