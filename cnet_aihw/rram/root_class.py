"""Class of a converted network: aihwkit's methods on the user's own class, copied and pickled."""

from __future__ import annotations

import copyreg
from types import new_class
from typing import Any

from aihwkit.nn.modules.container import AnalogWrapper
from torch import nn


def root_class(digital: type[nn.Module]) -> type[nn.Module]:
    """Return the class that aihwkit's conversion gives a network of some class.

    aihwkit keys these classes by name alone, so that another class of that name would be taken for
    this one; and it gives them no place that pickle could find them at.

    Args:
        digital: class of the digital network; the registry of aihwkit holds its wrapper afterwards.
    """
    name = f"{AnalogWrapper.__name__}{digital.__name__}"
    known = AnalogWrapper.SUBCLASSES.get(name)
    if known is None or known.__bases__[1] is not digital:
        known = new_class(name, (AnalogWrapper, digital))
        AnalogWrapper.SUBCLASSES[name] = known
    copyreg.pickle(known, _reduce)
    found: type[nn.Module] = known
    return found


def _reduce(model: nn.Module) -> tuple[Any, ...]:
    """Say how a network is made again: an empty one of the digital class, then its state."""
    reduced: Any = model.__reduce_ex__(4)
    made, arguments, *rest = reduced
    kind = type(model)
    if arguments == (kind,):
        made, arguments = _empty, (kind.__bases__[1],)
    elif made is kind:  # the digital class has a way of its own, as torch.compile's has
        made, arguments = _made_as_digital, (kind.__bases__[1], *arguments)
    return made, arguments, *rest


def _empty(digital: type[nn.Module]) -> nn.Module:
    kind = root_class(digital)
    return kind.__new__(kind)


def _made_as_digital(digital: type[nn.Module], *arguments: Any) -> nn.Module:
    model = digital(*arguments)
    object.__setattr__(model, "__class__", root_class(digital))
    return model
