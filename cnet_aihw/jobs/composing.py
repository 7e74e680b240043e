"""Which trainings a command line asks for, and the configuration of each."""

from __future__ import annotations

from typing import cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from cnet_aihw.jobs.messages import one_sentence
from cnet_aihw.runtime.errors import CnetError, bad_value


def compared(config: DictConfig) -> list[str]:
    """Return the names of the trainings that are compared; none for a single one.

    Raises:
        CnetError: if none is named, and the file that was chosen has no training of its own.
    """
    names = list(config.training.compare)
    if not HydraConfig.initialized():
        return names
    typed = [word.partition("=")[0].lstrip("+") for word in typed_words()]
    alone = "training" in typed and "training.compare" not in typed
    if names and not alone:
        return names
    node = HydraConfig.get()
    if (choice := node.runtime.choices.get("training")) is None:
        return names
    of_file = list(_composed(node.job.config_name, [f"training={choice}"]).training.compare)
    if of_file and not alone:
        raise bad_value(
            "training.compare",
            [],
            f"at least one training, as training={choice} has none of its own",
            "name some, or give training=plain",
        )
    return of_file


def compose_with(training: str) -> DictConfig:
    """Return the configuration of the command line with one training in place of several.

    Raises:
        CnetError: for an unknown training, or one that itself compares several.
    """
    node = HydraConfig.get()
    name, chosen = node.job.config_name, f"training={training}"
    replaced = ("training", "training.compare")
    kept = [text for text in typed_words() if text.partition("=")[0] not in replaced]
    config = _composed(name, [*kept, chosen])
    # An experiment may set it too, which does not count; the file by itself decides.
    if config.training.compare and _composed(name, [chosen]).training.compare:
        raise CnetError(
            f"training.compare names {training!r}, which itself compares several trainings; "
            "name single ones.",
            key="training.compare",
            value=training,
            expected="single trainings",
        )
    return config


def typed_words() -> list[str]:
    """Return the words of the command line as they were typed, references unresolved."""
    words = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    return cast(list[str], words)


def _composed(name: str | None, words: list[str]) -> DictConfig:
    """Return a composed configuration."""
    try:
        return hydra.compose(name, words)
    except HydraException as error:
        raise CnetError(one_sentence(error), key="training.compare") from error
