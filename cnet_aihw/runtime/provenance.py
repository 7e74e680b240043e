"""Provenance: what made an artifact, as one nested record, with one comparison and one message."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from cnet_aihw.runtime.errors import CnetError


@dataclass(frozen=True)
class Difference:
    """The first value in which two provenances differ."""

    key: str
    """Dotted name of the value."""

    made: Any
    """Its value when the artifact was made; None where it was not known then."""

    asked: Any
    """Its value now; None where it is not known now."""


def default_values(kind: type) -> dict[str, Any]:
    """Return the fields of a dataclass that have defaults, as plain nested values."""
    found: dict[str, Any] = {}
    for known in fields(kind):
        value = known.default
        if known.default_factory is not MISSING:
            value = known.default_factory()
        if value is not MISSING:
            nested = is_dataclass(value) and not isinstance(value, type)
            found[known.name] = asdict(value) if nested else value
    return found


def diff(
    made: Mapping[str, Any],
    asked: Mapping[str, Any],
    absent: Mapping[str, Any] | None = None,
) -> Difference | None:
    """Return the first difference between two nested records, or None.

    Plain values are compared before groups, because a group may repeat a value where it is used;
    a digest counts only where nothing that can be read differs.

    Args:
        made: provenance of the artifact.
        asked: provenance of what is asked for now.
        absent: values of keys that ``made`` may lack, because its version knew fewer settings:
            a setting's default is what was done before there was the setting.
    """
    absent = absent or {}
    names = dict.fromkeys((*asked, *made))  # in their order, so that the first is always the same
    keys = sorted(names, key=lambda k: isinstance(made.get(k, asked.get(k)), Mapping))
    digest: Difference | None = None
    for key in keys:
        known = key in made or (key in absent and key in asked)
        old, new = made.get(key, absent.get(key)), asked.get(key)
        found: Difference | None = None
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            inner = diff(old, new, group if isinstance(group := absent.get(key), Mapping) else None)
            if inner is not None:
                found = Difference(f"{key}.{inner.key}", inner.made, inner.asked)
        elif old != new or known != (key in asked):
            found = Difference(key, old, new)
        if found is not None and not (_is_digest(found.made) and _is_digest(found.asked)):
            return found
        digest = digest or found
    return digest


def check_provenance(
    made: Mapping[str, Any],
    asked: Mapping[str, Any],
    artifact: str | Path,
    fix: str,
    absent: Mapping[str, Any] | None = None,
) -> None:
    """Refuse an artifact that was made from something else than is asked for now.

    Args:
        made: provenance of the artifact.
        asked: provenance of what is asked for now.
        artifact: the file or folder.
        fix: what to do about a difference, as a clause.
        absent: as in :func:`diff`.

    Raises:
        CnetError: names the first difference; ``key`` is its dotted name, ``value`` the value now
            and ``expected`` that of the artifact.
    """
    found = diff(made, asked, absent)
    if found is not None:
        change = f"{found.key} = {_short(found.made)} and now it is {_short(found.asked)}"
        if _is_digest(found.made) and _is_digest(found.asked):
            change = f"a different {found.key}"
        raise CnetError(
            f"{artifact} was made with {change}; {fix}.",
            key=found.key,
            value=found.asked,
            expected=found.made,
            fix=fix,
        )


def provenance_key(provenance: Mapping[str, Any]) -> str:
    """Return the SHA-256 (hex) of a provenance, whatever the order of its keys."""
    text = json.dumps(provenance, sort_keys=True, allow_nan=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def without(provenance: Mapping[str, Any], keys: Collection[str]) -> dict[str, Any]:
    """Return a copy without some dotted keys, such as where data lie."""
    copy: dict[str, Any] = {}
    for name, value in provenance.items():
        if name in keys:
            continue
        inner = {key.partition(".")[2] for key in keys if key.startswith(f"{name}.")}
        copy[name] = without(value, inner) if isinstance(value, Mapping) else value
    return copy


def only(provenance: Mapping[str, Any], keys: Collection[str]) -> dict[str, Any]:
    """Return a copy with some dotted keys alone, such as what a later step depends on."""
    copy: dict[str, Any] = {}
    for name, value in provenance.items():
        inner = {key.partition(".")[2] for key in keys if key.startswith(f"{name}.")}
        if name in keys:
            copy[name] = value
        elif inner and isinstance(value, Mapping):
            copy[name] = only(value, inner)
    return copy


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
