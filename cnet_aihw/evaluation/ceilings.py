"""Ceiling of compensation: what a network reaches when all layers that it can correct are exact."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

import torch
from aihwkit.inference.noise.base import BaseNoiseModel
from torch import nn

from cnet_aihw.evaluation.chip_run import measure_clean, measuring, walk_chips
from cnet_aihw.evaluation.first_batch import check_first_batch
from cnet_aihw.evaluation.measurement import Score
from cnet_aihw.evaluation.settings import EvaluationSettings, validate_evaluation_settings
from cnet_aihw.evaluation.statistics import chip_statistics
from cnet_aihw.rram import analog_layers
from cnet_aihw.runtime.device_parts import placed
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.parts import as_part
from cnet_aihw.runtime.torch_device import resolve_device
from cnet_aihw.runtime.typed import checked
from cnet_aihw.tasks import Classification, Task

REACHED = 0.95
"""Share of the plain network's clean score that the method promises."""


@dataclass(frozen=True)
class Ceiling:
    """Scores that no compensation of the given layers can pass, as a rule."""

    clean: float
    """Clean score of the network."""

    exact: float
    """Mean score over chips with the layers that can be compensated exact, all others as on the
    chips; the clean score where no other layer is on a crossbar."""

    reference: float
    """Clean score of the plain network."""

    share_clean: float | None
    """How much of ``reference`` the clean score keeps, as the task says; an accuracy divided."""

    share_exact: float | None
    """How much of it ``exact`` keeps."""

    chips: int
    """Number of chips."""

    left_out: tuple[str, ...]
    """Layers that stay as they are on the chips."""

    metric: str = "accuracy"
    """Name of the score."""

    @property
    def share(self) -> float | None:
        """Smaller of both shares: the ceiling."""
        shares = (self.share_clean, self.share_exact)
        return min((share for share in shares if share is not None), default=None)

    @property
    def reached(self) -> bool | None:
        """Whether 95 % can be reached; None where shares have no meaning."""
        return None if self.share is None else self.share >= REACHED

    def as_record(self) -> dict[str, Any]:
        """Return plain values, the ceiling and what it says among them."""
        record = {**asdict(self), "left_out": list(self.left_out)}
        return {**record, "share": self.share, "sentence": self.sentence()}

    def sentence(self) -> str:
        """Return one sentence: the ceiling and, under 95 %, the part at fault."""
        if self.share is None:
            return f"with exact layers the {self.metric} is {self.exact:.4g}"
        text = f"at most {100 * self.share:.1f} % of the plain network's clean {self.metric}"
        if self.reached:
            return f"compensation of these layers can reach {text}"
        if self.share_clean is not None and self.share_clean < REACHED:
            fault = "the network itself, whose training cost too much without any variation"
        else:
            fault = f"the layers left as they are on the chip ({', '.join(self.left_out)})"
        return f"compensation of these layers can reach {text}; at fault is {fault}"


@checked
def ceiling(
    model: nn.Module,
    data: Any,
    layers: Collection[str],
    *,
    reference: float | None = None,
    task: Task | None = None,
    chips: int = 3,
    seed: int = 0,
    batch_size: int = 250,
    noise_model: BaseNoiseModel | None = None,
    t_inference: float | None = None,
    device: str | torch.device = "auto",
) -> Ceiling:
    """Measure a network with some layers exact, before any placement among them is searched.

    A corrector that gives a layer back entirely could do no better: the layers that it has no part
    in still vary. It is not a bound in the strict sense, as a later corrector can mend what an
    earlier layer spoils.

    Args:
        model: trained analog network, without compensation.
        data: inputs and targets of the validation part.
        layers: the layers that can be compensated.
        reference: clean score of the plain network; None: of this one.
        task: loss and score; None: classification.
        chips: number of chips.
        seed: seed of the chips' seeds.
        batch_size: samples of a forward pass.
        noise_model: noise model of the chips; None: the model's own.
        t_inference: seconds between programming and measuring; None: just programmed.
        device: "auto", "cpu" or a CUDA device.

    Returns:
        The ceiling.

    Raises:
        CnetError: for impossible arguments, and a layer that is not on a crossbar.
    """
    validate_evaluation_settings(EvaluationSettings(chips, seed, batch_size, None, t_inference))
    task = task or Classification()
    analog = analog_layers(model)
    for name in layers:
        if name not in analog:
            raise CnetError(
                f"the layer {name!r} is not on a crossbar; those that are: {', '.join(analog)}.",
                key="layers",
                value=name,
                expected=tuple(analog),
            )
    left_out = tuple(name for name in analog if name not in set(layers))
    where, measurement = resolve_device(device), Score(task)
    with measuring(model, where):
        part = placed(as_part(data), where)
        check_first_batch(model, part, task)
        clean = exact = measure_clean(model, part, measurement, seed, batch_size)["score"]
        if left_out:
            measured = walk_chips(
                model,
                part,
                measurement,
                [(chip, t_inference) for chip in range(chips)],
                seed=seed,
                batch_size=batch_size,
                noise_model=noise_model,
                layers=left_out,
            )
            scores = [None if m.failed else m.values["score"] for m in measured]
            exact = chip_statistics(scores, task=task).mean
    reference = clean if reference is None else reference
    shares = task.recovery(clean, reference), task.recovery(exact, reference)
    return Ceiling(clean, exact, reference, *shares, chips, left_out, task.metric)
