"""Values that cannot be, for every key of conf/: one sentence, or they are taken."""

import copy
import functools
import itertools
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import cnet_aihw
from cnet_aihw.jobs.config_checks import check_rram_config
from cnet_aihw.jobs.nodes import make
from cnet_aihw.jobs.schema import register_schema
from cnet_aihw.jobs.variants import variants_of
from cnet_aihw.runtime.errors import CnetError

CONF = Path(cnet_aihw.__file__).parent.parent / "conf"
VALUES = [
    None, True, "no", "text", "", "a\0b", math.nan, math.inf, -math.inf, -1, 0, 2.5, 10**30, 1e300,
    [], ["a"], {"a": 1},
]  # fmt: skip
GIVEN = {
    "data=arrays": ["data.path=mine.npz"],
    "data=image_folder": ["data.root=images", "data.size=8"],
    "data=custom": ["data._target_=cnet_aihw.zoo.digits"],
    "model=custom": ["model._target_=cnet_aihw.zoo.LeNet5"],
    "model=vgg16": ["model.width=0.1"],
    "rram=measured": ["rram.path=devices.csv"],
}
"""Values that files of conf/ leave to the user."""
NODES = {"compensation/corrector": "compensation.corrector", "search": "search.searcher"}
"""Nodes whose keys depend on a group's option; those of other groups have its name."""
MADE = {
    **{name: name for name in ("data", "model", "task")},
    **{"rram": "rram.rpu_config", "search": "search.searcher"},
    "compensation": "compensation.corrector",
}
"""Groups and the objects that a job makes of them before it computes."""
BASE = "rram=lognormal"
COMPARE = "training.compare"  # composes again, which needs a command line


def options() -> list[str]:
    """All options of the groups that are not typed."""
    groups = ("data", "task", "model", "rram", *NODES)
    return [
        f"{group}={path.stem}"
        for group in groups
        for path in sorted((CONF / group).glob("*.yaml"))
        if f"{group}={path.stem}" != "search=none"
    ]


@functools.cache
def composed(option: str) -> DictConfig:
    register_schema()
    words = ["training=plain", option, *GIVEN.get(option, ())]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose("config", words)
    side = 32 if option == "model=vgg16" else 28
    config.inputs.shape, config.inputs.classes = [1, side, side], 10
    config.inputs.mean, config.inputs.std = [0.0], [1.0]
    return config


def keys_of(node: dict[str, Any], prefix: str) -> Iterator[str]:
    """Dotted keys of a node, those of nested ones too."""
    for name, value in node.items():
        if isinstance(value, dict):
            yield from keys_of(value, f"{prefix}{name}.")
        if name != "_target_":
            yield f"{prefix}{name}"


def keys(option: str) -> list[str]:
    """The keys of an option; of the base option all that have a type, too."""
    config = composed(option)
    group = option.partition("=")[0]
    place = NODES.get(group, group)
    node = OmegaConf.to_container(OmegaConf.select(config, place), resolve=False)
    assert isinstance(node, dict)
    found = list(keys_of(node, f"{place}."))
    if option == BASE:
        whole = OmegaConf.to_container(config, resolve=False)
        assert isinstance(whole, dict)
        untyped = ("data.", "model.", "task.", *(f"{place}." for place in NODES.values()))
        found = [key for key in keys_of(whole, "") if not key.startswith((*untyped, COMPARE))]
    elif group == "rram":  # what all crossbars have is tried with the base option
        standard = OmegaConf.load(CONF / "crossbar" / "standard.yaml")
        node = OmegaConf.to_container(standard, resolve=False)
        assert isinstance(node, dict)
        shared = set(keys_of(node, "rram."))
        found = [key for key in found if key not in shared]
    return found


def cases(option: str) -> list[tuple[str, Any]]:
    return list(itertools.product(keys(option), VALUES))


def outcome(option: str, key: str, value: Any) -> str:
    """Do all that a job does before it computes; the sentence, or "taken"."""
    config = composed(option)
    place, _, name = key.rpartition(".")
    parent = OmegaConf.select(config, place) if place else config
    before = copy.deepcopy(parent._get_node(name))  # updates change the node itself
    try:
        OmegaConf.update(config, key, value, merge=False)
        group = key.split(".")[0]
        if group == "rram":
            check_rram_config(config)
        elif group not in ("data", "model", "task") and not key.startswith("search.searcher."):
            variants_of(config)
        if group in MADE:
            make(OmegaConf.select(config, MADE[group]), MADE[group])
    except (CnetError, HydraException, OmegaConfBaseException) as error:
        return str(error)
    finally:
        parent.__dict__["_content"][name] = before
    return "taken"


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that the configurations refer to."""
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    x, y = np.zeros((40, 8, 8), np.uint8), np.arange(40) % 4
    x[::2] = 9
    np.savez("mine.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    Path("devices.csv").write_text("target,measured\n0,1\n10,11\n")
    for part, name in itertools.product(("train", "test"), "ab"):
        folder = Path("images", part, name)
        folder.mkdir(parents=True)
        for number in range(6):
            Image.new("L", (8, 8), 20 * number).save(folder / f"{number}.png")


def check(option: str, some: list[tuple[str, Any]]) -> None:
    failed = {}
    for key, value in some:
        try:
            outcome(option, key, value)
        except Exception as error:
            failed[f"{option} {key}={value!r}"] = f"{type(error).__name__}: {error}"[:150]
    assert not failed, "\n".join(f"{case}: {error}" for case, error in failed.items())


def test_values_that_cannot_be_are_one_sentence() -> None:
    check(BASE, cases(BASE)[::97])


@pytest.mark.slow
@pytest.mark.parametrize("option", options())
def test_values_of_an_option_that_cannot_be_are_one_sentence(option: str) -> None:
    """Every third pair of key and value, or all of them with CNET_ALL=1 in the environment."""
    step = 1 if os.environ.get("CNET_ALL") else 3
    check(option, cases(option)[len(option) % step :: step])
