"""Language modelling: the next token of a sequence, judged by perplexity."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from cnet_aihw.runtime.inputs import at_least_float32
from cnet_aihw.runtime.typed import checked
from cnet_aihw.tasks.base import loss_of_drawn_classes
from cnet_aihw.tasks.checks import check_numbers, check_outputs, check_targets


class Perplexity:
    """exp of the mean cross entropy over all tokens that are not ignored."""

    def __init__(self, ignored: int) -> None:
        self.ignored = ignored
        self._sum: Tensor | None = None
        self._tokens: Tensor | None = None

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Take in logits [N, T, V] and tokens [N, T]."""
        losses = F.cross_entropy(
            at_least_float32(outputs).flatten(0, 1),
            targets.flatten(),
            ignore_index=self.ignored,
            reduction="none",
        )
        total, tokens = losses.double().sum(), (targets != self.ignored).sum()
        self._sum = total if self._sum is None else self._sum + total
        self._tokens = tokens if self._tokens is None else self._tokens + tokens

    def compute(self) -> Tensor:
        """Return the perplexity; NaN before the first token."""
        if self._sum is None or self._tokens is None:
            return torch.tensor(torch.nan, dtype=torch.float64)
        return (self._sum / self._tokens).exp()


class LanguageModelling:
    """Cross entropy and perplexity (lower is better) of logits [N, T, V] against tokens [N, T].

    Targets are int64, each the token that follows its position; those that are ``ignored`` do not
    count. A batch's loss is the mean over its tokens.

    Args:
        ignored: token number that stands where there is nothing to be said.
    """

    name = "language modelling"
    metric = "perplexity"
    higher_is_better = False
    loss_name = "cross_entropy"
    score_range = (1.0, float("inf"))

    @checked
    def __init__(self, ignored: int = -100) -> None:
        self.ignored = ignored

    def check(self, outputs: Any, targets: Tensor) -> None:
        """Check that outputs are logits for each token and targets are tokens.

        Raises:
            CnetError: if not.
        """
        logits = check_outputs(outputs, (3,), "logits of shape (N, T, V)")
        check_targets(
            targets, logits.shape[1:2], "token numbers, int64", targets.dtype == torch.int64
        )
        check_numbers(targets, logits.shape[2], self.ignored)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross entropy (natural logarithm) over the tokens of a batch."""
        return F.cross_entropy(
            at_least_float32(outputs).flatten(0, 1), targets.flatten(), ignore_index=self.ignored
        )

    def counted(self, targets: Tensor) -> Tensor:
        """Return how many targets are not ignored, a scalar."""
        return (targets != self.ignored).sum()

    def divergence(self, outputs: Tensor, wanted: Tensor, temperature: float) -> Tensor:
        """Return the mean Kullback-Leibler divergence of a token from wanted logits."""
        given, aim = (
            F.log_softmax(at_least_float32(logits).flatten(0, 1) / temperature, 1)
            for logits in (outputs, wanted)
        )
        return temperature**2 * F.kl_div(given, aim, reduction="batchmean", log_target=True)

    def drawn_loss(self, outputs: Tensor) -> Tensor:
        """Return the summed cross entropy against tokens drawn by the outputs' probabilities."""
        return loss_of_drawn_classes(outputs)

    def constant_loss(self, targets: Tensor) -> float:
        """Return the entropy of the tokens, the least loss that does not look at the text."""
        counted = targets[targets != self.ignored]
        share = torch.bincount(counted).double() / counted.numel()
        return float(-torch.xlogy(share, share).sum())

    def new_metric(self) -> Perplexity:
        """Return an empty accumulator of the perplexity."""
        return Perplexity(self.ignored)

    def format(self, score: float) -> str:
        """Write a perplexity with three decimals, or with four digits above 1000."""
        return f"{score:.3f}" if score < 1000 else f"{score:.4g}"

    def recovery(self, score: float, reference: float) -> float | None:
        """Return reference perplexity / perplexity: 1 where nothing is lost.

        None where either is 0, because then a ratio has no meaning.
        """
        return reference / score if score > 0 and reference > 0 else None
