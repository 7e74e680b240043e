"""That what earlier steps left agrees with what is asked for now."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from cnet_aihw.jobs.recipes import Recipe
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.records import read_json

if TYPE_CHECKING:
    from cnet_aihw.jobs.pipeline import Run
    from cnet_aihw.training.settings import TrainingSettings

_TOLD_BY_MEASUREMENTS = ("data", "model", "rram", "training", "evaluation", "seed", "pretrained")
_NOT_TOLD = {  # where the data lie, how fast it goes, and what a table's rows say themselves
    "data": ("path", "root", "download"),
    "training": ("compare", "checkpoint_seconds"),
    "evaluation": ("chips", "batch_size"),
}


def check_trained_on(run: Run, recipe: Recipe) -> None:
    """See that a network is not measured on what it was trained on, as with another split it would.

    Raises:
        CnetError: where it was trained on other data, or another split of them.
    """
    path = run.source_of(recipe) / "run.json"
    trained = read_json(path)["identity"]["data"]["fingerprint"] if path.exists() else None
    if trained not in (None, run.data.fingerprint):
        raise CnetError(
            f"{path.parent} was trained on other data, or another split of them, than are given "
            "now; give the values of data of its own run."
        )


def check_trained_so(run: Run, recipe: Recipe, settings: TrainingSettings) -> None:
    """See that a network of this run was trained with the settings given now.

    Those of a source's training are taken as they are there, without being given again.

    Raises:
        CnetError: names what differs.
    """
    from cnet_aihw.training.run_identity import describe_settings

    path = run.source_of(recipe) / "run.json"
    if run.config.source is not None or not path.exists():
        return
    trained, asked = (
        {"channels_last": False, **of, "variation": {"ramp_epochs": 0.0, **of["variation"]}}
        for of in (
            read_json(path)["identity"]["training"],
            json.loads(json.dumps(describe_settings(settings))),
        )
    )  # what a description leaves out at its default
    key = difference(trained, asked)
    if key is not None:
        raise CnetError(
            f"{path.parent} was trained with another training.{key} than is given now; give the "
            "values of its own run, or train in another folder."
        )


def check_measured_so(recipe: Recipe, found: Mapping[str, Any], path: Path) -> None:
    """See that measurements are of the network and the chips that are asked for now.

    Raises:
        CnetError: names what differs.
    """
    asked = {name: plain_values(recipe.config[name]) for name in _TOLD_BY_MEASUREMENTS}
    for group in ("model", "rram"):  # None: what the data are yet to say
        asked[group] = {k: v for k, v in asked[group].items() if v is not None}
    for group, names in _NOT_TOLD.items():
        asked[group] = {k: v for k, v in asked[group].items() if k not in names}
    measured = {name: found["config"][name] for name in asked if name in found["config"]}
    key = difference(measured, asked)
    if key is not None:
        raise CnetError(
            f"{path} was measured with another {key} than is given now; give the values of its "
            f"own command, {found['command']}, or run job=evaluate in another folder."
        )


def plain_values(node: Any) -> Any:
    """A part of the configuration as dicts, lists and values, all references resolved."""
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """A key, dotted, of which both have another value; versions may know more keys.

    Values come before groups of them: a group may repeat them where it is filled in.
    """
    for key in sorted(old, key=lambda key: isinstance(old[key], Mapping)):
        if key not in new or old[key] == new[key]:
            continue
        if isinstance(old[key], Mapping) and isinstance(new[key], Mapping):
            inner = difference(old[key], new[key])
            if inner is None:
                continue
            return f"{key}.{inner}"
        return key
    return None
