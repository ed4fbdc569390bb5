"""Platt scaling: calibrated probabilities."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutline.errors import DataError
from cutline.metrics import PlattScaling, compute_calibration_error, fit_platt
from cutline.metrics.platt import smooth_targets

EXAMPLES = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30)


def compute_loss(scaling: PlattScaling, values: list[float], targets: list[float]) -> float:
    smoothed = smooth_targets(np.array(targets))
    predicted = np.array([scaling.apply(value) for value in values])
    clipped = predicted.clip(1e-300, 1 - 1e-16)
    return -float((smoothed * np.log(clipped) + (1 - smoothed) * np.log1p(-clipped)).sum())


def test_a_known_scaling_is_found() -> None:
    rng = np.random.default_rng(0)
    values = rng.random(50_000)
    truth = PlattScaling(0.6, -0.8)
    targets = rng.random(50_000) < [truth.apply(value) for value in values]
    found = fit_platt(values, targets)
    assert (found.slope, found.intercept) == pytest.approx((0.6, -0.8), abs=0.03)
    assert compute_calibration_error([found.apply(value) for value in values], targets) < 0.01


def test_scaling_an_identity() -> None:
    for value in (0.001, 0.3, 0.5, 0.999):
        assert PlattScaling().apply(value) == pytest.approx(value)


@given(EXAMPLES)
def test_the_fit_is_finite_and_a_minimum(examples: list[tuple[float, float]]) -> None:
    values, targets = map(list, zip(*examples, strict=True))
    found = fit_platt(values, targets)
    assert math.isfinite(found.slope)
    assert math.isfinite(found.intercept)
    best = compute_loss(found, values, targets)
    for change in ((0.05, 0.0), (-0.05, 0.0), (0.0, 0.05), (0.0, -0.05)):
        other = PlattScaling(found.slope + change[0], found.intercept + change[1])
        assert compute_loss(other, values, targets) >= best - 1e-6 * len(values)


def test_targets_are_smoothed_as_by_platt() -> None:
    """Also where all are right, or a threshold separates them."""
    assert fit_platt([0.9] * 10, [1] * 10).apply(0.9) == pytest.approx(11 / 12)
    assert smooth_targets(np.array([1.0, 1.0, 0.0])).tolist() == pytest.approx(
        [3 / 4, 3 / 4, 1 / 3]
    )
    separated = fit_platt([0.1] * 5 + [0.9] * 5, [0] * 5 + [1] * 5)
    assert separated.apply(0.1) == pytest.approx(1 / 7)
    assert separated.apply(0.9) == pytest.approx(6 / 7)


@given(st.floats(0, 1), st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_a_scaled_probability_is_one(value: float, slope: float, intercept: float) -> None:
    assert 0 <= PlattScaling(slope, intercept).apply(value) <= 1


@pytest.mark.parametrize(
    ("values", "targets"),
    [([], []), ([0.5], []), ([[0.5]], [[1]]), ([1.5], [1]), ([math.nan], [1]), ([0.5], [-1])],
)
def test_bad_examples_are_refused(values: list[float], targets: list[float]) -> None:
    with pytest.raises(DataError):
        fit_platt(values, targets)
