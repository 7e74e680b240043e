"""Prefixes of encodings behind which nothing new is left, so that walks need not repeat."""

from __future__ import annotations

from collections.abc import Iterable

from cnet_aihw.search.problem import Encoding, PlacementProblem


class ExhaustedPrefixes:
    """Beginnings of encodings whose fitting continuations are all known.

    Args:
        problem: the placement problem.
    """

    def __init__(self, problem: PlacementProblem) -> None:
        self._problem = problem
        self._exhausted: set[Encoding] = set()

    def add(self, encodings: Iterable[Encoding]) -> None:
        """Take in encodings that fit and are known now."""
        for encoding in encodings:
            self._exhausted.add(encoding)
            for length in reversed(range(len(encoding))):
                prefix = encoding[:length]
                if any(self._new(prefix, self._problem.mask(prefix))):
                    break
                self._exhausted.add(prefix)

    def mask(self, prefix: Encoding) -> tuple[bool, ...]:
        """Return which choices of the next layer lead to a new encoding that fits.

        Where none does, all that fit are allowed.
        """
        fits = self._problem.mask(prefix)
        new = self._new(prefix, fits)
        return new if any(new) else fits

    def known(self, prefix: Encoding) -> bool:
        """Return whether every fitting encoding that begins so is known."""
        return prefix in self._exhausted

    def _new(self, prefix: Encoding, fits: tuple[bool, ...]) -> tuple[bool, ...]:
        return tuple(
            fit and (*prefix, choice) not in self._exhausted for choice, fit in enumerate(fits)
        )
