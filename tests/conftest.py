"""Three tiers of tests: unit, integration (the command line, in process), slow."""

from pathlib import Path

import pytest

INTEGRATION = ("jobs", "report")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of whole jobs and their pages, so that the others can be run alone."""
    here = Path(__file__).parent
    for item in items:
        room = item.path.relative_to(here).parts[0]
        if room in INTEGRATION or room.startswith("test_"):
            item.add_marker(pytest.mark.integration)
