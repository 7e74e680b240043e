"""Accuracy of compensated chips over time: fitted once, on a schedule, or in vectors alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from aihwkit.inference.noise.base import BaseNoiseModel
from torch import Tensor, nn

from cnet_aihw.compensation.affine import AffineModule
from cnet_aihw.compensation.closed_form import fit_linear, rows_of
from cnet_aihw.compensation.layer_passes import closed_form_layers
from cnet_aihw.compensation.low_rank import LowRankModule
from cnet_aihw.compensation.modules import along_channels
from cnet_aihw.compensation.moments import Moments
from cnet_aihw.compensation.per_chip import PerChipFit
from cnet_aihw.compensation.with_compensation import WithCompensation
from cnet_aihw.compensation.wrapping import CompensatedLayer, compensation_parameters
from cnet_aihw.evaluation.chip_run import check_times_known, measuring
from cnet_aihw.evaluation.measurement import Score
from cnet_aihw.evaluation.settings import times_of
from cnet_aihw.rram import programmed
from cnet_aihw.runtime.device_parts import placed
from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.runtime.parts import as_part
from cnet_aihw.runtime.random_state import derive_seed, seed_random_state
from cnet_aihw.runtime.torch_device import device_of
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import MOST_CHIPS, check_count
from cnet_aihw.tasks import Task


class VectorFit(PerChipFit):
    """Fit to the chip the vectors of correctors alone; their filters stay (as VeRA+ over drift).

    Scale and offset of ``LowRank`` and ``Affine`` are fitted by least squares to what the filters
    leave, and the vectors of ``Vera`` are refined, with ``refine_steps``. Afterwards all is as
    before, as with :class:`PerChipFit`, whose arguments it takes.

    Source: vectors per drift level: arXiv 2603.26016; in closed form: ours.
    """

    def label(self) -> str:
        """Return a short name for tables and records."""
        return "vectors " + super().label()

    def _layers(self, model: nn.Module) -> dict[str, CompensatedLayer]:
        return {
            name: layer
            for name, layer in closed_form_layers(model).items()
            if isinstance(layer.corrector_module, LowRankModule | AffineModule)
        }

    def _refined(self, model: nn.Module) -> list[nn.Parameter]:
        return [p for p in compensation_parameters(model).values() if p.dim() == 1]

    def _moments(self, layer: CompensatedLayer) -> Moments:
        return Moments()

    def _add(
        self, moments: Moments, layer: CompensatedLayer, x: Tensor, y: Tensor, wanted: Tensor
    ) -> None:
        module: Any = layer.corrector_module
        scale, offset = (along_channels(v, y, module.dims) for v in (module.scale, module.offset))
        filters = module(x, y) - (y * scale + offset)
        rows = rows_of(y, module.dims)
        moments.add(rows[:, :0], rows, rows_of(wanted.to(y.dtype) - filters, module.dims))

    def _put(self, name: str, layer: CompensatedLayer, moments: Moments) -> None:
        module: Any = layer.corrector_module
        fit = self.fits[name] = fit_linear(moments, len(module.scale), 0)
        module.scale.copy_(fit.scale)
        module.offset.copy_(fit.offset)


@checked
def accuracy_over_time(
    model: nn.Module,
    data: Any,
    times: Sequence[float],
    calibration: WithCompensation | PerChipFit,
    *,
    fits: Sequence[float] = (0.0,),
    vectors: Sequence[float] = (),
    chips: int = 5,
    seed: int = 0,
    batch_size: int = 250,
    task: Task | None = None,
    noise_model: BaseNoiseModel | None = None,
) -> list[dict[str, Any]]:
    """Measure each chip at several times after programming, with correctors fitted when it is due.

    One time in ``fits`` is a fit once; several are a schedule. A fit starts from scratch; at the
    times in ``vectors`` only scales and offsets (or VeRA's vectors) of the last fit are fitted
    again. Chips, and the draws on each, are those of
    :func:`~cnet_aihw.evaluation.evaluate_chips`; afterwards the model is as before.

    Args:
        model: a plain converted model for :class:`WithCompensation`, a compensated one for
            :class:`PerChipFit`, measured where it is.
        data: inputs and targets, as :func:`~cnet_aihw.runtime.parts.as_part` takes them.
        times: seconds after programming at which chips are measured.
        calibration: the fit.
        fits: seconds after programming at which all of it is fitted.
        vectors: seconds at which the vectors alone are.
        chips: number of chips.
        seed: seed of the chips' seeds.
        batch_size: samples a forward pass takes at once.
        task: loss and score; None: classification.
        noise_model: noise model of the chips; None: the model's own.

    Returns:
        A record for each chip and time, in this order: ``chip``, ``seed``, ``t_inference``,
        ``score``, ``loss``, ``fitted_at``, ``vectors_at`` (None before any), and ``calibration``:
        cost of all fits of this chip so far (``images``, ``passes``, ``clean_passes``,
        ``seconds``; images of each fit count).

    Raises:
        CnetError: if a chip is to be measured, or its vectors fitted, before its first fit, or the
            noise model does not know its device at a time.
    """
    check_count("chips", chips, most=MOST_CHIPS)
    check_count("batch_size", batch_size)
    fits, vectors = list(fits), list(vectors)
    asked = {"times": times, "fits": fits, "vectors": vectors or (max(fits, default=0.0),)}
    planned = {
        name: sorted(t for t in times_of(list(given)) if t is not None)
        for name, given in asked.items()
    }
    for name in ("times", "vectors"):
        if planned[name][0] < planned["fits"][0]:
            first = planned["fits"][0]
            raise bad_value(name, planned[name][0], f"no time before the first fit at {first:g} s")
    check_times_known(model, noise_model, {t for given in planned.values() for t in given})
    device, measurement = device_of(model), Score(task)
    part = placed(as_part(data), device)
    fit = calibration.fit if isinstance(calibration, WithCompensation) else calibration
    if fit.settings.at is not None:
        raise bad_value("calibration", f"fitted at {fit.settings.at:g} s", "a fit without a time")
    again = VectorFit.of(fit.settings, fit.x, fit.task)
    records = []
    with measuring(model, device):
        for chip in range(chips):
            chip_seed, spent = derive_seed(seed, chip), dict.fromkeys(_COST, 0.0)
            for start, events in _segments(planned["fits"], sorted(vectors), planned["times"]):
                vectors_at = None
                with ExitStack() as fitted:
                    for t, kind in events:
                        fitting = programmed(model, chip_seed, noise_model, t)
                        if kind == "measure":
                            with fitting:
                                seed_random_state(derive_seed(chip_seed, "read noise"), device)
                                values = measurement(model, part, batch_size)
                            records.append(
                                {
                                    "chip": chip, "seed": chip_seed, "t_inference": t, **values,
                                    "fitted_at": start, "vectors_at": vectors_at,
                                    "calibration": dict(spent),
                                }
                            )  # fmt: skip
                            continue
                        used = again if kind == "vectors" else calibration
                        vectors_at = t if kind == "vectors" else None
                        with fitting:
                            seed_random_state(derive_seed(chip_seed, "calibration"), device)
                            fitted.enter_context(used(model))
                        for name, value in asdict(used.spent).items() if used.spent else ():
                            spent[name] += value
    return records


_COST = ("images", "passes", "clean_passes", "seconds")


def _segments(
    fits: Sequence[float], vectors: Sequence[float], times: Sequence[float]
) -> Iterator[tuple[float, list[tuple[float, str]]]]:
    """Yield each fit's time and what is done until the next one, in the order of time."""
    ends = [*fits[1:], float("inf")]
    for start, end in zip(fits, ends, strict=True):
        events = [(start, 0, "fit")]
        events += [(t, 1, "vectors") for t in vectors if start < t < end]
        events += [(t, 2, "measure") for t in times if start <= t < end]
        if any(kind == "measure" for _, _, kind in events):
            yield start, [(t, kind) for t, _, kind in sorted(events)]
