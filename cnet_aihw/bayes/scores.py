"""Scores of sampled predictions: accuracy, calibration, kinds of uncertainty, unknown inputs."""

from __future__ import annotations

import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import check_count

BINS = 15
_SMALLEST = 1e-12  # of a probability in a logarithm


@checked
def uncertainty_scores(
    probabilities: Tensor, targets: Tensor, ood: Tensor | None = None, bins: int = BINS
) -> dict[str, float]:
    """Return the scores of sampled predictions.

    The prediction is the mean over samples. Its entropy is the total uncertainty; what the mean
    entropy of single samples leaves of it is the mutual information of prediction and weights,
    which is 0 where all samples agree.

    Args:
        probabilities: [T, N, C].
        targets: classes, [N].
        ood: probabilities of inputs of another kind, [T, M, C].
        bins: bins of the calibration errors.

    Returns:
        ``accuracy``; ``nll``, the mean negative log likelihood in nats; ``brier``, the mean over
        inputs of the sum over classes of squared errors, 0 to 2; ``ece``, the expected calibration
        error of the largest probability in bins of equal width, those of :func:`reliability`, and
        ``ece_mass`` in bins of equal counts; ``entropy`` and ``mutual_information`` in nats; with
        ``ood`` the area under the ROC curve of telling its inputs apart by either one,
        ``auroc_entropy`` and ``auroc_mutual_information``, and its own ``ood_entropy``.

    Raises:
        CnetError: for shapes that do not fit, and probabilities that are none.
    """
    p = _checked(probabilities, "probabilities")
    check_count("bins", bins)
    mean, y = p.mean(0), _classes(targets, p)
    confidence, chosen = mean.max(1)
    correct = (chosen == y).double()
    one_hot = torch.nn.functional.one_hot(y, p.shape[2]).double()
    entropy, information = _entropies(p)
    scores = {
        "accuracy": correct.mean(),
        "nll": -mean.gather(1, y[:, None]).clamp(min=_SMALLEST).log().mean(),
        "brier": (mean - one_hot).square().sum(1).mean(),
        "ece": _equal_width(confidence, correct, bins),
        "ece_mass": _equal_mass(confidence, correct, bins),
        "entropy": entropy.mean(),
        "mutual_information": information.mean(),
    }
    found = {name: float(value) for name, value in scores.items()}
    if ood is not None:
        unknown = _checked(ood, "ood")
        if unknown.shape[::2] != p.shape[::2]:
            expected = f"[{p.shape[0]}, M, {p.shape[2]}], as the probabilities"
            raise bad_value("ood", tuple(ood.shape), expected)
        others = _entropies(unknown)
        found["auroc_entropy"] = _auroc(entropy, others[0])
        found["auroc_mutual_information"] = _auroc(information, others[1])
        found["ood_entropy"] = float(others[0].mean())
    return found


@checked
def reliability(probabilities: Tensor, targets: Tensor, bins: int = BINS) -> list[list[float]]:
    """Return the reliability diagram of sampled predictions.

    Args:
        probabilities: [T, N, C].
        targets: classes, [N].
        bins: bins of equal width of the largest probability.

    Returns:
        For each bin its number of inputs, their mean largest probability and their accuracy; 0 of
        all in an empty bin.

    Raises:
        CnetError: as :func:`uncertainty_scores`.
    """
    p = _checked(probabilities, "probabilities")
    check_count("bins", bins)
    confidence, chosen = p.mean(0).max(1)
    correct = (chosen == _classes(targets, p)).double()
    index = _bin_of(confidence, bins)
    rows = []
    for number in range(bins):
        inside = index == number
        count = int(inside.sum())
        means = [float(v[inside].mean()) if count else 0.0 for v in (confidence, correct)]
        rows.append([count, *means])
    return rows


def _bin_of(confidence: Tensor, bins: int) -> Tensor:
    """Return the bin of equal width of each input, the lower one at a bound."""
    return (confidence * bins).ceil().long().clamp(1, bins) - 1


def _equal_width(confidence: Tensor, correct: Tensor, bins: int) -> Tensor:
    index, gap = _bin_of(confidence, bins), confidence - correct
    gaps = [gap[index == number].sum().abs() for number in range(bins)]
    return torch.stack(gaps).sum() / len(confidence)


def _entropies(p: Tensor) -> tuple[Tensor, Tensor]:
    """Return entropy of the mean and mutual information of each input, [N], in nats."""
    total = _entropy(p.mean(0))
    # rounding may leave a little below 0 where all samples agree
    return total, (total - _entropy(p).mean(0)).clamp(min=0.0)


def _entropy(p: Tensor) -> Tensor:
    return -(p * p.clamp(min=_SMALLEST).log()).sum(-1)


def _equal_mass(confidence: Tensor, correct: Tensor, bins: int) -> Tensor:
    order = confidence.argsort(stable=True)
    gaps = [
        (confidence[part].sum() - correct[part].sum()).abs() for part in order.tensor_split(bins)
    ]
    return torch.stack(gaps).sum() / len(confidence)


def _auroc(known: Tensor, other: Tensor) -> float:
    truth = torch.cat([torch.zeros(len(known)), torch.ones(len(other))])
    return float(roc_auc_score(truth.numpy(), torch.cat([known, other]).cpu().numpy()))


def _classes(targets: Tensor, p: Tensor) -> Tensor:
    """Return targets as class numbers on the device of the probabilities, [N]."""
    if targets.shape != p.shape[1:2]:
        raise bad_value("targets", tuple(targets.shape), f"classes [N], N = {p.shape[1]}")
    wrong = (targets < 0) | (targets >= p.shape[2]) | (targets != targets.trunc())
    if bool(wrong.any()):
        raise bad_value("targets", targets[wrong][0].item(), f"classes 0 to {p.shape[2] - 1}")
    return targets.to(p.device).long()


def _checked(probabilities: Tensor, key: str) -> Tensor:
    shape = tuple(probabilities.shape)
    if len(shape) != 3 or 0 in shape or shape[2] < 2:
        raise bad_value(key, shape, "probabilities [T, N, C], C at least 2, none of them 0")
    p = probabilities.detach().double()
    sums = p.sum(-1)
    if not bool(torch.isfinite(p).all()) or bool((p < 0).any()):
        raise bad_value(key, "not finite or negative", "probabilities")
    if not torch.allclose(sums, torch.ones_like(sums), atol=1e-4):
        raise bad_value(key, float(sums.min()), "probabilities that sum to 1")
    return p.clamp(max=1.0)  # rounding may leave one a little above
