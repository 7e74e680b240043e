"""What a job calibrates on each chip before it measures it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnet_aihw.jobs.recipes import Recipe
from cnet_aihw.runtime.errors import CnetError

if TYPE_CHECKING:
    from torch import nn

    from cnet_aihw.evaluation import ChipCalibration
    from cnet_aihw.jobs.pipeline import Run


def check_calibration(recipe: Recipe, model: nn.Module) -> None:
    """See that a network has what is to be calibrated, before it is trained.

    Raises:
        CnetError: for BatchNorm where there is none.
    """
    from cnet_aihw.evaluation.calibration import running_batchnorms

    if recipe.evaluation.calibration == "batchnorm" and not running_batchnorms(model):
        raise CnetError(
            "evaluation.calibration is batchnorm, but the network has no BatchNorm with running "
            "statistics; give affine or none."
        )


def asked_calibration(run: Run, recipe: Recipe) -> ChipCalibration | None:
    """What ``evaluation.calibration`` names; None for none."""
    from cnet_aihw.evaluation import AffineCorrection, BatchNormReestimation

    settings = recipe.evaluation
    if settings.calibration == "none":
        return None
    kind = BatchNormReestimation if settings.calibration == "batchnorm" else AffineCorrection
    return kind(run.data.train.x[: settings.calibration_samples])


def calibration_record(
    run: Run, model: nn.Module, calibration: ChipCalibration | None
) -> dict[str, Any]:
    """What it is called and costs in digital weights, as a share of the network's; for a table."""
    from cnet_aihw.compensation import compensation_disabled, network_cost

    if calibration is None:
        return {"label": None, "overhead_weights": 0.0}
    with compensation_disabled(model):
        weights = network_cost(model, run.data.val.x[:1]).weights
    return {"label": calibration.label(), "overhead_weights": calibration.cost(model) / weights}
