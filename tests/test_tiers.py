"""The tiers of tests: slow ones are left out when their time is over."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SLOW = "tests/doctor/test_doctor.py"


@pytest.mark.parametrize(("until", "left_out"), [("0", True), ("4e9", False)])
def test_slow_tests_are_left_out_when_their_time_is_over(until: str, left_out: bool) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--setup-only", "-m", "slow", SLOW],
        env={**os.environ, "TESTS_UNTIL": until},
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ("the time for slow tests is over" in made.stdout) == left_out, made.stdout
