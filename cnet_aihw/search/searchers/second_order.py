"""A Bayesian model of encodings: a sum over layers and over pairs of layers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cnet_aihw.search.problem import Encoding

Array = NDArray[np.float64]

_LENGTHS = (0.7, 1.5, 3.0)  # over how many choices a layer's effect changes
_PAIRS = (0.03, 0.3, 1.0)  # variance of all pairs / that of all layers
_NOISES = (1e-4, 1e-3, 1e-2, 1e-1)  # variance of what the model cannot express / that of all layers


@dataclass(frozen=True)
class Tables:
    """A sum over layers and pairs of layers as tables."""

    layers: Array
    """Contribution of each choice of a layer, [layers, choices]."""

    pairs: Array
    """Contribution of choices of two layers, [layers, layers, choices, choices].

    pairs[l, m, a, b] == pairs[m, l, b, a]; 0 for l == m."""

    def value(self, encoding: Encoding) -> float:
        """Sum for an encoding."""
        index, at = np.arange(len(encoding)), np.array(encoding)
        pairs = self.pairs[index[:, None], index, at[:, None], at]
        return float(self.layers[index, at].sum() + pairs.sum() / 2)


class SecondOrderModel:
    """Bayesian linear regression on features of layers and of pairs of layers.

    What a layer adds is a Gaussian process over its choices that is 0 at choice 0; what a pair adds
    is the product of two. How smooth they are, how much pairs matter and how much is noise is
    chosen by the marginal likelihood, from a small grid.

    Args:
        layers: number of layers.
        choices: number of choices.
    """

    def __init__(self, layers: int, choices: int) -> None:
        self._layers, self._choices = layers, choices
        self._first, self._second = np.triu_indices(layers, 1)

    def fit(self, encodings: NDArray[np.int64], values: Array) -> None:
        """Fit to evaluated encodings.

        Args:
            encodings: [n, layers].
            values: [n].
        """
        self._center, self._scale = values.mean(), values.std() or 1.0
        self._values = (values - self._center) / self._scale
        best = -np.inf
        for length in _LENGTHS:
            root = _root(self._choices, length)
            single, double = _kernels(encodings, root @ root.T)
            for pairs in _PAIRS:
                spectrum, vectors = np.linalg.eigh(1.0 + single + pairs * double)
                likelihood, variance, noise = self._likelihood(spectrum, vectors)
                if likelihood > best:
                    best = likelihood
                    self._root, self._pairs = root, pairs
                    self._noise, self._variance = noise, variance
                    self._inverse = (vectors / (spectrum + noise)) @ vectors.T
        self._features = self._features_of(encodings)

    def draw(self, rng: np.random.Generator, exploration: float) -> Tables:
        """Draw from the posterior: its mean + exploration * a deviation from it."""
        single, double = self._features
        spread = exploration * np.sqrt(self._variance)
        constant = spread * rng.normal()
        layers = spread * rng.normal(size=single.shape[1])
        pairs = spread * rng.normal(size=double.shape[1])
        noise = spread * np.sqrt(self._noise) * rng.normal(size=len(self._values))
        # Matheron's rule: a draw from the prior, corrected by what it misses of the data.
        drawn = constant + single @ layers + double @ pairs + noise
        solved = self._inverse @ (self._values - drawn)
        return self._tables(layers + single.T @ solved, pairs + double.T @ solved)

    def _likelihood(self, spectrum: Array, vectors: Array) -> tuple[float, float, float]:
        """Marginal likelihood (but for a constant) at the best variance and noise, and those."""
        n = len(self._values)
        noises = np.array(_NOISES)
        shifted = np.maximum(spectrum, 0.0) + noises[:, None]
        variances = np.maximum(((vectors.T @ self._values) ** 2 / shifted).sum(1) / n, 1e-12)
        likelihoods = -(n * np.log(variances) + np.log(shifted).sum(1)) / 2
        best = int(likelihoods.argmax())
        return likelihoods[best], variances[best], noises[best]

    def _features_of(self, encodings: NDArray[np.int64]) -> tuple[Array, Array]:
        """Features of layers [n, layers * f] and of pairs [n, pairs * f * f], weights N(0, 1)."""
        single = self._root[encodings]  # [n, layers, f]
        double = single[:, self._first, :, None] * single[:, self._second, None, :]
        n = len(encodings)
        return single.reshape(n, -1) * self._weights[0], double.reshape(n, -1) * self._weights[1]

    @property
    def _weights(self) -> tuple[float, float]:
        """Factors of the features of layers and of pairs."""
        return self._layers**-0.5, (self._pairs / max(len(self._first), 1)) ** 0.5

    def _tables(self, layers: Array, pairs: Array) -> Tables:
        """Tables of weights of the features, in units of the values."""
        f = self._root.shape[1]
        single = layers.reshape(self._layers, f) @ self._root.T
        double = self._root @ pairs.reshape(-1, f, f) @ self._root.T
        both = np.zeros((self._layers, self._layers, self._choices, self._choices))
        both[self._first, self._second] = double
        both[self._second, self._first] = double.transpose(0, 2, 1)
        units = self._scale * self._weights[0], self._scale * self._weights[1]
        return Tables(units[0] * single, units[1] * both)


def _kernels(encodings: NDArray[np.int64], covariance: Array) -> tuple[Array, Array]:
    """Covariances of encodings, [n, n]: mean over layers, and mean over pairs of layers."""
    each = covariance[encodings[:, None, :], encodings[None, :, :]]  # [n, n, layers]
    total, layers = each.sum(2), encodings.shape[1]
    double = (total**2 - (each**2).sum(2)) / max(layers * (layers - 1), 1)
    return total / layers, double


def _root(choices: int, length: float) -> Array:
    """Features of a layer's choices, [choices, choices - 1]: root @ root.T is their covariance.

    A squared exponential over the choices' indices, under the condition of 0 at choice 0, with a
    mean variance of 1.
    """
    index = np.arange(choices)
    smooth = np.exp(-((index[:, None] - index) ** 2) / (2 * length**2))
    left = smooth[1:, 1:] - np.outer(smooth[1:, 0], smooth[0, 1:])
    left *= choices / np.trace(left)
    root = np.zeros((choices, choices - 1))
    root[1:] = np.linalg.cholesky(left + 1e-9 * np.eye(choices - 1))
    return root
