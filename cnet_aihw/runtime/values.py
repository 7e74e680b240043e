"""Types of values that settings take."""

import math
from numbers import Integral, Real
from typing import TypeGuard


def is_whole(value: object) -> TypeGuard[int]:
    """Whether a setting is a whole number, of Python or numpy; True and False are none."""
    return is_number(value) and isinstance(value, Integral)


def is_number(value: object) -> TypeGuard[float]:
    """Whether a setting is a finite number, of Python or numpy; True and False are none."""
    return type(value) is not bool and isinstance(value, Real) and math.isfinite(value)
