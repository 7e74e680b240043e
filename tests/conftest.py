"""Three tiers of tests: unit, integration (the command line, in process), slow."""

from pathlib import Path

import pytest

INTEGRATION = ("doctor", "jobs", "report")
SINGLY = (
    *("test_architectures.py", "test_arguments.py", "test_experiments.py", "test_generic.py"),
    *("test_kernels.py", "test_pages.py", "test_values.py"),
)
"""Long files of independent tests, which run wherever a process is free, after the other files."""


@pytest.hookimpl(tryfirst=True)  # before groups become part of the names
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of whole jobs and their pages, and what runs in one process, in which order.

    Those on fake CUDA devices come last: fake devices start threads in autograd's engine, which
    processes forked later cannot do with.
    """
    items.sort(key=lambda item: (item.path.name == "test_cuda.py", item.path.name in SINGLY))
    here = Path(__file__).parent
    for item in items:
        if item.path.name not in SINGLY:
            item.add_marker(pytest.mark.xdist_group(str(item.path.relative_to(here))))
        room = item.path.relative_to(here).parts[0]
        if room in INTEGRATION or room.startswith("test_"):
            item.add_marker(pytest.mark.integration)
