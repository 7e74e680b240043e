"""The model behind the surrogate search, against closed forms and exhaustive search."""

import itertools

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Kernel

from cnet_aihw.search.searchers.second_order import SecondOrderModel, Tables
from cnet_aihw.search.searchers.surrogate import climb

LAYERS, CHOICES = 4, 3
ENCODINGS = np.array(list(itertools.product(range(CHOICES), repeat=LAYERS)))


def random_tables(seed: int, pairs: float = 1.0) -> Tables:
    rng = np.random.default_rng(seed)
    both = pairs * rng.normal(size=(LAYERS, LAYERS, CHOICES, CHOICES))
    both = both + both.transpose(1, 0, 3, 2)
    both[np.arange(LAYERS), np.arange(LAYERS)] = 0.0
    return Tables(rng.normal(size=(LAYERS, CHOICES)), both)


def test_tables_add_each_pair_once() -> None:
    tables = random_tables(0)
    for encoding in map(tuple, ENCODINGS[::7]):
        expected = sum(tables.layers[i, c] for i, c in enumerate(encoding))
        for i, j in itertools.combinations(range(LAYERS), 2):
            expected += tables.pairs[i, j, encoding[i], encoding[j]]
        assert tables.value(encoding) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(6))
def test_no_change_of_one_or_two_layers_betters_what_a_climb_ends_at(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tables, limits = random_tables(seed), np.array([0.2, 0.15, 0.3])[: seed % 3]
    costs = rng.uniform(0, 0.1, (len(limits), LAYERS, CHOICES))
    costs[..., 0] = 0.0
    index = np.arange(LAYERS)
    top = climb(tables, costs, limits, (0,) * LAYERS)
    near = ENCODINGS[(np.array(top) != ENCODINGS).sum(1) <= 2]
    fitting = near[(costs[:, index, near].sum(2) <= limits[:, None]).all(0)]
    assert top in map(tuple, fitting.tolist())
    assert tables.value(top) == pytest.approx(max(tables.value(tuple(p)) for p in fitting))


@pytest.mark.parametrize("pairs", [0.0, 0.5])
def test_a_third_of_the_plans_tell_the_others(pairs: float) -> None:
    """Smooth in the choices and 0 where a layer is left as it is: what the model is made for."""
    rng = np.random.default_rng(1)
    gains, both = rng.uniform(0.2, 1.0, LAYERS), np.triu(rng.normal(0, pairs, (LAYERS,) * 2), 1)
    share = np.array([0.0, 0.7, 1.0])[ENCODINGS]
    values = 0.4 + share @ gains + np.einsum("nl,lm,nm->n", share, both, share)
    known = rng.random(len(ENCODINGS)) < 1 / 3
    model = SecondOrderModel(LAYERS, CHOICES)
    model.fit(ENCODINGS[known], values[known])
    mean = model.draw(rng, exploration=0.0)
    predicted = np.array([mean.value(tuple(encoding)) for encoding in ENCODINGS])
    assert np.corrcoef(predicted[~known], values[~known])[0, 1] > 0.99


class SecondOrderKernel(Kernel):
    """The model's prior, written down encoding by encoding."""

    def __init__(self, covariance: np.ndarray, pairs: float) -> None:
        self.covariance, self.pairs = covariance, pairs

    def __call__(
        self, x: np.ndarray, y: np.ndarray | None = None, eval_gradient: bool = False
    ) -> np.ndarray:
        return np.array([[self._of(a, b) for b in (x if y is None else y)] for a in x])

    def _of(self, a: np.ndarray, b: np.ndarray) -> float:
        each = [self.covariance[int(i), int(j)] for i, j in zip(a, b, strict=True)]
        couples = [p * q for p, q in itertools.combinations(each, 2)]
        return 1.0 + float(np.mean(each)) + self.pairs * float(np.mean(couples))

    def diag(self, x: np.ndarray) -> np.ndarray:
        return np.array([self._of(a, a) for a in x])

    def is_stationary(self) -> bool:
        return False


def test_draws_have_the_posterior_that_scikit_learn_gives() -> None:
    rng = np.random.default_rng(2)
    tables = random_tables(3, pairs=0.3)
    known = rng.choice(len(ENCODINGS), 20, replace=False)
    values = np.array([tables.value(tuple(encoding)) for encoding in ENCODINGS[known]])
    model = SecondOrderModel(LAYERS, CHOICES)
    model.fit(ENCODINGS[known], values)
    others = ENCODINGS[np.setdiff1d(np.arange(len(ENCODINGS)), known)][:8]
    draws = [model.draw(rng, exploration=1.0) for _ in range(4000)]
    # Differences between encodings: the tables leave out the constant.
    first, *rest = map(tuple, others.tolist())
    drawn = np.array([[t.value(encoding) - t.value(first) for encoding in rest] for t in draws])
    root = model._root
    kernel = SecondOrderKernel(root @ root.T, model._pairs)
    oracle = GaussianProcessRegressor(kernel, alpha=model._noise, optimizer=None)
    oracle.fit(ENCODINGS[known], (values - values.mean()) / values.std())
    mean, covariance = oracle.predict(others, return_cov=True)
    covariance = covariance * model._variance
    variances = np.diag(covariance)[1:] + covariance[0, 0] - 2 * covariance[0, 1:]
    deviation = np.sqrt(variances) * values.std()
    expected = (mean[1:] - mean[0]) * values.std()
    assert np.all(np.abs(drawn.mean(0) - expected) < 5 * deviation / np.sqrt(len(draws)))
    assert drawn.std(0) == pytest.approx(deviation, rel=0.1)
