"""Example 05: search the placement with a searcher of your own, beside random search.

A searcher is a dataclass with a name and a method `search`. This one asks only for placements that
use most of the overhead they may have. Both searchers have the same budget and the same evaluator;
what one has evaluated costs the other no time.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import torch

from cnet_aihw import RRAMRPUConfig, TrainingSettings, convert_to_analog, train
from cnet_aihw.compensation import PAPER, network_cost
from cnet_aihw.search import SupernetEvaluator, placement_problem, run_search
from cnet_aihw.search.searchers import RandomSearcher
from cnet_aihw.zoo import LeNet5, digits

QUICK = "--quick" in sys.argv
EPOCHS, STEPS, BUDGET, CHIPS = (1, 5, 3, 1) if QUICK else (10, 300, 10, 5)


@dataclass
class NearLimitSearcher:
    """Draws placements that use at least a share of the limit, each one once."""

    name: ClassVar[str] = "near_limit"

    share: float = 0.7
    """Least overhead / limit."""

    def search(self, problem, evaluations, rng, context) -> None:
        """Ask for as many as the budget allows; `evaluations` gives their rewards."""
        least = self.share * problem.limit
        drawn = [code for code in problem.encodings() if problem.overhead(code) >= least]
        rng.shuffle(drawn)
        evaluations.many(drawn[: evaluations.left])


def main() -> None:
    """Train, state the problem, search twice."""
    torch.manual_seed(0)
    data = digits()
    model = convert_to_analog(LeNet5(data.input_shape, data.classes), RRAMRPUConfig())
    network = network_cost(model, data.val.x[:1])
    problem = placement_problem(
        network, ["conv1", "conv2", "fc3"], PAPER, limit=0.015, limit_macs=None
    )
    print(f"{problem.count()} placements within the limit")
    with TemporaryDirectory() as name:
        folder = Path(name)
        settings = TrainingSettings(epochs=EPOCHS, batch_size=32, lr=0.01, select="last")
        train(model, data, settings, folder / "training")
        evaluator = SupernetEvaluator(model, data, problem, steps=STEPS, chips=CHIPS, seed=1000)
        for searcher in (RandomSearcher(), NearLimitSearcher(share=0.7)):
            run, store = folder / searcher.name, folder / "store"
            found = run_search(problem, evaluator, searcher, run, budget=BUDGET, store=store)
            print(f"{found.searcher}: reward {found.reward:.4f}, accuracy {found.score:.4f}")
            print(f"  overhead {found.overhead_weights:.2%}, {found.placement.to_json()}")


if __name__ == "__main__":
    main()
