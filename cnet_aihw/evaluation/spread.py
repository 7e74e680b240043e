"""Chips on worker processes of Ray, in any order; without workers, one after the other here."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import nn

from cnet_aihw.cluster.settings import RaySettings, validate_ray_settings
from cnet_aihw.evaluation.chip_run import MeasuredChip, walk_chips
from cnet_aihw.evaluation.measurement import Measurement
from cnet_aihw.runtime.device_parts import placed
from cnet_aihw.runtime.parts import Part
from cnet_aihw.runtime.torch_device import moved_to, resolve_device


class Work(Protocol):
    """Does one task after the other; each worker has a copy."""

    model: nn.Module

    def __call__(self, task: Any, /) -> Any:
        """Return the result of a task."""


class OnDevice:
    """Model and data of a work, on the device of the process that has them.

    Args:
        model: converted model, on the device.
        part: the data, wherever it lies.
        device: the device; in another process it is the first one of its kind there.
    """

    def __init__(self, model: nn.Module, part: Part, device: torch.device) -> None:
        self.model, self.device = model, device
        self._part = part
        self._placed: Part | None = None

    def part(self) -> Part:
        """Return the part on the device, where the model is then too."""
        if self._placed is None:
            self.device = resolve_device(self.device)
            self.model.to(self.device)
            self._placed = placed(self._part, self.device)
        return self._placed

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what lies on the device of this process."""
        kind = torch.device(self.device.type)
        return {**self.__dict__, "_placed": None, "device": kind}


class ChipWork(OnDevice):
    """Measures one chip, given by its number and its time, as ``walk_chips`` does.

    Args:
        model: as there.
        part: the data, wherever it lies.
        device: where it is measured.
        measurement: what is done on each chip.
        options: the other arguments of ``walk_chips``.
    """

    def __init__(
        self,
        model: nn.Module,
        part: Part,
        device: torch.device,
        measurement: Measurement,
        **options: Any,
    ) -> None:
        super().__init__(model, part, device)
        self._measurement, self._options = measurement, options

    def __call__(self, task: tuple[int, float | None]) -> MeasuredChip:
        """Measure a chip."""
        part = self.part()
        (found,) = walk_chips(self.model, part, self._measurement, [task], **self._options)
        return found


@contextmanager
def spread(
    work: Work, tasks: Collection[Any], ray: RaySettings | None, name: str
) -> Iterator[Iterator[tuple[Any, Any]]]:
    """Have tasks done by worker processes, which start with the block.

    Args:
        work: does a task, here or in a worker.
        tasks: the tasks.
        ray: where Ray runs, and how many workers; None or no workers: all is done here.
        name: what the workers' names on the dashboard begin with.

    Yields:
        An iterator over tasks and results: those of workers as they are done.

    Raises:
        CnetError: as :class:`~cnet_aihw.cluster.Workers`.
    """
    if ray is None or not on_workers(ray, tasks):
        yield ((task, work(task)) for task in tasks)
        return
    from cnet_aihw.cluster.workers import Workers  # needs Ray

    settings = replace(ray, workers=min(ray.workers, len(tasks)))
    with ExitStack() as stack:
        with moved_to(work.model, torch.device("cpu")):  # from where it is sent
            workers = stack.enter_context(Workers(work, settings, name, "measurement"))
        yield workers.results(tasks)


def on_workers(ray: RaySettings | None, tasks: Collection[Any]) -> bool:
    """Say whether workers do the tasks; one task alone is done here."""
    return ray is not None and ray.workers > 0 and len(tasks) > 1


def check_workers(ray: RaySettings | None, device: torch.device) -> None:
    """Check the settings of Ray for measurements on a device.

    Raises:
        CnetError: for values that cannot be, and for workers on CUDA without a share of a GPU.
    """
    if ray is None:
        return
    validate_ray_settings(ray)
    if ray.workers and device.type == "cuda":
        from cnet_aihw.cluster.machine import check_share

        check_share(ray)
