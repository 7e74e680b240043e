"""The text of `cnet-aihw --help`, from the configuration's own template.

Hydra would make the same text, but copies all configurations once for each group it lists.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf, open_dict


def help_text(config_dir: Path, overrides: Sequence[str]) -> str:
    """Return the help for a command line.

    Args:
        config_dir: where the configuration is.
        overrides: what else the command line says; the values shown are those it composes.

    Raises:
        HydraException: if the overrides do not compose.
    """
    with initialize_config_dir(str(config_dir), version_base="1.3", job_name="cnet-aihw"):
        config = compose("config", list(overrides), return_hydra_config=True)
    template = string.Template(config.hydra.help.template)
    with open_dict(config):
        del config["hydra"]
    return template.safe_substitute(
        APP_CONFIG_GROUPS=_groups(config_dir), CONFIG=OmegaConf.to_yaml(config)
    )


def _groups(config_dir: Path) -> str:
    """One line a group: its options."""
    folders = sorted({path.parent for path in config_dir.glob("*/*.yaml")})
    return "".join(
        f"{folder.name}: {', '.join(sorted(path.stem for path in folder.glob('*.yaml')))}\n"
        for folder in folders
    )
