"""Checks that network, data, limits and times fit each other, in the words of a job."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import nn

from cnet_aihw.evaluation.first_batch import check_first_batch
from cnet_aihw.evaluation.settings import times_of
from cnet_aihw.rram import check_times, has_cells, programmed
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.origin import fault, own_line
from cnet_aihw.tasks import Task
from cnet_aihw.zoo import Dataset


def check_fit(network: nn.Module, data: Dataset, task: Task) -> None:
    """Pass two samples through the network, so that a misfit shows before any work."""
    try:
        check_first_batch(network, data.val, task, classes=data.classes)
    except CnetError as error:
        if error.key != "data":
            raise
        said = error.__cause__ or error
        fix = "mend that line, or choose" if own_line(said) else "choose"
        raise CnetError(
            f"{type(network).__name__} does not take inputs of shape {tuple(data.input_shape)} "
            f"({fault(said, network)}); {fix} another model or data set.",
            key="model",
            value=type(network).__name__,
            expected=f"a network for inputs of shape {tuple(data.input_shape)}",
        ) from error


def try_chip(model: nn.Module, t_inference: float | None) -> None:
    """Program one chip, so that a device of the user that fails shows before any work.

    Raises:
        CnetError: with the line of the user's code, if any.
    """
    if has_cells(model):  # whose weights are to be binary, which training asks for
        return
    try:
        with programmed(model, 0, t_inference=t_inference):
            pass
    except CnetError:
        raise
    except Exception as error:
        what = f"{fault(error)}{'' if str(error) else f' ({type(error).__name__})'}"
        fix = "mend it, or choose another rram"
        raise CnetError(
            f"no chip can be programmed: {what}; {fix}.", key="rram.rpu_config.noise_model", fix=fix
        ) from error


def check_fit_time(config: DictConfig, noise_model: Any) -> None:
    """Check that chips are fitted at a time that the device knows, before any is measured.

    Raises:
        CnetError: names ``compensation.per_chip.at``.
    """
    key = "compensation.per_chip.at"
    at = OmegaConf.select(config, key, default=None)
    if at is None or not config.compensation.enabled or config.compensation.fit != "per_chip":
        return
    try:
        check_times(noise_model, [at])
    except CnetError as error:
        message = str(error).replace("t_inference is", f"{key} is")
        raise CnetError(message, key=key, value=at, expected=error.expected) from error
    earliest = min(time or 0.0 for time in times_of(config.evaluation.t_inference))
    if at > earliest:
        fix = "measure later, or leave it null"
        raise bad_value(key, at, f"at most the first of evaluation.t_inference, {earliest:g}", fix)


@contextmanager
def keys_of_job(group: str, names: Iterable[str]) -> Iterator[None]:
    """Name the keys of the job in errors of settings that a room names without their group.

    Args:
        group: the group of the configuration, such as "tuning".
        names: the settings of it.
    """
    words = "|".join(names)
    pattern = re.compile(rf"(?<![\w.])({words})(?==| is | needs )|(?<=another )({words})\b")
    try:
        yield
    except CnetError as error:
        if error.key is None or not re.fullmatch(words, error.key):
            raise
        message, fix = (
            None if text is None else pattern.sub(rf"{group}.\g<0>", text)
            for text in (str(error), error.fix)
        )
        raise CnetError(
            str(message),
            key=f"{group}.{error.key}",
            value=error.value,
            expected=error.expected,
            fix=fix,
        ) from error


@contextmanager
def limits_of_job() -> Iterator[None]:
    """Name the keys of the job in the error of limits that allow no compensation."""
    try:
        yield
    except CnetError as error:
        if error.key not in ("limit", "limit_macs"):
            raise
        key = f"compensation.{error.key}"
        fix = f"set {key} ({error.expected}), or compensation=none to measure without"
        message = f"{str(error).partition(';')[0]}; {fix}."
        raise CnetError(
            message, key=key, value=error.value, expected=error.expected, fix=fix
        ) from error
