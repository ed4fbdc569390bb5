"""Student's t-interval of a mean."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutline.metrics import compute_t_interval
from cutline.metrics.t_interval import find_t_quantile

VALUES = st.lists(st.floats(-100, 100), min_size=3, max_size=8)


@pytest.mark.parametrize(
    ("degrees", "quantile"),
    # two-sided 5 %, from the table that textbooks print
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (10, 2.228), (120, 1.980)],
)
def test_quantiles_are_those_of_the_table(degrees: int, quantile: float) -> None:
    assert find_t_quantile(degrees) == pytest.approx(quantile, abs=5e-4)


def test_interval_by_hand() -> None:
    # mean 2, standard deviation 1, standard error 1 / sqrt 3
    margin = 4.302653 / math.sqrt(3)
    assert compute_t_interval([1, 2, 3]) == pytest.approx((2 - margin, 2 + margin), abs=1e-6)
    assert compute_t_interval([3, 3, 3, 3]) == (3, 3)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0]])
def test_fewer_than_three_values_have_no_interval(values: list[float]) -> None:
    assert compute_t_interval(values) is None


@given(VALUES, st.floats(-10, 10), st.floats(-100, 100))
def test_interval_scales_and_shifts_with_the_values(
    values: list[float], scale: float, shift: float
) -> None:
    interval = compute_t_interval(values)
    moved = compute_t_interval([scale * value + shift for value in values])
    assert interval is not None
    assert moved == pytest.approx(sorted(scale * bound + shift for bound in interval), abs=1e-6)


def test_19_of_20_intervals_contain_the_mean() -> None:
    draws = np.random.default_rng(0).normal(7, 3, (2000, 5))
    intervals = [compute_t_interval(row) for row in draws.tolist()]
    contained = [interval[0] < 7 < interval[1] for interval in intervals if interval]
    # standard error of the share: 0.5 %
    assert sum(contained) / 2000 == pytest.approx(0.95, abs=0.015)
