"""Counts of integers."""

import pytest

from cutline.metrics import Histogram


def test_histograms_have_extremes_sum_and_mean() -> None:
    histogram = Histogram.from_values([3, 1, 3])
    assert (histogram.minimum, histogram.maximum) == (1, 3)
    assert (histogram.sum, histogram.count, list(histogram.counts)) == (7, 3, [1, 3])
    assert histogram.mean == pytest.approx(7 / 3)
    empty = Histogram.from_values([])
    assert (empty.minimum, empty.maximum, empty.mean) == (0, 0, 0)
