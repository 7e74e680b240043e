"""A supernet: correctors fitted for all placements at once, and kept on disk."""

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
    DIGITAL,
    PAPER,
    Corrector,
    FitSettings,
    Placement,
    compensated_layers,
    layer_shape,
    load_compensation,
    save_compensation,
)
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.locks import locked
from cnet_aihw.runtime.provenance import provenance_key
from cnet_aihw.runtime.records import read_json, write_json_atomic
from cnet_aihw.runtime.typed import checked
from cnet_aihw.search.evaluators.short_fit import ShortFit, bare
from cnet_aihw.search.evaluators.supernet_layers import build_supernet, choices_drawn
from cnet_aihw.search.problem import PlacementProblem
from cnet_aihw.tasks import Task
from cnet_aihw.training.run_identity import TrainingData

_FIT_SECONDS = 12 * 3600.0  # longest wait for another process that fits the same supernet


class CompensationSupernet:
    """Correctors of which every placement takes a part, fitted once for all placements.

    At each layer stands the corrector of its largest ratio; a smaller one is its first filters (as
    in slimmable and once-for-all networks). They are fitted on sampled chips; at each step another
    placement, drawn at random, is in force. How placements are drawn: first the number of layers
    that get anything, from one to all with equal chances, then which ones, in random order; each
    gets one of its choices above 0 with equal chances, of those with which the placement still
    stays within the problem's limit.

    The fit happens when it is first needed, in one process, while others wait. The result is kept
    in ``supernet-<key>.safetensors`` (readable by
    :func:`cnet_aihw.compensation.load_compensation`), with its description in
    ``supernet-<key>.json``. A fit that is killed resumes from its last checkpoint and ends as if it
    had not been killed.

    Args:
        model: trained analog network without compensation; copied.
        data: its parts ``train`` and ``val`` and its augmentation.
        problem: candidate layers, choices, costs and limit; the objective does not matter.
        corrector: kind of corrector.
        fit: settings of the fit; epochs, selection and validation do not count.
        steps: optimizer steps; see :class:`ShortFit` on which samples.
        within_limit: whether only placements within the limit are drawn; if not, one fit serves
            problems of all limits, at the same steps less well.
        folder: where it is kept; None: in memory only.
        task: loss; None: classification.
        device: "auto", "cpu" or a CUDA device.
        threads: threads that torch computes with.

    Raises:
        CnetError: for an impossible value, or a model that is compensated.
    """

    @checked
    def __init__(
        self,
        model: nn.Module,
        data: TrainingData,
        problem: PlacementProblem,
        *,
        corrector: Corrector = PAPER,
        fit: FitSettings | None = None,
        steps: int = 1200,
        within_limit: bool = True,
        folder: str | Path | None = None,
        task: Task | None = None,
        device: str | torch.device = "auto",
        threads: int = 1,
    ) -> None:
        self._model: nn.Module | None = bare(model)
        self._fit: ShortFit | None = ShortFit(
            data, fit or FitSettings(), steps, task, device, threads
        )
        self._problem, self._corrector, self._within_limit = problem, corrector, within_limit
        self._folder = None if folder is None else Path(folder)
        self._fitted: dict[str, nn.Module] | None = None
        self._seconds = 0.0

    def key(self) -> str:
        """Return the SHA-256 (hex) of all that determines it."""
        return self._key

    def describe(self) -> dict[str, Any]:
        """Return the same as plain values."""
        return deepcopy(self._description)

    def seconds(self) -> float:
        """Return the time that the fit took, over all starts; fits it if that was never done."""
        self.get_ready()
        return self._seconds

    def get_ready(self, progress: bool = False) -> None:
        """Load it, or fit it if that was never done.

        Args:
            progress: whether to show a progress bar of the fit, if stderr is a terminal.

        Raises:
            CnetError: if the folder cannot be written to or holds a damaged file.
            TrainingDiverged: when the fit's loss or weights become NaN or infinite.
        """
        if self._fitted is not None:
            return
        if not (self._corrector.on_crossbar and any(self._largest.values())):  # nothing to fit
            self._fitted = {}
        elif self._folder is None:
            with tempfile.TemporaryDirectory(prefix="cnet-fit-") as folder:
                self._fitted = self._load(self._make(Path(folder), progress))
        else:
            if not self._path.exists():
                with locked(self._folder, self._path.stem, _FIT_SECONDS):
                    if not self._path.exists():
                        self._make(self._folder, progress)
            self._fitted = self._load(self._path)

    def put_into(self, model: nn.Module) -> None:
        """Give the correctors of a model their parts of these; fits the supernet if needed.

        Args:
            model: the network, compensated by any placement on the candidate layers; changed.

        Raises:
            CnetError: for another corrector, a layer that is not a candidate, or more filters than
                the supernet has.
        """
        layers = {
            name: layer
            for name, layer in compensated_layers(model).items()
            if layer.ratio != DIGITAL
        }
        if not layers:
            return
        self.get_ready()
        assert self._fitted is not None
        for name, layer in layers.items():
            if layer.corrector != self._corrector:
                raise CnetError(
                    f"the corrector of {name!r} is {layer.corrector.label()} and the supernet's "
                    f"{self._corrector.label()}; give both the same corrector.",
                    key="corrector",
                    value=layer.corrector.label(),
                    expected=self._corrector.label(),
                )
            largest = self._largest.get(name, 0.0)
            if largest == 0.0 or layer.size > layer.corrector.size(
                layer_shape(layer.base_layer), largest
            ):
                raise CnetError(
                    f"the placement gives {name!r} {layer.ratio} and the supernet has {largest} "
                    "there; it was fitted for a problem with other layers, choices or limits.",
                    key=f"placement.{name}",
                    value=layer.ratio,
                    expected=f"at most {largest}",
                )
            parts = self._corrector.shrink(self._fitted[name], layer.size)
            with torch.no_grad():
                for parameter, tensor in layer.corrector_module.named_parameters():
                    tensor.copy_(parts[parameter])

    def __getstate__(self) -> dict[str, Any]:
        """Fit before going to another process, and leave the training data behind."""
        self.get_ready()
        _ = self._key
        return {**self.__dict__, "_model": None, "_fit": None}

    def _make(self, folder: Path, progress: bool) -> Path:
        """Fit in a folder, save there, and return the file."""
        assert self._model is not None and self._fit is not None
        path = folder / self._path.name
        model, seed = deepcopy(self._model), self._fit.settings.seed
        wrappers = build_supernet(model, self._largest, self._corrector, seed)
        run = folder / path.stem
        with choices_drawn(model, wrappers, self._problem, self._within_limit):
            result = self._fit.run(model, run, progress)
        write_json_atomic(
            path.with_suffix(".json"), {**self._description, "seconds": result.seconds}
        )
        save_compensation(model, path)
        shutil.rmtree(run)
        return path

    def _load(self, path: Path) -> dict[str, nn.Module]:
        self._seconds = float(read_json(path.with_suffix(".json"))["seconds"])
        model = load_compensation(deepcopy(cast(nn.Module, self._model)), path)
        return {n: layer.corrector_module for n, layer in compensated_layers(model).items()}

    @property
    def _path(self) -> Path:
        return (self._folder or Path()) / f"supernet-{self._key}.safetensors"

    @cached_property
    def _largest(self) -> Placement:
        """Largest ratio of each layer that can be drawn; 0 if none can."""
        problem = self._problem
        largest = {}
        for index, layer in enumerate(problem.layers):
            largest[layer.name] = [  # the last one: choices ascend
                choice
                for choice, fits in zip(problem.choices, problem.within((), index), strict=True)
                if choice != DIGITAL and (fits or not self._within_limit)
            ][-1]
        return Placement(largest)

    @cached_property
    def _description(self) -> dict[str, Any]:
        assert self._model is not None and self._fit is not None
        problem = self._problem
        return {
            "version": 3,
            "corrector": self._corrector.describe(),
            "layers": [layer.name for layer in problem.layers],
            "choices": list(problem.choices),
            # the limits and what choices cost decide what is drawn, where the limits count
            "limits": problem.limits if self._within_limit else None,
            "fit": self._fit.describe(self._model),
        }

    @cached_property
    def _key(self) -> str:
        return provenance_key(self._description)
