"""Checks whether objects can be sent to other processes, without the bytes of their tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from cnet_aihw.runtime.errors import CnetError


class _Nowhere:
    """A file that keeps nothing."""

    def write(self, data: Any) -> int:
        """Take data."""
        return len(data)


def check_sendable(key: str, what: object, alone: str) -> None:
    """Check that an object can be sent to other processes.

    Args:
        key: name of the object in messages.
        what: the object.
        alone: setting that works in this process alone.

    Raises:
        CnetError: if it cannot be pickled.
    """
    from ray import cloudpickle

    class Pickler(cloudpickle.Pickler):
        def reducer_override(self, obj: Any) -> Any:
            numbers = isinstance(obj, np.ndarray) and not obj.dtype.hasobject
            if numbers or isinstance(obj, torch.Tensor):
                return int, ()
            return super().reducer_override(obj)

    try:
        Pickler(_Nowhere()).dump(what)
    except Exception as error:  # of any kind: parametrized modules raise a RuntimeError
        raise cannot_be_sent(key, what, error, alone) from error


def cannot_be_sent(key: str, what: object, error: Exception, alone: str) -> CnetError:
    """Return the error of an object that other processes cannot be given.

    Args:
        key: name of the object in messages.
        what: the object.
        error: what pickling it raised.
        alone: setting that works in this process alone.
    """
    reason = str(error.__cause__ or error).strip().partition("\n")[0]
    return CnetError(
        f"the {key} cannot be sent to worker processes ({reason}); make all that it holds "
        f"picklable (parametrizations: torch.nn.utils.parametrize.remove_parametrizations), or "
        f"give {alone}.",
        key=key,
        value=type(what).__name__,
        expected="an object that cloudpickle can pickle",
        fix=alone,
    )
