"""Nodes of a configuration: as objects, and as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from cnet_aihw.jobs.messages import one_sentence
from cnet_aihw.jobs.targets import typed_values
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.origin import own_line


def make(node: DictConfig, key: str) -> Any:
    """Build what a Hydra target describes, with the objects it refers to.

    Args:
        node: the description.
        key: dotted name of the node.

    Raises:
        CnetError: with the reason that the target gives, for an argument of another type, and for
            what is not the description of a target.
    """
    if not OmegaConf.is_dict(node) or "_target_" not in node:
        given = OmegaConf.to_container(node) if OmegaConf.is_config(node) else node
        raise bad_value(key, given, "the description of a target: _target_ and its arguments")
    value, raw = (OmegaConf.to_container(node, resolve=resolve) for resolve in (True, False))
    typed = typed_values(value, raw, key)
    try:
        return instantiate(typed, _convert_="object")
    except InstantiationException as error:
        said = error.__cause__
        if not isinstance(said, CnetError):
            raise _not_built(key, typed, error, said) from error
        fields = {name: getattr(said, name) for name in ("key", "value", "expected", "fix")}
        raise CnetError(one_sentence(error), **fields) from error


def _not_built(
    key: str, node: Any, error: InstantiationException, said: BaseException | None
) -> CnetError:
    """Return the error of a target that failed, with the line of the user's code, if any."""
    target = str(node["_target_"])
    line = own_line(said) if said is not None else ""
    if not line or f"'{target}'" not in str(error):  # a library's, or that of an inner target
        return CnetError(one_sentence(error), key=key, value=target)
    fix = f"mend it, or change {key}"
    return CnetError(
        f"{target} cannot be built ({type(said).__name__}: {said}, at {line}); {fix}.",
        key=key,
        value=target,
        expected="a target that can be built",
        fix=fix,
    )


def plain_values(node: Any) -> Any:
    """Return a part of the configuration as plain values, all references resolved."""
    if OmegaConf.is_config(node):
        return OmegaConf.to_container(node, resolve=True)
    return dict(node) if isinstance(node, Mapping) else node
