"""Attacks: closed forms of linear networks, the toolbox on torch, budgets, seeds, resuming."""

import gc
import json
import math
import random
import sys
import weakref
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from aihwkit.simulator.configs import InferenceRPUConfig
from torch import nn

from cnet_aihw.attacks import (
    APGD,
    PGD,
    Attack,
    AttackSettings,
    AttackStatistics,
    HopSkipJump,
    OnePixel,
    PixelData,
    Square,
    attack_chips,
    compare_attacks,
    eps_of,
    pixel_data,
    validate_attack_settings,
    wilson,
    within_budget,
)
from cnet_aihw.attacks.judging import Judge
from cnet_aihw.attacks.networks import Networks
from cnet_aihw.attacks.statistics import success_of
from cnet_aihw.cluster import RaySettings
from cnet_aihw.evaluation import BatchNormReestimation, evaluate_chips
from cnet_aihw.rram import (
    CompositeNoiseModel,
    GaussianProportionalNoiseModel,
    LogNormalNoiseModel,
    ReadNoiseModel,
    RRAMRPUConfig,
    convert_to_analog,
    effective_weights,
    programmed,
)
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.parts import TensorPart
from cnet_aihw.runtime.random_state import derive_seed
from cnet_aihw.runtime.records import read_records

from ..cluster.pretended import Shuffled

pytest.importorskip("art", reason="the extra `attacks` is not installed")

MEAN, STD = (0.4,), (0.25,)
FIVE = [
    PGD(steps=5),
    PGD(norm="2", steps=5),
    APGD(steps=5),
    APGD(norm="2", steps=5),
    Square(steps=10, share=0.3),
    OnePixel(steps=1),
    HopSkipJump(steps=1, evaluations=20, first_evaluations=10),
    HopSkipJump(norm="inf", steps=1, evaluations=20, first_evaluations=10),
]
IDS = [f"{attack.name}-{attack.norm}" for attack in FIVE]


@dataclass
class Images:
    """A data set as attacks see one."""

    test: Any
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD


@pytest.fixture(scope="module")
def images() -> Images:
    """Images far from the bounds of the range, so that budgets alone limit an attack."""
    generator = torch.Generator().manual_seed(0)
    x = 0.35 + 0.3 * torch.rand(60, 1, 6, 6, generator=generator)
    y = (x[:, 0, :3].sum((1, 2)) > x[:, 0, 3:].sum((1, 2))).long()
    return Images(TensorPart((x - MEAN[0]) / STD[0], y))


def linear(noise: Any = None) -> nn.Module:
    """Two logits whose difference is near to that of the labels."""
    torch.manual_seed(1)
    layer = nn.Linear(36, 2)
    with torch.no_grad():
        layer.weight += torch.tensor([[-1.0], [1.0]]) * torch.cat(
            [torch.full((18,), 0.3), torch.full((18,), -0.3)]
        )
        layer.bias.zero_()
    config = RRAMRPUConfig(noise_model=noise or GaussianProportionalNoiseModel(0.8))
    return convert_to_analog(nn.Sequential(nn.Flatten(), layer), config)


def small(noise: Any, batchnorm: bool = False) -> nn.Module:
    torch.manual_seed(2)
    norm = [nn.BatchNorm2d(3)] if batchnorm else []
    layers = [nn.Conv2d(1, 3, 3), *norm, nn.ReLU(), nn.Flatten(), nn.Linear(48, 4)]
    return convert_to_analog(nn.Sequential(*layers), RRAMRPUConfig(noise_model=noise))


def normal_and_offset(model: nn.Module, chip: int | None, seed: int) -> tuple[np.ndarray, float]:
    """w and b of the difference of both logits over pixels, on a chip or nominal."""
    bias = next(iter(model.modules()))[1].bias.detach().double().numpy()
    if chip is None:
        (weight,) = effective_weights(model).values()
    else:
        with programmed(model, derive_seed(seed, chip)):
            (weight,) = effective_weights(model).values()
    difference = (weight[1] - weight[0]).double().numpy()
    w = difference / STD[0]
    return w, float(bias[1] - bias[0] - MEAN[0] * w.sum())


def closed_form(
    data: PixelData, target: tuple[np.ndarray, float], eps: float, step: np.ndarray
) -> tuple[int, int]:
    """Clean-correct and fooled inputs, where each moves by eps * step against its label."""
    x, side = data.x.reshape(len(data), -1).astype(np.float64), 2.0 * data.y - 1.0
    margin = side * (x @ target[0] + target[1])
    left = margin - eps * float(target[0] @ step)
    return int((margin > 0).sum()), int(((margin > 0) & (left < 0)).sum())


def counts(path: Path) -> dict[tuple[str, Any, int], tuple[int, int]]:
    return {
        (r["threat"], r["source"], r["target"]): (r["clean_correct"], r["fooled"])
        for r in read_records(path)
        if "threat" in r
    }


@pytest.mark.parametrize("attack", [PGD(steps=20, restarts=0), APGD(steps=20)])
@pytest.mark.parametrize(("norm", "eps"), [("inf", 0.02), ("2", 0.1)])
def test_linear_networks_have_their_closed_form(
    images: Images, tmp_path: Path, attack: Attack, norm: str, eps: float
) -> None:
    """On each chip, and with a step that another chip's weights or the nominal ones decide."""
    model, data, path = linear(), pixel_data(images), tmp_path / "records.jsonl"
    threats = ["nominal", "other_chip", "this_chip"]
    attack = replace(attack, norm=norm)
    attack_chips(model, images, attack, threats, eps, 3, 5, path, device="cpu", checks=False)
    planes = {chip: normal_and_offset(model, chip, 5) for chip in (None, 0, 1, 2)}
    steps = {
        chip: np.sign(w) if norm == "inf" else w / np.linalg.norm(w)
        for chip, (w, _) in planes.items()
    }
    found = counts(path)
    assert len(found) == 3 + 6 + 3
    fooled = set()
    for (threat, source, target), (correct, wrong) in found.items():
        step = steps[None if source == "nominal" else source]
        assert (threat == "this_chip") == (source == target)
        if attack.name == "apgd" and threat != "this_chip":
            continue  # it leaves images alone that its source misclassifies, and stops early
        assert (correct, wrong) == closed_form(data, planes[target], eps, step)
        fooled.add(wrong)
    assert max(fooled) > 0
    assert len(fooled) > 1


@pytest.mark.parametrize("attack", FIVE, ids=IDS)
def test_without_variation_it_is_the_library_on_plain_torch(images: Images, attack: Attack) -> None:
    model, data = small(LogNormalNoiseModel(0.0)), pixel_data(images, 8)
    data = data.first(2) if attack.name == "one_pixel" else data
    torch.manual_seed(2)
    plain = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4)).eval()

    class Pixels(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            mean, std = (torch.tensor(of).view(1, 1, 1, 1) for of in (MEAN, STD))
            return plain((x.float() - mean) / std)

    eps = {"0": 1.0, "inf": 0.1, "2": 3.0}[attack.norm]
    held = Networks(model.eval(), data, 0)
    for network in (held.chip(1), held.nominal(), held.others(1)):
        ((_, ours),) = attack.perturb(network, data.x, data.y, [eps], 3)
        ((_, theirs),) = attack.perturb(Pixels(), data.x, data.y, [eps], 3)
        assert ours.tobytes() == theirs.tobytes()
        assert (ours != data.x).any() or attack.name == "one_pixel"


@pytest.mark.parametrize(
    ("attack", "theirs", "eps", "settings"),
    [
        (
            PGD(steps=10), "ProjectedGradientDescent", 0.125,
            {"eps_step": 0.125 / 4, "max_iter": 10, "num_random_init": 1},
        ),
        (
            PGD(steps=6, step=0.3, restarts=0), "ProjectedGradientDescent", 0.125,
            {"eps_step": 0.125 * 0.3, "max_iter": 6, "num_random_init": 0},
        ),
        (
            APGD(steps=8, restarts=2, loss="difference_logits_ratio"),
            "AutoProjectedGradientDescent", 0.125,
            {
                "eps_step": 0.25, "max_iter": 8, "nb_random_init": 2,
                "loss_type": "difference_logits_ratio",
            },
        ),
        (
            Square(steps=12, share=0.2, restarts=2), "SquareAttack", 0.125,
            {"max_iter": 12, "p_init": 0.2, "nb_restarts": 2},
        ),
        (OnePixel(steps=1), "PixelAttack", 3.0, {"th": 3, "es": 1, "max_iter": 1}),
    ],
    ids=["pgd", "pgd of other steps", "apgd", "square", "one pixel"],
)  # fmt: skip
def test_it_is_the_library_called_by_hand(
    images: Images, attack: Attack, theirs: str, eps: float, settings: dict[str, Any]
) -> None:
    from art.attacks import evasion
    from art.estimators.classification import PyTorchClassifier

    data, seed = pixel_data(images, 2 if attack.norm == "0" else 10), 4
    torch.manual_seed(2)
    plain = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4)).eval()
    ((_, ours),) = attack.perturb(plain, data.x, data.y, [eps], seed)
    classifier = PyTorchClassifier(
        plain, nn.CrossEntropyLoss(), (1, 6, 6), 4, clip_values=(0.0, 1.0), device_type="cpu"
    )
    if attack.norm != "0":
        settings = {**settings, "norm": np.inf, "eps": eps, "batch_size": 128}
    np.random.seed(derive_seed(seed, repr(eps)) % 2**32)
    found = getattr(evasion, theirs)(classifier, verbose=False, **settings)
    assert np.abs(found.generate(data.x, data.y) - ours).max() <= 1e-6


@pytest.mark.parametrize("attack", FIVE, ids=IDS)
def test_budgets_hold_and_seeds_repeat(images: Images, attack: Attack) -> None:
    """In pixels, also where an image lies at the bounds of the range."""
    data = pixel_data(images, 2 if attack.name == "one_pixel" else 6)
    data = PixelData(np.where(data.x > 0.6, np.float32(1.0), data.x), data.y, MEAN, STD)
    noise = CompositeNoiseModel([LogNormalNoiseModel(0.3), ReadNoiseModel(0.05)])
    network = Networks(small(noise).eval(), data, 0).chip(0)
    budgets = [1.0, 2.0] if attack.norm == "0" else [0.05, 0.3]
    numpy_state, python_state = np.random.get_state()[1].tolist(), random.getstate()
    found = dict(attack.perturb(network, data.x, data.y, budgets, 9))
    again = dict(attack.perturb(network, data.x, data.y, budgets, 9))
    assert np.random.get_state()[1].tolist() == numpy_state
    assert random.getstate() == python_state
    for eps, changed in found.items():
        assert changed.dtype == np.float32
        assert changed.tobytes() == again[eps].tobytes()
        assert changed.min() >= 0.0
        assert changed.max() <= 1.0
        assert size_of(changed.astype(np.float64) - data.x, attack.norm) <= eps


def size_of(delta: np.ndarray, norm: str) -> float:
    if norm == "0":
        return float((delta != 0).any(1).sum((1, 2)).max())
    flat = delta.reshape(len(delta), -1)
    sizes = np.abs(flat).max(1) if norm == "inf" else np.sqrt((flat**2).sum(1))
    return float(sizes.max())


@pytest.mark.parametrize("norm", ["inf", "2", "0"])
def test_anything_is_brought_into_the_budget(norm: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.random((20, 3, 5, 5)).astype(np.float32)
    changed = (x + rng.normal(size=x.shape)).astype(np.float32)
    changed[0, 0, 0, 0] = np.nan
    eps = 3.0 if norm == "0" else 0.3
    found = within_budget(x, changed, eps, norm)
    assert 0.9 * eps < size_of(found.astype(np.float64) - x, norm) <= eps
    assert 0.0 <= found.min() <= found.max() <= 1.0
    near = (x + np.float32(1e-3)).clip(0, 1)
    if norm != "0":
        assert within_budget(x, near, eps, norm).tobytes() == near.tobytes()


def test_a_linear_network_at_eps_zero_is_never_fooled(images: Images) -> None:
    found = attack_chips(linear(), images, PGD(steps=2), eps=[0, 0.1], chips=2, checks=False)
    for threat in ("nominal", "other_chip", "this_chip"):
        nothing = found.of(threat, 0.0)
        assert (nothing.mean, nothing.flips, nothing.queries) == (0.0, 0.0, 0.0)
        assert nothing.robust == nothing.clean


def test_clean_correct_inputs_are_those_of_the_same_chips(images: Images, tmp_path: Path) -> None:
    model, path = linear(), tmp_path / "records.jsonl"
    found = attack_chips(model, images, PGD(steps=1), "nominal", 0.1, 3, 7, path, checks=False)
    scores = evaluate_chips(model, images.test, chips=3, seed=7, device="cpu").scores
    records = read_records(path)[:3]
    assert [r["clean_correct"] / r["inputs"] for r in records] == pytest.approx(scores)
    rates = tuple(r["fooled"] / r["clean_correct"] for r in records)
    assert found.of("nominal", 0.1).rates == rates


def without_seconds(found: AttackStatistics) -> str:
    record = found.as_record()
    for success in record["successes"]:
        success.pop("seconds")
    return json.dumps(record)


@pytest.mark.parametrize("attack", [PGD(steps=2), FIVE[-1]], ids=["PGD", "one run for all budgets"])
def test_workers_attack_the_same_bit_for_bit(
    images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attack: Attack
) -> None:
    monkeypatch.setattr("cnet_aihw.cluster.workers.Workers", Shuffled)
    noise = CompositeNoiseModel([LogNormalNoiseModel(0.3), ReadNoiseModel(0.05)])
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    alone, spread = (
        attack_chips(
            *(small(noise), images, attack, ["nominal", "this_chip"], [0, 0.1], 2, 1, path),
            samples=3, readings=3, checks=attack.name == "pgd", ray=ray,
        )
        for path, ray in ((one, None), (two, RaySettings(workers=2)))
    )  # fmt: skip
    assert without_seconds(spread) == without_seconds(alone)
    order = [[list(record.items())[:4] for record in read_records(path)] for path in (one, two)]
    assert order[0] != order[1] and sorted(map(str, order[0])) == sorted(map(str, order[1]))


def test_a_killed_run_resumes_to_the_same_result(
    images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With noise at each reading; and more chips and budgets extend fewer."""
    noise = CompositeNoiseModel([LogNormalNoiseModel(0.3), ReadNoiseModel(0.05)])
    threats = ["other_chips_eot", "other_chip", "this_chip", "this_chip_eot"]

    def run(path: Path, **changes: Any) -> AttackStatistics:
        given = {"attack": PGD(steps=2), "eps": (0.05, 0.1), "readings": 3}
        given |= {"eot_chips": 2, "eot_readings": 2, "data": images, **changes}
        return attack_chips(
            small(noise), threat=threats, chips=2, seed=1, records=path, samples=10,
            **given,
        )  # fmt: skip

    whole = run(tmp_path / "whole.jsonl")
    lines = (tmp_path / "whole.jsonl").read_text().splitlines()
    torn = tmp_path / "torn.jsonl"
    torn.write_text("\n".join(lines[:6]) + '\n{"threat": "th')
    assert without_seconds(run(torn)) == without_seconds(whole)
    assert len(read_records(torn)) == len(lines) - 1
    monkeypatch.setattr(PGD, "generate", None)
    assert run(torn) == run(torn)  # nothing is attacked again
    monkeypatch.undo()
    few = tmp_path / "few.jsonl"
    run(few, eps=0.1)
    assert without_seconds(run(few)) == without_seconds(whole)
    for key, changes in (
        *(("attack.steps", {"attack": PGD(steps=3)}), ("readings", {"readings": 5})),
        *(("eot.chips", {"eot_chips": 3}), ("eot.readings", {"eot_readings": 3})),
        *(("attack_seed", {"attack_seed": 1}), ("t_inference", {"t_inference": 1.0})),
        ("pixels.mean", {"data": Images(images.test, mean=(0.42,))}),
    ):
        with pytest.raises(CnetError) as caught:
            run(few, **changes)
        assert caught.value.key == key


def test_a_chip_that_reads_with_noise_flips_by_itself(images: Images) -> None:
    """One miss among several readings does not count, and an attacker sees other noise."""
    noise = CompositeNoiseModel([LogNormalNoiseModel(0.1), ReadNoiseModel(0.2)])
    rates = {}
    for readings in (1, 15):
        found = attack_chips(
            linear(noise), images, PGD(steps=1), "this_chip_eot", 0.0, 2,
            readings=readings, eot_readings=2, checks=False,
        )  # fmt: skip
        assert found.readings == readings
        rates[readings] = found.of("this_chip_eot", 0.0).flips
    assert rates[1] > 0
    assert rates[15] < rates[1]


def test_the_mean_over_readings_has_the_gradient_of_the_chip(images: Images) -> None:
    """Read noise is additive, so that the mean gradient of a linear layer is the chip's own."""
    data, model = (
        pixel_data(images, 1),
        linear(CompositeNoiseModel([LogNormalNoiseModel(0.5), ReadNoiseModel(0.1)])),
    )
    with programmed(model, derive_seed(0, 2)):
        (weight,) = effective_weights(model).values()
    networks, errors = Networks(model.eval(), data, 0), []
    for readings in (1, 400):
        network = networks.chip(2, readings)
        network.seed(1)
        x = torch.from_numpy(data.x).requires_grad_()
        (gradient,) = torch.autograd.grad(network(x)[0, 1], x)
        errors.append(float((gradient.flatten() * STD[0] - weight[1]).pow(2).mean().sqrt()))
    assert errors[1] == pytest.approx(errors[0] / 20, rel=0.5)


def test_the_matrix_has_this_chip_on_its_diagonal(images: Images) -> None:
    threats = ["other_chip", "this_chip"]
    found = attack_chips(linear(), images, PGD(steps=5), threats, 0.01, 3, checks=False)
    matrix = found.matrices[0.01]
    own, other = found.of("this_chip", 0.01), found.of("other_chip", 0.01)
    assert tuple(matrix[i][i] for i in range(3)) == own.rates
    for target in range(3):
        column = [matrix[source][target] for source in range(3) if source != target]
        assert other.rates[target] == pytest.approx(sum(column) / 2)
    assert own.mean == pytest.approx(sum(own.rates) / 3)
    assert own.mean > other.mean


def test_an_attack_checks_itself(images: Images) -> None:
    found = attack_chips(linear(), images, PGD(steps=10), "this_chip", 0.03, 2)
    checks = {check.name: check for check in found.checks}
    assert list(checks) == ["gradient", "more_steps", "whole_range", "random_noise"]
    assert all(check.passed for check in found.checks)
    assert checks["whole_range"].value == 1.0
    assert checks["gradient"].value < 0.01
    assert PGD(steps=10).stronger() == PGD(steps=40)
    assert OnePixel(steps=3).stronger() == OnePixel(steps=12)


def test_an_attack_that_does_nothing_does_not_pass(images: Images) -> None:
    @dataclass(frozen=True)
    class Nothing(PGD):
        def generate(self, classifier: Any, x: Any, y: Any, eps: float) -> Any:
            return x

    found = attack_chips(linear(), images, Nothing(), "this_chip", 0.1, 2)
    passed = {check.name: check.passed for check in found.checks}
    assert passed == {
        "gradient": True, "more_steps": True, "whole_range": False, "random_noise": False
    }  # fmt: skip
    strong = attack_chips(linear(), images, Square(steps=20, share=0.3), "this_chip", 0.1, 2)
    (check,) = compare_attacks([found, strong])
    assert not check.passed
    assert (check.value, check.limit) == (0.0, strong.of("this_chip", 0.1).mean)
    assert [c.passed for c in compare_attacks([strong, strong])] == []


def test_attacks_are_compared_in_their_own_norm_and_within_a_margin(images: Images) -> None:
    black = attack_chips(
        linear(), images, Square(steps=5, share=0.3), "this_chip", 0.1, 2, checks=False
    )
    (success,) = black.successes
    less = replace(success, mean=(success.mean or 0.0) - 0.005)
    white = replace(black, white_box=True, successes=(less,))
    assert [c.passed for c in compare_attacks([black, white])] == [True]
    assert [c.passed for c in compare_attacks([black, white], margin=0.004)] == [False]
    assert compare_attacks([black, replace(white, norm="2")]) == []


def test_the_chips_of_a_mean_are_none_of_those_that_are_attacked(images: Images) -> None:
    networks = Networks(linear().eval(), pixel_data(images), 3)
    attacked = [networks.chip(number) for number in range(4)]
    members = [m for network in (*attacked, networks.others(4)) for m in network.members]
    weights = [next(iter(effective_weights(member).values())) for member in members]
    for number, weight in enumerate(weights):
        assert not any(torch.equal(weight, other) for other in weights[:number])


def test_a_calibrated_chip_is_attacked_as_it_is_used(images: Images, tmp_path: Path) -> None:
    model, path = small(LogNormalNoiseModel(0.5), batchnorm=True), tmp_path / "records.jsonl"
    calibration = BatchNormReestimation(images.test.x)
    attack_chips(
        model, images, PGD(steps=2), "this_chip", 0.1, 2, 3, path,
        calibration=calibration, device="cpu", checks=False,
    )  # fmt: skip
    found = evaluate_chips(
        model, images.test, chips=2, seed=3, calibration=calibration, device="cpu"
    )
    shares = [r["clean_correct"] / r["inputs"] for r in read_records(path)[:2]]
    assert shares == pytest.approx(found.scores)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA is not available")
@pytest.mark.parametrize("attack", [PGD(steps=3), APGD(steps=3), Square(steps=3, share=0.3)])
def test_on_a_gpu_it_repeats_and_is_near_the_cpu(images: Images, attack: Attack) -> None:
    def run(device: str) -> AttackStatistics:
        return attack_chips(linear(), images, attack, "this_chip", 0.03, 2, device=device)

    assert without_seconds(run("cuda")) == without_seconds(run("cuda"))
    gpu, cpu = (run(device).of("this_chip", 0.03).mean for device in ("cuda", "cpu"))
    assert gpu == pytest.approx(cpu, abs=0.05)


def test_wilson_interval() -> None:
    low, high = wilson(0, 10)
    assert (low, high) == (0.0, pytest.approx(0.2775, abs=1e-4))
    for bound in wilson(30, 100):
        spread = np.sqrt(bound * (1 - bound) / 100)
        assert abs(bound - 0.3) / spread == pytest.approx(1.96, abs=1e-4)
    assert wilson(0, 0) is None


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"eps": -0.1}, "eps"),
        ({"eps": 8.0}, "eps"),
        ({"eps": "8/0"}, "eps"),
        ({"eps": []}, "eps"),
        ({"threat": "mine"}, "threat"),
        ({"threat": "this_chip_eot"}, "threat"),
        ({"chips": 0}, "chips"),
        ({"sources": 1}, "sources"),
        ({"attack": OnePixel(), "eps": 0.5}, "eps"),
        ({"data": (torch.zeros(2, 1, 6, 6), torch.zeros(2).long())}, "data"),
        ({"data": Images((100 * torch.rand(2, 1, 6, 6), torch.zeros(2).long()))}, "data"),
        ({"attack": Square(share=1.0)}, "data"),
        ({"attack": Square(norm="2"), "eps": 1.0}, "data"),
    ],
)
def test_impossible_arguments_are_refused(
    images: Images, changes: dict[str, Any], key: str
) -> None:
    arguments = {"data": images, "attack": PGD(), "threat": "nominal", "eps": 0.1, "chips": 1}
    with pytest.raises(CnetError) as caught:
        attack_chips(linear(), **{**arguments, **changes})
    assert caught.value.key == key


def test_without_the_toolbox_it_says_what_to_install(
    images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "art.attacks.evasion", None)
    with pytest.raises(CnetError) as caught:
        attack_chips(linear(), images, PGD())
    assert caught.value.key == "adversarial-robustness-toolbox"
    assert "cnet_aihw[attacks]" in caught.value.fix


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_tiles_that_hold_one_chip_are_refused(images: Images) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 2))
    model = convert_to_analog(network, InferenceRPUConfig(noise_model=LogNormalNoiseModel(0.1)))
    with pytest.raises(CnetError) as caught:
        attack_chips(model, images, PGD(), "this_chip", 0.1, 1)
    assert caught.value.expected == "an RRAM layer"


def test_chips_that_do_not_differ_have_no_mean(images: Images) -> None:
    with pytest.raises(CnetError) as caught:
        attack_chips(linear(LogNormalNoiseModel(0.0)), images, PGD(), "other_chips_eot", 0.1, 1)
    assert (caught.value.key, caught.value.value) == ("threat", "other_chips_eot")


@pytest.mark.parametrize(
    "make",
    [
        lambda: PGD(norm="1"),
        lambda: PGD(step=0.0),
        lambda: PGD(steps=0),
        lambda: APGD(loss="hinge"),
        lambda: Square(share=0.0),
        lambda: OnePixel(norm="inf"),
        lambda: HopSkipJump(evaluations=5),
    ],
)
def test_impossible_settings_are_refused(make: Any) -> None:
    with pytest.raises(CnetError):
        make()


def test_budgets_are_read() -> None:
    assert eps_of("8/255") == eps_of(["8/255", " 8 / 255"]) == [8 / 255]
    assert eps_of([0, "1/4", 0.25, 1]) == [0.0, 0.25, 1.0]
    validate_attack_settings(AttackSettings())
    wrong = {"threat": [], "eps": ["x"], "samples": 0, "sources": 1, "eot_chips": 1, "seed": 0.5}
    for name, value in wrong.items():
        with pytest.raises(CnetError) as caught:
            validate_attack_settings(AttackSettings(**{name: value}))
        assert caught.value.key == f"attack.{name}"


def test_one_run_of_hop_skip_jump_costs_the_same_at_each_budget(images: Images) -> None:
    attack = HopSkipJump(steps=1, evaluations=20, first_evaluations=10)
    found = attack_chips(
        linear(), images, attack, "nominal", [0.1, 5.0], 1, samples=3, checks=False
    )
    small, large = (found.of("nominal", eps) for eps in (0.1, 5.0))
    assert small.queries == large.queries > 20
    assert small.mean <= large.mean == 1.0


def test_queries_are_those_of_one_input_at_one_budget(images: Images) -> None:
    queries = []
    for samples in (5, 20):
        found = attack_chips(
            linear(), images, PGD(steps=3), "nominal", (0.05, 0.1), 1, samples=samples, checks=False
        )
        queries += [found.of("nominal", eps).queries for eps in (0.05, 0.1)]
    assert queries == pytest.approx([queries[-1]] * 4, abs=0.5)
    assert 3 <= queries[-1] < 10


@pytest.mark.parametrize("eps", [0.003, 0.01, 0.3])
def test_small_euclidean_budgets_hold_in_exact_arithmetic(eps: float) -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(0.3, 1.0, (300, 1, 12, 12)).astype(np.float32)
    changed = (x + 0.2 * rng.standard_normal(x.shape)).astype(np.float32)
    delta = within_budget(x, changed, eps, "2").astype(np.float64) - x
    lengths = np.sqrt((delta**2).sum((1, 2, 3)))
    assert lengths.max() <= eps
    assert np.median(lengths) > 0.9 * eps


PIXELS = PixelData(np.zeros((3, 1, 2, 2), np.float32), np.zeros(3, np.int64), (0.0,), (1.0,))


@pytest.mark.parametrize(
    "changes",
    [
        {"x": PIXELS.x + np.float32(255)},
        {"x": PIXELS.x - np.float32(0.5)},
        {"x": np.full_like(PIXELS.x, np.nan)},
        {"x": PIXELS.x.astype(np.float64)},
        {"x": PIXELS.x[:2]},
        {"x": PIXELS.x[:0], "y": PIXELS.y[:0]},
        {"y": PIXELS.y.astype(np.float32)},
        {"y": PIXELS.y - 1},
        {"mean": (0.0, 0.0)},
        {"mean": (float("nan"),)},
        {"std": (0.0,)},
        {"std": (-1.0,)},
        {"mean": (0.0, 0.0), "std": (1.0, 1.0)},
    ],
)
def test_pixels_that_cannot_be_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(CnetError) as caught:
        replace(PIXELS, **changes)
    assert caught.value.key == "data"


def test_data_with_a_pixel_that_is_not_a_number_have_no_range() -> None:
    x = torch.zeros(2, 1, 2, 2)
    x[0, 0, 0, 0] = float("nan")
    with pytest.raises(CnetError) as caught:
        pixel_data(Images(TensorPart(x, torch.zeros(2).long())))
    assert caught.value.key == "data"


def test_labels_that_the_network_does_not_know_are_refused(images: Images) -> None:
    some = images.test.first(4)
    with pytest.raises(CnetError) as caught:
        attack_chips(
            linear(), Images(TensorPart(some.x, some.y + 1)), PGD(steps=1), "nominal", 0.1, 1
        )
    assert caught.value.key == "targets"


def test_checks_belong_to_the_largest_budget_and_survive_a_kill(
    images: Images, tmp_path: Path
) -> None:
    path = tmp_path / "records.jsonl"

    def run(eps: Any, checks: bool = True) -> list[str]:
        found = attack_chips(
            linear(), images, PGD(steps=2), "this_chip", eps, 1, records=path, checks=checks
        )
        return [check.name for check in found.checks if check.name != "random_noise"]

    assert run(0.0) == ["gradient"]  # nothing to attack with
    assert run([0.0, 0.02]) == ["gradient", "more_steps", "whole_range"]
    kept = path.read_text()
    assert run([0.0, 0.02]) == ["gradient", "more_steps", "whole_range"]
    assert path.read_text() == kept  # nothing is checked again
    assert run([0.0, 0.02], checks=False) == []
    lines = kept.splitlines()
    (last,) = [n for n, line in enumerate(lines) if '"whole_range"' in line]
    path.write_text("\n".join(lines[:last]) + "\n" + lines[last][:40])
    assert run([0.0, 0.02]) == ["gradient", "more_steps", "whole_range"]


def test_records_tell_attacks_of_one_name_apart(images: Images, tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Nothing(PGD):
        def generate(self, classifier: Any, x: Any, y: Any, eps: float) -> Any:
            return x

    @dataclass(frozen=True)
    class Other(PGD):
        pass

    def run(attack: Attack) -> float:
        path = tmp_path / "records.jsonl"
        found = attack_chips(
            linear(), images, attack, "this_chip", 0.1, 1, records=path, checks=False
        )
        return found.of("this_chip", 0.1).mean

    assert run(Nothing()) == run(Nothing()) == 0.0
    for other in (Other(), PGD()):
        with pytest.raises(CnetError) as caught:
            run(other)
        assert caught.value.key == "attack.class"
    assert "class" not in PGD().describe()


def test_several_attackers_of_the_same_inputs_do_not_narrow_the_interval() -> None:
    def record(source: int, fooled: int) -> dict[str, Any]:
        counts = {"inputs": 50, "clean_correct": 40, "fooled": fooled, "flips": 0}
        pair = {"threat": "other_chip", "source": source, "target": 0, "eps": 0.1}
        return {**pair, **counts, "noise_fooled": 0, "queries": 1.0, "seconds": 1.0}

    one = success_of([record(1, 10)], "other_chip", 0.1, 1)
    four = success_of([record(n, 10) for n in range(1, 5)], "other_chip", 0.1, 1)
    mixed = success_of([record(1, 8), record(2, 13)], "other_chip", 0.1, 1)
    assert one.ci95 == four.ci95 == wilson(10, 40)
    assert mixed.mean == pytest.approx(10.5 / 40)
    assert mixed.ci95[0] < 10.5 / 40 < mixed.ci95[1]


def test_rates_over_chips_are_those_by_hand() -> None:
    def record(target: int, correct: int, fooled: int) -> dict[str, Any]:
        counts = {"inputs": 50, "clean_correct": correct, "fooled": fooled, "flips": 0}
        pair = {"threat": "nominal", "source": "nominal", "target": target, "eps": 0.1}
        return {**pair, **counts, "noise_fooled": 0, "queries": 1.0, "seconds": 2.0}

    found = success_of([record(0, 40, 10), record(1, 30, 15)], "nominal", 0.1, 2)
    assert found.rates == (0.25, 0.5)
    assert (found.mean, found.std) == pytest.approx((0.375, 0.125 * 2**0.5))
    assert (found.clean, found.robust) == pytest.approx((0.7, 0.45))
    assert found.seconds == 2.0  # one attack, which both chips judge


def test_each_chip_counts_the_same_however_many_attack_it() -> None:
    def record(source: int, target: int) -> dict[str, Any]:
        correct = (90, 80, 40)[target]
        counts = {"inputs": 100, "clean_correct": correct, "fooled": 10, "flips": correct // 10}
        pair = {"threat": "other_chip", "source": source, "target": target, "eps": 0.1}
        noise = {"noise_fooled": target * correct // 10}
        return {**pair, **counts, **noise, "queries": 2.0 + source, "seconds": 1.0}

    # two chips are the sources: the third one is attacked twice, these once
    found = success_of(
        [record(1, 0), record(0, 1), record(0, 2), record(1, 2)], "other_chip", 0.1, 3
    )
    assert (found.clean, found.robust) == pytest.approx((0.7, 0.6))
    assert (found.flips, found.noise, found.queries) == pytest.approx((0.1, 0.1, 2.5))


def test_the_interval_of_one_chip_leaves_out_chips_without_a_rate() -> None:
    def record(source: int, target: int, correct: int, fooled: int) -> dict[str, Any]:
        counts = {"inputs": 50, "clean_correct": correct, "fooled": fooled, "flips": 0}
        pair = {"threat": "other_chip", "source": source, "target": target, "eps": 0.1}
        return {**pair, **counts, "noise_fooled": 0, "queries": 1.0, "seconds": 1.0}

    found = success_of([record(1, 0, 50, 10), record(0, 1, 0, 0)], "other_chip", 0.1, 2)
    assert found.rates == (0.2, None)
    assert found.ci95 == wilson(10, 50)


class Answers(nn.Module):
    """Gives one answer after the other, whatever it is asked."""

    def __init__(self, answers: tuple[list[float], ...]) -> None:
        super().__init__()
        self.anchor, self.answers = nn.Parameter(torch.zeros(())), iter(answers)

    def seed(self, seed: int) -> None:
        """Draw nothing."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.tensor([next(self.answers)])


def test_most_readings_decide_and_outputs_that_are_not_finite_are_wrong() -> None:
    def wrong(*answers: list[float]) -> bool:
        judge: Any = Judge(Answers(answers), np.zeros(1, dtype=np.int64), 0, len(answers), 8)
        return bool(judge.wrong(np.zeros((1, 1), dtype=np.float32), "clean")[0])

    right, miss = [1.0, 0.0], [0.0, 1.0]
    assert not wrong(right, miss) and not wrong(right, miss, right)
    assert wrong(miss) and wrong(right, miss, miss)
    assert wrong([math.inf, 0.0])


def test_chips_that_judged_need_not_stay_in_memory(
    images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"eps": [0.0, 0.05], "checks": False, "seed": 2}
    args = (linear(), images, PGD(steps=1), ["this_chip", "other_chip"])
    whole = attack_chips(*args, chips=4, **given)
    monkeypatch.setattr("cnet_aihw.attacks.networks._HELD_BYTES", 1)  # two at a time
    living: weakref.WeakSet[nn.Module] = weakref.WeakSet()
    most = []
    made = Networks._made

    def counted(self: Networks, seed: int) -> nn.Module:
        gc.collect()
        most.append(len(living))
        network = made(self, seed)
        living.add(network)
        return network

    monkeypatch.setattr(Networks, "_made", counted)
    gc.freeze()  # what was there before, so that collecting is quick
    try:
        few = attack_chips(*args, chips=4, **given)
    finally:
        gc.unfreeze()
    assert without_seconds(few) == without_seconds(whole)
    assert max(most) <= 3  # of the attacker, of the judge, and one to be let go
