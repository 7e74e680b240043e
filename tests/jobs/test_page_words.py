"""Every command of the pages can be read: its groups, options and keys exist."""

import re
import shlex
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from cnet_aihw.jobs.schema import register_schema

ROOT = Path(__file__).parent.parent.parent
CONF = ROOT / "conf"
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
OWN = ("rram=my_device", "rram=window")
"""Options of files that the pages write."""


@pytest.fixture(scope="module")
def base() -> DictConfig:
    register_schema()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("config")


def commands() -> list[str]:
    found = []
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            lines = (line.split("#")[0].strip() for line in block.splitlines())
            found += [line for line in lines if line.startswith("cnet-aihw")]
    return found


def known_keys(words: list[str]) -> set[str]:
    """Dotted keys of the chosen files, and of the files that an experiment chooses."""
    found: set[str] = set()
    for word in words:
        group, _, options = word.partition("=")
        for option in options.split(","):
            path = CONF / group / f"{option}.yaml"
            if path.exists():
                content = OmegaConf.to_container(OmegaConf.load(path))
                assert isinstance(content, dict)
                inner = [entry for entry in content.get("defaults", ()) if isinstance(entry, dict)]
                chosen = [f"{k.split('/')[-1]}={v}" for entry in inner for k, v in entry.items()]
                found |= known_keys([word for word in chosen if "@" not in word])
                found |= set(dotted(content, f"{group.replace('/', '.')}."))
    return found


def dotted(node: dict[str, Any], prefix: str) -> list[str]:
    inner = [
        key for n, v in node.items() if isinstance(v, dict) for key in dotted(v, f"{prefix}{n}.")
    ]
    return [*(f"{prefix}{name}" for name in node), *inner]


def test_the_groups_options_and_keys_of_every_command_exist(base: DictConfig) -> None:
    some = commands()
    assert len(some) > 70
    parser = OverridesParser.create()
    for command in some:
        words = [word for word in shlex.split(command)[1:] if "=" in word and word[0] != "-"]
        own = known_keys(words)
        for word in words:
            parser.parse_override(word)
            key, _, value = word.partition("=")
            if word in OWN or key[0] == "+" or key == "run" or key.startswith("hydra"):
                continue
            if (CONF / key).is_dir():
                for option in value.split(","):
                    assert (CONF / key / f"{option}.yaml").exists(), command
                continue
            place, _, name = key.rpartition(".")
            node = OmegaConf.select(base, place) if place else base
            in_base = OmegaConf.is_dict(node) and name in node
            assert in_base or key in own or "--config-dir" in command, (command, key)
