"""Calibration error, reliability and coverage; rank correlation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutline.errors import DataError
from cutline.metrics import (
    compute_calibration_error,
    compute_reliability,
    compute_risk_coverage,
    compute_spearman,
    resample_spearman,
)

EXAMPLES = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]) | st.floats(0, 1), st.booleans()),
    min_size=1,
    max_size=40,
)


def test_the_error_of_an_example() -> None:
    """Two bins: 0.1 is right in 1 of 2, 0.9 in 2 of 2."""
    values, right = [0.9, 0.1, 0.9, 0.1], [True, False, True, True]
    bins = compute_reliability(values, right, 2)
    assert [(each.probability, each.right, each.count) for each in bins] == [
        (pytest.approx(0.1), 0.5, 2),
        (pytest.approx(0.9), 1.0, 2),
    ]
    assert compute_calibration_error(values, right, 2) == pytest.approx((0.4 + 0.1) / 2)


@given(EXAMPLES, st.randoms())
def test_bins_have_equal_mass_and_no_order(
    examples: list[tuple[float, bool]], random: np.random.Generator
) -> None:
    bins = compute_reliability(*zip(*examples, strict=True))
    counts = [each.count for each in bins]
    assert sum(counts) == len(examples)
    assert max(counts) - min(counts) <= 1
    assert len(bins) == min(10, len(examples))
    probabilities = [each.probability for each in bins]
    assert probabilities == pytest.approx(sorted(probabilities))
    total = sum(each.right * each.count for each in bins)
    assert total == pytest.approx(sum(right for _, right in examples))
    random.shuffle(examples)
    error = compute_calibration_error(*zip(*examples, strict=True))
    assert 0 <= error <= 1
    expected = sum(abs(each.probability - each.right) * each.count for each in bins)
    assert error == pytest.approx(expected / len(examples))


@given(EXAMPLES)
def test_coverage_keeps_the_most_probable(examples: list[tuple[float, bool]]) -> None:
    values, right = zip(*examples, strict=True)
    points = compute_risk_coverage(values, right)
    assert [point.coverage for point in points] == pytest.approx([n / 10 for n in range(10, 0, -1)])
    assert points[0].right == pytest.approx(np.mean(right))
    assert points[0].threshold == min(values)
    for point in points:
        assert sum(value >= point.threshold for value in values) >= point.coverage * len(values) - 1
    thresholds = [point.threshold for point in points]
    assert thresholds == sorted(thresholds)


def test_coverage_of_an_example() -> None:
    points = compute_risk_coverage([0.1, 0.5, 0.5, 0.9], [0, 1, 0, 1], [1, 0.5, 0.25])
    assert [point.right for point in points] == [0.5, 0.75, 1.0]
    assert [point.threshold for point in points] == [0.1, 0.5, 0.9]


def test_rank_correlation_of_examples() -> None:
    assert compute_spearman([1, 2, 3], [10, 20, 1000]) == pytest.approx(1)
    assert compute_spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    # R: cor(c(1, 2, 2, 4), c(1, 3, 2, 4), method = "spearman")
    assert compute_spearman([1, 2, 2, 4], [1, 3, 2, 4]) == pytest.approx(0.9486832980505138)
    with pytest.raises(DataError, match="all scores are equal"):
        compute_spearman([1, 1], [1, 2])
    with pytest.raises(DataError, match="two or more"):
        compute_spearman([1, 2], [1])


def test_the_interval_of_a_correlation_covers_it() -> None:
    rng = np.random.default_rng(1)
    first = rng.random(200)
    second = first + 0.5 * rng.random(200)
    samples = resample_spearman(first, second, 200, seed=3)
    low, high = np.quantile(samples, [0.025, 0.975])
    assert low < compute_spearman(first, second) < high
    assert resample_spearman(first, second, 200, seed=3).tolist() == samples.tolist()
    assert len(resample_spearman([1, 2], [1, 2], 50)) < 50
