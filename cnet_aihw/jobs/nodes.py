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
            raise CnetError(one_sentence(error), key=key) from error
        fields = {name: getattr(said, name) for name in ("key", "value", "expected", "fix")}
        raise CnetError(one_sentence(error), **fields) from error


def plain_values(node: Any) -> Any:
    """Return a part of the configuration as plain values, all references resolved."""
    if OmegaConf.is_config(node):
        return OmegaConf.to_container(node, resolve=True)
    return dict(node) if isinstance(node, Mapping) else node
