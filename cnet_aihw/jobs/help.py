"""The text of `cnet-aihw --help`, from the configuration's own template.

Hydra would make the same text, but copies all configurations once for each group it lists.
"""

from __future__ import annotations

import string
from pathlib import Path

from omegaconf import OmegaConf


def help_text(config_dir: Path) -> str:
    """Return the help: the template of config.yaml with the groups of its defaults list.

    Args:
        config_dir: where the configuration is.
    """
    config = OmegaConf.load(config_dir / "config.yaml")
    names = [name for entry in config.defaults if not isinstance(entry, str) for name in entry]
    template = string.Template(config.hydra.help.template)
    return template.safe_substitute(
        APP_CONFIG_GROUPS="\n".join(_group(config_dir, name) for name in names)
    )


def _group(config_dir: Path, name: str) -> str:
    """One line: a group's options."""
    options = sorted(path.stem for path in (config_dir / name).glob("*.yaml"))
    return f"  {name}: {', '.join(options)}"
