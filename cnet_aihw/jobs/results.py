"""What steps leave in the folder of a training, and how later steps take it up."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from cnet_aihw.jobs.agreement import check_trained_on, difference, plain_values
from cnet_aihw.jobs.calibration import check_calibration
from cnet_aihw.jobs.crossbar import check_adc_range, on_crossbars, training_config
from cnet_aihw.jobs.recipes import Recipe
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.records import read_json

if TYPE_CHECKING:
    from torch import nn

    from cnet_aihw.jobs.pipeline import Run

BEST = "best.safetensors"
SCANNED = "scan.json"
SEARCHED = "search.json"
COMPENSATION = "compensation.safetensors"
COMPENSATED = "compensation.json"
MEASURED = "chips.json"
MEASURED_COMPENSATED = "chips-compensated.json"
CHIPS_COMPENSATED = "chips-compensated.jsonl"


def left_by_earlier_step(path: Path, step: str, what: str) -> Path:
    """A file that an earlier step wrote.

    Raises:
        CnetError: if it is not there; says which step makes it.
    """
    if not path.exists():
        raise CnetError(
            f"{path.parent} has no {what} ({path.name}); run job={step} first, or name the folder "
            "of an earlier run with hydra.run.dir=FOLDER."
        )
    return path


def refuse_source(run: Run, step: str) -> None:
    """Refuse to do again what another run has done already.

    Raises:
        CnetError: if ``source`` names another run.
    """
    if run.config.source is not None:
        raise CnetError(
            f"source={run.config.source} names a run whose trained networks and scans are taken, "
            f"but this job would {step}; choose job=search, or leave source out."
        )


def analog_networks(run: Run) -> list[nn.Module]:
    """The untrained network of each recipe: all are built, and so checked, before any is used.

    Raises:
        CnetError: where one cannot be built, or its compensation does not fit it.
    """
    from cnet_aihw.jobs.build import build_analog, check_compensation_fits

    rpu_configs = [training_config(recipe) for recipe in run.recipes]
    models = [
        build_analog(recipe.config, rpu_config, run.data)
        for recipe, rpu_config in zip(run.recipes, rpu_configs, strict=True)
    ]
    for recipe, model in zip(run.recipes, models, strict=True):
        check_adc_range(model)
        on_crossbars(recipe, model)  # what cannot be measured there says so now
        check_calibration(recipe, model)
        if recipe.compensation.enabled:
            check_compensation_fits(recipe, model, run.data)
    return models


def trained_networks(run: Run) -> Sequence[tuple[Recipe, nn.Module]]:
    """Each recipe with its network, as the step ``train`` left it.

    Raises:
        CnetError: where one was not trained, or on other data or another split of them.
    """
    from cnet_aihw.rram import load_snapshot
    from cnet_aihw.training import load_checkpoint

    for recipe in run.recipes:
        _check_source(run, recipe)
        left_by_earlier_step(run.source_of(recipe) / BEST, "train", "trained weights")
        check_trained_on(run, recipe)
    models = analog_networks(run)
    for recipe, model in zip(run.recipes, models, strict=True):
        load_snapshot(model, load_checkpoint(run.source_of(recipe) / BEST).model)
    return list(zip(run.recipes, models, strict=True))


def _check_source(run: Run, recipe: Recipe) -> None:
    path, source = run.source_of(recipe) / BEST, run.config.source
    if source is not None and not path.exists():
        there = ", ".join(sorted(p.parent.name for p in Path(source).glob(f"*/{BEST}")))
        raise CnetError(
            f"source={source} has no training {recipe.name!r}; "
            + (
                f"it has {there}, so choose one of them with training=NAME."
                if there
                else "name the folder of an earlier run, in which networks were trained."
            )
        )


def check_same_origin(run: Run, recipe: Recipe, found: Mapping[str, Any]) -> None:
    """See that what an earlier step left belongs to the data, network and chips asked for now.

    Args:
        run: the job.
        recipe: a training; its network is built.
        found: what the step wrote, with its `origin`.

    Raises:
        CnetError: names what differs.
    """
    now = origin(run, recipe)
    differs = {
        "data": found["data_fingerprint"] != now["data_fingerprint"],
        "model": found["config"]["model"] != now["config"]["model"],
        "rram": found["config"]["rram"] != now["config"]["rram"],
    }
    for group, different in differs.items():
        if different:
            raise CnetError(
                f"{run.source_of(recipe)} was made with other values of {group} than are given "
                f"now; give those of its own command again: {found['command']}"
            )


def scan_left(run: Run, recipe: Recipe) -> dict[str, Any] | None:
    """What the step ``scan`` found; None where it was not made and is not needed.

    Raises:
        CnetError: where no placement is given, and it was not made, or its candidates are those of
            another threshold or mode.
    """
    _check_source(run, recipe)
    path, given = run.source_of(recipe) / SCANNED, recipe.compensation.placement is not None
    if given and not path.exists():
        return None
    what = "scan of its layers, and compensation.placement is not given"
    found = read_json(left_by_earlier_step(path, "scan", what))
    asked = {"threshold": recipe.compensation.threshold, "mode": recipe.compensation.scan.mode}
    for name, key in (("threshold", "threshold"), ("mode", "scan.mode")):
        if not given and found.get(name, asked[name]) != asked[name]:
            raise CnetError(
                f"{path} names candidates with compensation.{key}={found[name]}, and now it is "
                f"{asked[name]}; run job=scan first, which keeps what it has measured."
            )
    return found


def search_left(run: Run, recipe: Recipe) -> dict[str, Any] | None:
    """The result of the step ``search``; None where nothing was, or is to be, searched.

    Raises:
        CnetError: where another limit, or another kind of compensation, was searched.
    """
    path = run.folder_of(recipe) / SEARCHED
    if not recipe.searches or not path.exists():
        return None
    found = read_json(path)
    searched, asked = found["config"]["compensation"], recipe.config.compensation
    for key in ("limit", "form", "reads", "activation", "kernel_size"):
        if searched[key] != asked[key]:
            raise CnetError(
                f"{path} was searched with compensation.{key}={searched[key]}, and now it is "
                f"{asked[key]}; run job=search first, or give compensation.{key}={searched[key]}."
            )
    result: dict[str, Any] | None = found["result"]
    return result


def compensation_folder(run: Run, recipe: Recipe) -> Path:
    """Where a training's compensation is: in this run, or in its source if only there.

    Where this run searched, its source's is another one.
    """
    here = run.folder_of(recipe)
    own = (here / COMPENSATED).exists() or (here / SEARCHED).exists()
    return here if own else run.source_of(recipe)


def compensation_left(run: Run, recipe: Recipe) -> dict[str, Any] | None:
    """What the step ``compensate`` says of a training; None where it was not asked for.

    Where its ``placement`` is empty there is no compensation, and ``reason`` says why.

    That of a source is taken as it is there, without its values being given again.

    Raises:
        CnetError: where another compensation is asked for now.
    """
    path = compensation_folder(run, recipe) / COMPENSATED
    if not (recipe.compensation.enabled and path.exists()):
        return None
    found, given = read_json(path), recipe.compensation.given_placement()
    own = path.parent == run.folder_of(recipe)
    made, key = found["config"]["compensation"], None
    if own:
        counts = ["form", "reads", "activation", "kernel_size", "fit"]
        counts += ["limit"] if given is None else []
        counts += ["calibration_samples"] if made["fit"]["batchnorm"] == "per_chip" else []
        asked = plain_values(recipe.config.compensation)
        key = difference({k: made[k] for k in counts if k in made}, asked)
    if given is None:
        same = not own or made["placement"] is None
    else:
        same = {n: ratio for n, ratio in given.items() if ratio} == found["placement"]
    key = key if same else "placement"
    if key is not None:
        raise CnetError(
            f"{path} is compensation with another compensation.{key} than is given now; run "
            f"job=compensate in another folder, or give the values of its own command: "
            f"{found['command']}"
        )
    return found


def origin(run: Run, recipe: Recipe) -> dict[str, Any]:
    """What the results of one training come from."""
    from cnet_aihw.jobs.build import make
    from cnet_aihw.rram import label_of

    choices = HydraConfig.get().runtime.choices
    config: Any = OmegaConf.to_container(recipe.config, resolve=True)
    return {
        "training": recipe.name,
        **{group: choices[group] for group in ("data", "model", "rram")},
        "device": label_of(make(recipe.config.rram.rpu_config).noise_model),
        "data_fingerprint": run.data.fingerprint,
        "command": run.command,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("cnet_aihw", "aihwkit", "torch", "numpy")},
        },
        "config": config,
    }
