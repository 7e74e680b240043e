"""Scores of predictions against closed forms, other libraries and brute force."""

import math
from typing import Any

import pytest
import torch
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss, roc_auc_score

from cnet_aihw.bayes import fit_logits, reliability, uncertainty_scores
from cnet_aihw.bayes.statistics import pooled, row_of
from cnet_aihw.runtime.errors import CnetError


def probabilities(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(*shape, generator=generator, dtype=torch.float64)).softmax(-1)


def drawn(p: torch.Tensor, seed: int = 1) -> torch.Tensor:
    """Return classes drawn from their probabilities: perfectly calibrated data."""
    generator = torch.Generator().manual_seed(seed)
    return torch.multinomial(p, 1, generator=generator)[:, 0]


def test_scores_are_those_of_other_libraries_and_of_sums_by_hand() -> None:
    p, y = probabilities(4, 50, 3), torch.arange(50) % 3
    found, mean = uncertainty_scores(p, y), p.mean(0)
    assert found["nll"] == pytest.approx(log_loss(y, mean.numpy()))
    brier = sum((float(mean[i, c]) - float(y[i] == c)) ** 2 for i in range(50) for c in range(3))
    assert found["brier"] == pytest.approx(brier / 50)
    bins: dict[int, list] = {}
    for row, label in zip(mean.tolist(), y.tolist(), strict=True):
        bins.setdefault(math.ceil(max(row) * 15), []).append((max(row), row[label] == max(row)))
    ece = sum(abs(sum(c for c, _ in b) - sum(r for _, r in b)) for b in bins.values()) / 50
    assert found["ece"] == pytest.approx(ece, abs=1e-6)
    rows = reliability(p, y)
    assert sum(n for n, _, _ in rows) == 50
    assert sum(n * abs(c - a) for n, c, a in rows) / 50 == pytest.approx(ece, abs=1e-6)


def test_mutual_information_is_what_samples_disagree_on() -> None:
    for seed in range(20):
        p = probabilities(5, 10, 4, seed=seed)
        found = uncertainty_scores(p, torch.zeros(10))
        assert 0.0 < found["mutual_information"] <= math.log(4) + 1e-12
        assert found["mutual_information"] < found["entropy"]
    same = probabilities(1, 10, 4).expand(6, -1, -1)
    assert uncertainty_scores(same, torch.zeros(10))["mutual_information"] == pytest.approx(0.0)
    certain = torch.eye(2)[:, None].expand(2, 3, 2)  # two samples that contradict each other
    found = uncertainty_scores(certain, torch.zeros(3))
    assert found["mutual_information"] == pytest.approx(math.log(2))


def test_calibrated_data_have_no_calibration_error_and_temperature_one() -> None:
    p = probabilities(1, 40_000, 4)
    y = drawn(p[0])
    found = uncertainty_scores(p, y)
    assert found["ece"] < 0.01
    assert found["ece_mass"] < 0.01
    assert fit_logits(p.log(), y).temperature == pytest.approx(1.0, abs=0.03)
    sharpened = fit_logits(3.0 * p.log(), y)
    assert sharpened.temperature == pytest.approx(3.0, rel=0.03)
    wrong = uncertainty_scores((3.0 * p.log()).softmax(-1), y)
    assert wrong["ece"] > 0.1
    right = uncertainty_scores(sharpened(3.0 * p.log()).softmax(-1), y)
    assert right["nll"] == pytest.approx(found["nll"], abs=1e-3)


def test_statistics_over_chips_are_those_by_hand() -> None:
    same = {"brier": 0.2, "ece": 0.1}
    records = [{"accuracy": 0.9, "nll": 1.0, **same}, {"accuracy": 0.7, "nll": 2.0, **same}]
    row = row_of([*records, {"failed": True}], 4, None)
    assert (row.mean["accuracy"], row.std["accuracy"]) == pytest.approx((0.8, 0.02**0.5))
    assert (row.worst["accuracy"], row.worst["nll"], row.failed) == (0.7, 2.0, 1)
    empty = [0.0, 0.0, 0.0]
    full, no_input = pooled([[[3.0, 0.6, 1.0], empty], [[1.0, 0.8, 0.0], empty]])
    assert full == pytest.approx((4.0, (3 * 0.6 + 0.8) / 4, 0.75)) and no_input == (0.0, 0.0, 0.0)


def test_scales_and_offsets_of_classes_are_recovered() -> None:
    p = probabilities(1, 40_000, 3)
    y = drawn(p[0], 2)
    scale, offset = torch.tensor([2.0, 1.0, 0.5]), torch.tensor([0.5, -0.5, 0.0])
    spoiled = (p.log() - p.log().mean(-1, keepdim=True)) * scale + offset
    found = fit_logits(spoiled, y, "logit_affine")
    assert found.scale.tolist() == pytest.approx((1 / scale).tolist(), rel=0.05)
    gap = found.offset + offset / scale
    assert (gap - gap.mean()).abs().max() < 0.05


def test_a_probability_at_the_bound_of_two_bins_is_of_the_lower_one() -> None:
    p = torch.tensor([[[0.75, 0.25], [0.5, 0.5], [0.0, 1.0], [0.8, 0.2]]], dtype=torch.float64)
    found = reliability(p, torch.tensor([0, 0, 1, 1]), bins=4)
    assert [row[0] for row in found] == [0, 1, 1, 2]
    assert found[2] == [1, 0.75, 1.0] and found[3] == [2, pytest.approx(0.9), 0.5]


def test_the_calibration_error_is_that_of_the_reliability_diagram() -> None:
    """Also where means over few certain samples lie at bounds of bins, and at 1."""
    generator = torch.Generator().manual_seed(4)
    classes = torch.randint(3, (3, 60), generator=generator)
    classes[:, :20] = 0
    p, y = torch.nn.functional.one_hot(classes, 3).double(), torch.arange(60) % 3
    p = torch.cat([p, torch.tensor([[[0.96, 0.04, 0.0]]]).expand(3, 10, 3)], 1)
    y = torch.cat([y, torch.zeros(10, dtype=torch.long)])
    rows = reliability(p, y)
    ece = sum(n * abs(c - a) for n, c, a in rows) / 70
    assert uncertainty_scores(p, y)["ece"] == pytest.approx(ece, abs=1e-12)


def test_a_temperature_is_fitted_to_the_mean_over_samples() -> None:
    """The least log loss of mean probabilities, which samples that differ need sharper."""
    logits = 2 * torch.randn(4, 300, 3, generator=torch.Generator().manual_seed(3)).double()
    y = drawn(logits.mean(0).softmax(-1))

    def loss(log_scale: float) -> float:
        mean = (logits * math.exp(log_scale)).softmax(-1).mean(0)
        return float(log_loss(y, mean.numpy(), labels=[0, 1, 2])) + 1e-4 * log_scale**2

    best = minimize_scalar(loss, bounds=(-3.0, 3.0), method="bounded", options={"xatol": 1e-7})
    assert fit_logits(logits, y).temperature == pytest.approx(math.exp(-best.x), rel=1e-4)


def test_a_probability_that_rounding_left_above_one_changes_no_score() -> None:
    p = torch.tensor([[[0.9, 0.1], [1.0, 0.0], [0.2, 0.8]]], dtype=torch.float64)
    y = torch.tensor([0, 0, 1])
    rounded = p.clone()
    rounded[0, 1, 0] += 1e-5
    scores = uncertainty_scores(rounded, y)
    assert scores == pytest.approx(uncertainty_scores(p, y), abs=1e-5)
    assert scores["ece"] == pytest.approx((0.1 + 0.0 + 0.2) / 3, abs=1e-5)


def test_unknown_inputs_are_told_apart_by_either_uncertainty() -> None:
    p, ood = probabilities(4, 30, 3), probabilities(4, 20, 3, seed=5) ** 0.3
    ood = ood / ood.sum(-1, keepdim=True)
    found = uncertainty_scores(p, torch.zeros(30), ood)
    entropies = [-(q.mean(0) * q.mean(0).log()).sum(-1) for q in (p, ood)]
    expected = roc_auc_score([0] * 30 + [1] * 20, torch.cat(entropies).numpy())
    assert found["auroc_entropy"] == pytest.approx(expected)
    assert found["ood_entropy"] == pytest.approx(float(entropies[1].mean()))
    same = uncertainty_scores(p, torch.zeros(30), p)
    assert same["auroc_entropy"] == same["auroc_mutual_information"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("p", "y", "key"),
    [
        (torch.rand(3, 4), torch.zeros(3), "probabilities"),
        (torch.ones(2, 3, 4), torch.zeros(3), "probabilities"),
        (torch.full((1, 3, 2), math.nan), torch.zeros(3), "probabilities"),
        (torch.full((1, 3, 2), 0.5), torch.zeros(4), "targets"),
        (torch.full((1, 3, 2), 0.5), torch.full((3,), 2), "targets"),
    ],
)
def test_what_are_no_probabilities_is_refused(p: torch.Tensor, y: torch.Tensor, key: str) -> None:
    with pytest.raises(CnetError) as error:
        uncertainty_scores(p, y)
    assert error.value.key == key


def test_a_correction_wants_logits_that_fit() -> None:
    with pytest.raises(CnetError) as error:
        fit_logits(torch.zeros(3, 2), torch.zeros(4, dtype=torch.long))
    assert error.value.key == "logits"
    with pytest.raises(CnetError) as error:
        fit_logits(torch.zeros(3, 2), torch.zeros(3, dtype=torch.long), "none")
    assert error.value.key == "kind"


CERTAIN = torch.full((1, 3, 2), 0.5)


@pytest.mark.parametrize("score", [uncertainty_scores, reliability])
@pytest.mark.parametrize("y", [[0, 1, 2], [0, -1, 1], [0.0, 0.5, 1.0]])
def test_targets_are_classes_for_scores_and_diagrams(score: Any, y: list) -> None:
    with pytest.raises(CnetError) as error:
        score(CERTAIN, torch.tensor(y))
    assert (error.value.key, error.value.value) == ("targets", min(set(y) - {0, 1}))


@pytest.mark.parametrize("shape", [(2, 5, 2), (1, 5, 3)])
def test_unknown_inputs_have_as_many_samples_and_classes(shape: tuple[int, ...]) -> None:
    """Entropies of other numbers of samples and classes would differ by these alone."""
    with pytest.raises(CnetError) as error:
        uncertainty_scores(CERTAIN, torch.zeros(3), torch.ones(shape) / shape[2])
    assert error.value.key == "ood"


@pytest.mark.parametrize(
    ("logits", "y", "key"),
    [
        (torch.full((3, 2), math.nan), [0, 1, 0], "logits"),
        (torch.zeros(0, 3, 2), [0, 1, 0], "logits"),
        (torch.zeros(3, 2), [0, 1, 2], "targets"),
        (torch.zeros(3, 2), [0, -1, 1], "targets"),
        (torch.zeros(3, 2), [0.0, 1.0, 0.0], "targets"),
    ],
)
def test_a_fit_wants_finite_logits_and_classes(logits: torch.Tensor, y: list, key: str) -> None:
    with pytest.raises(CnetError) as error:
        fit_logits(logits, torch.tensor(y))
    assert error.value.key == key
