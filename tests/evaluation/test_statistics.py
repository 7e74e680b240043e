"""Statistics over chips against closed forms and scipy.stats."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cnet_aihw.evaluation import (
    AllChipsFailed,
    EvaluationSettings,
    chip_statistics,
    validate_evaluation_settings,
)
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.tasks import Regression


def test_closed_form() -> None:
    """0.1, 0.2, ..., 1.0: mean 0.55, variance 0.0825 * 10/9, the 5 % quantile 0.145."""
    accuracies = [i / 10 for i in range(1, 11)]
    result = chip_statistics(accuracies, threshold=0.8, clean=0.97, reference=0.88, seed=3)
    assert result.scores == tuple(accuracies)
    assert result.chips == 10
    assert result.mean == pytest.approx(0.55, abs=1e-15)
    assert result.std == pytest.approx(math.sqrt(0.0825 * 10 / 9), rel=1e-14)
    assert result.q05 == pytest.approx(0.145, rel=1e-14)  # 0.45 of the way from 0.1 to 0.2
    assert (result.min, result.max) == (0.1, 1.0)
    assert result.yield_ == 0.3  # 0.8 itself counts
    assert result.recovery == pytest.approx(0.625, rel=1e-14)
    assert (result.clean, result.seed) == (0.97, 3)
    t = 2.262157162740  # 97.5 % quantile of Student's t, 9 degrees of freedom
    half = t * math.sqrt(0.0825 * 10 / 9 / 10)
    assert result.ci95 == pytest.approx((0.55 - half, 0.55 + half), rel=1e-9)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=40))
def test_against_numpy_and_scipy(accuracies: list[float]) -> None:
    result = chip_statistics(accuracies)
    assert result.mean == pytest.approx(np.mean(accuracies), abs=1e-12)
    assert result.std == pytest.approx(np.std(accuracies, ddof=1), abs=1e-12)
    assert result.q05 == pytest.approx(np.quantile(accuracies, 0.05), abs=1e-12)
    assert result.ci95 is not None and result.std is not None
    if result.std > 1e-9:
        scale = stats.sem(accuracies)
        expected = stats.t.interval(0.95, len(accuracies) - 1, np.mean(accuracies), scale)
        assert result.ci95 == pytest.approx(expected, abs=1e-9)
    assert result.yield_ is None and result.recovery is None


def test_one_chip_has_no_spread_and_no_nan() -> None:
    result = chip_statistics([0.5], threshold=0.5, reference=1.0)
    assert (result.mean, result.q05, result.min, result.max) == (0.5, 0.5, 0.5, 0.5)
    assert result.std is None and result.ci95 is None
    assert "NaN" not in json.dumps(result.as_record())


def test_record_is_plain_and_complete() -> None:
    record = chip_statistics(
        [0.25, 0.5], threshold=0.4, reference=0.5, t_inference=60.0
    ).as_record()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["scores"] == [0.25, 0.5]
    assert record["yield"] == 0.5 and "yield_" not in record
    assert record["recovery"] == 0.75 and record["t_inference"] == 60.0


def test_for_an_error_less_is_better() -> None:
    """RMSE 0.1, ..., 1.0: the bad tail is at 95 %, the good chips are under the threshold."""
    scores = [i / 10 for i in range(1, 11)]
    result = chip_statistics(scores, task=Regression(), threshold=0.3, reference=0.11)
    assert result.q05 == pytest.approx(0.955, rel=1e-14)
    assert result.yield_ == 0.3
    assert result.recovery == pytest.approx(0.11 / 0.55, rel=1e-14)
    assert (result.metric, result.higher_is_better) == ("RMSE", False)


def test_failed_chips_are_left_out_and_counted() -> None:
    result = chip_statistics([0.5, None, 0.7, None], threshold=0.5)
    assert result.scores == (0.5, None, 0.7, None)
    assert (result.chips, result.failed, result.yield_) == (4, 2, 0.5)
    assert result.mean == pytest.approx(0.6)
    with pytest.raises(AllChipsFailed):
        chip_statistics([None, None])


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"scores": []}, "scores"),
        ({"scores": [0.5], "threshold": 90.0}, "threshold"),
        ({"scores": [0.5], "threshold": -0.1}, "threshold"),
        ({"scores": [0.5], "reference": 0.0}, "reference"),
        ({"scores": [0.5], "reference": 98.0}, "reference"),
        ({"scores": [0.5], "reference": -1.0, "task": Regression()}, "reference"),
    ],
)
def test_mistakes(arguments: dict, key: str) -> None:
    with pytest.raises(CnetError) as error:
        chip_statistics(**arguments)
    assert error.value.key == key


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("chips", 0),
        ("batch_size", -1),
        ("threshold", "0.9"),
        ("t_inference", -1.0),
        ("t_inference", [1.0, float("nan")]),
        ("t_inference", [1.0, 1.0]),
        ("t_inference", []),
        ("calibration", "batch_norm"),
        ("calibration_samples", 1),
    ],
)
def test_settings_name_the_wrong_field(field: str, value: object) -> None:
    validate_evaluation_settings(EvaluationSettings(threshold=0.9, t_inference=[1.0, 86400]))
    with pytest.raises(CnetError) as error:
        validate_evaluation_settings(EvaluationSettings(**{field: value}))  # type: ignore[arg-type]
    assert (error.value.key or "").endswith(field)


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_a_score_that_is_not_finite_is_refused(score: float) -> None:
    """A chip that failed is None; a mean would be lost in silence otherwise."""
    with pytest.raises(CnetError) as error:
        chip_statistics([0.5, score])
    assert error.value.key == "scores"
