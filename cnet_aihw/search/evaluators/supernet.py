"""One compensation fitted for all placements at once, and kept on disk."""

from __future__ import annotations

import shutil
import tempfile
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from cnet_aihw.compensation import (
    CompensatedLayer,
    Compensation,
    CompensationVariant,
    FitSettings,
    Placement,
    compensation_parameters,
    load_compensation,
    save_compensation,
)
from cnet_aihw.compensation.variants import DEFAULT
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.locks import locked
from cnet_aihw.runtime.records import read_json, write_json_atomic
from cnet_aihw.search.evaluators.short_fit import ShortFit, bare, key_of
from cnet_aihw.search.evaluators.supernet_layers import choices_drawn, share_compensation
from cnet_aihw.search.problem import TOLERANCE, PlacementProblem
from cnet_aihw.training.run_identity import TrainingData


class CompensationSupernet:
    """Generators and compensators of which every placement takes the first filters.

    They are fitted once, at each layer's largest ratio, on sampled chips; at each step another
    placement, drawn at random, is in force, which takes the first filters of each layer's (as in
    slimmable and once-for-all networks). How placements are drawn:
    first how many layers get anything, from one to all with equal chances, then which ones, in
    random order; each gets one of its choices above 0 with equal chances, of those with which the
    placement still stays within the problem's limit.

    The fit happens when it is first needed, in one process, while others wait; what it gave is kept
    in ``shared-<key>.safetensors`` (readable by :func:`cnet_aihw.compensation.load_compensation`),
    with what it was in ``shared-<key>.json``. A fit that is killed goes on from its last
    checkpoint and ends as if it had not been killed.

    Args:
        model: trained analog network without compensation; copied.
        data: its parts ``train`` and ``val`` and its augmentation.
        problem: candidate layers, choices, costs and limit; the objective does not matter.
        variant: how generators and compensators are built.
        fit: how to fit; epochs, selection and validation do not count.
        steps: optimizer steps; see :class:`ShortFit` on which samples.
        within_limit: whether only placements within the limit are drawn; if not, one fit serves
            problems of all limits, at the same steps less well.
        folder: where it is kept; None: in memory only.
        device: "auto" (CUDA when there), or any device of torch.
        threads: threads that torch computes with.

    Raises:
        CnetError: for a value that cannot be, or a model that is compensated or programmed.
    """

    def __init__(
        self,
        model: nn.Module,
        data: TrainingData,
        problem: PlacementProblem,
        *,
        variant: CompensationVariant = DEFAULT,
        fit: FitSettings | None = None,
        steps: int = 1200,
        within_limit: bool = True,
        folder: str | Path | None = None,
        device: str | torch.device = "auto",
        threads: int = 1,
    ) -> None:
        self._model: nn.Module | None = bare(model)
        self._fit: ShortFit | None = ShortFit(data, fit or FitSettings(), steps, device, threads)
        self._problem, self._variant, self._within_limit = problem, variant, within_limit
        self._folder = None if folder is None else Path(folder)
        self._fitted: dict[str, Compensation] | None = None
        self._seconds = 0.0

    def key(self) -> str:
        """SHA-256 (hex) of all that determines it."""
        return self._key

    def describe(self) -> dict[str, Any]:
        """The same as plain values."""
        return deepcopy(self._description)

    def seconds(self) -> float:
        """Time that the fit took, over all starts; it is fitted where it was not yet."""
        self.get_ready()
        return self._seconds

    def get_ready(self, progress: bool = False) -> None:
        """Load it, or fit it where that was never done.

        Args:
            progress: whether to show a progress bar of the fit, where stderr is a terminal.

        Raises:
            CnetError: if the folder cannot be written to or holds a damaged file.
            TrainingDiverged: when the fit's loss or weights become NaN or infinite.
        """
        if self._fitted is not None:
            return
        if not any(self._largest.values()):  # digital layers alone leave nothing to fit
            self._fitted = {}
        elif self._folder is None:
            with tempfile.TemporaryDirectory(prefix="cnet-fit-") as folder:
                self._fitted = self._load(self._make(Path(folder), progress))
        else:
            if not self._path.exists():
                with locked(self._folder, self._path.stem):
                    if not self._path.exists():
                        self._make(self._folder, progress)
            self._fitted = self._load(self._path)

    def put_into(self, model: nn.Module) -> None:
        """Give the compensation of a model the first filters of this one's; fits where needed.

        Args:
            model: the network, compensated by any placement on the candidate layers; changed.

        Raises:
            CnetError: for another variant, a layer that is no candidate, or more filters than there
            are.
        """
        if not compensation_parameters(model):
            return
        self.get_ready()
        assert self._fitted is not None
        for name, module in model.named_modules():
            if not isinstance(module, CompensatedLayer):
                continue
            if module.compensation.variant != self._variant:
                raise CnetError(
                    f"the compensation of {name!r} is {module.compensation.variant.label()} and "
                    f"the shared one {self._variant.label()}; give both the same variant."
                )
            count = len(module.compensation.generator.weight)
            shared = self._fitted.get(name)
            if shared is None or count > len(shared.generator.weight):
                raise CnetError(
                    f"the placement gives {name!r} {count} filters where the shared compensation "
                    f"has {0 if shared is None else len(shared.generator.weight)}; it was fitted "
                    "for a problem with other layers, ratios or limit."
                )
            parts = shared.first_filters(count)
            with torch.no_grad():
                for parameter, tensor in module.compensation.named_parameters():
                    tensor.copy_(parts[parameter])

    def __getstate__(self) -> dict[str, Any]:
        """Be fitted before going to another process, and leave the training data at home."""
        self.get_ready()
        _ = self._key
        return {**self.__dict__, "_model": None, "_fit": None}

    def _make(self, folder: Path, progress: bool) -> Path:
        """Fit in a folder and save there; the file's place."""
        assert self._model is not None and self._fit is not None
        path = folder / self._path.name
        model, seed = deepcopy(self._model), self._fit.settings.seed
        wrappers = share_compensation(model, self._largest, self._variant, seed)
        run = folder / path.stem
        with choices_drawn(model, wrappers, self._problem, self._within_limit):
            result = self._fit.run(model, run, progress)
        write_json_atomic(
            path.with_suffix(".json"), {**self._description, "seconds": result.seconds}
        )
        save_compensation(model, path)
        shutil.rmtree(run)
        return path

    def _load(self, path: Path) -> dict[str, Compensation]:
        self._seconds = float(read_json(path.with_suffix(".json"))["seconds"])
        model = load_compensation(deepcopy(cast(nn.Module, self._model)), path)
        return {
            name: module.compensation
            for name, module in model.named_modules()
            if isinstance(module, CompensatedLayer)
        }

    @property
    def _path(self) -> Path:
        return (self._folder or Path()) / f"shared-{self._key}.safetensors"

    @cached_property
    def _largest(self) -> Placement:
        """Each layer's largest ratio that can be drawn; 0 where that is none."""
        problem = self._problem
        largest = {}
        for layer, costs in zip(problem.layers, problem.costs, strict=True):
            largest[layer.name] = max(
                choice
                for choice, cost in zip(problem.choices, costs, strict=True)
                if not isinstance(choice, str)
                and (not self._within_limit or cost <= problem.limit + TOLERANCE)
            )
        return Placement(largest)

    @cached_property
    def _description(self) -> dict[str, Any]:
        assert self._model is not None and self._fit is not None
        problem = self._problem
        return {
            "version": 1,
            "variant": self._variant.label(),
            "layers": [layer.name for layer in problem.layers],
            "choices": list(problem.choices),
            # the limit and what choices cost decide what is drawn, where the limit counts
            "costs": [list(row) for row in problem.costs] if self._within_limit else None,
            "limit": problem.limit if self._within_limit else None,
            "fit": self._fit.describe(self._model),
        }

    @cached_property
    def _key(self) -> str:
        return key_of(self._description)
