"""The actor of a search; imports nothing, so that its process starts at once and stays small."""

from __future__ import annotations

from typing import Any


class SearchStatus:
    """The actor: holds the figures for whoever asks."""

    def __init__(self, status: dict[str, Any]) -> None:
        self._status = status

    def __repr__(self) -> str:
        return f"Search({self._status['search']})"  # what the dashboard shows

    def update(self, status: dict[str, Any]) -> None:
        """Take in new figures."""
        self._status = status

    def status(self) -> dict[str, Any]:
        """Return the latest figures."""
        return self._status
