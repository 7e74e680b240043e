"""Nodes of a configuration: as objects, and as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from cnet_aihw.jobs.messages import one_sentence
from cnet_aihw.jobs.targets import typed_values
from cnet_aihw.runtime.errors import CnetError


def make(node: DictConfig | None) -> Any:
    """Build what a Hydra target describes, with the objects it refers to.

    Raises:
        CnetError: with the reason that the target gives, or for an argument of another type.
    """
    if node is None:
        return None
    value, raw = (OmegaConf.to_container(node, resolve=resolve) for resolve in (True, False))
    typed = typed_values(value, raw, str(node._get_full_key(None)))
    try:
        return instantiate(typed, _convert_="object")
    except InstantiationException as error:
        raise CnetError(one_sentence(error)) from error


def plain_values(node: Any) -> Any:
    """Return a part of the configuration as plain values, all references resolved."""
    if OmegaConf.is_config(node):
        return OmegaConf.to_container(node, resolve=True)
    return dict(node) if isinstance(node, Mapping) else node
