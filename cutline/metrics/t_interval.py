"""Student's t-interval of the mean of a few values."""

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import fmean, stdev

from cutline.metrics.significance import CONFIDENCE_LEVEL, Interval

MIN_VALUES = 3
"""with two values, the interval is 13 times as wide as the distance between them"""
_BISECTIONS = 60  # to the precision of floats


def compute_t_interval(values: Sequence[float]) -> Interval | None:
    """Return the 95 % t-interval of the mean of values (Student, 1908); None of fewer than three.

    It assumes independent values of a normal distribution. Of differences between pairs, it is the
    paired t-interval.
    """
    if len(values) < MIN_VALUES:
        return None
    mean = fmean(values)
    margin = find_t_quantile(len(values) - 1) * stdev(values, mean) / math.sqrt(len(values))
    return mean - margin, mean + margin


@lru_cache
def find_t_quantile(degrees: int) -> float:
    """Return t with P(|T| < t) = 95 %, where T has Student's distribution.

    Args:
        degrees: Its degrees of freedom, at least 1.
    """
    low, high = 0.0, math.pi / 2
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if _compute_probability(middle, degrees) < CONFIDENCE_LEVEL:
            low = middle
        else:
            high = middle
    return math.sqrt(degrees) * math.tan(low)


def _compute_probability(angle: float, degrees: int) -> float:
    """Return P(|T| < t) for angle = arctan(t / sqrt(degrees)).

    The sums are those of Abramowitz and Stegun (1964), 26.7.3 for odd and 26.7.4 for even degrees.
    """
    is_odd = degrees % 2
    term, total = math.cos(angle) ** is_odd, 0.0
    for power in range(is_odd, degrees - 1, 2):
        if power > 1:
            term *= (power - 1) / power * math.cos(angle) ** 2
        total += term
    if is_odd:
        return 2 / math.pi * (angle + math.sin(angle) * total)
    return math.sin(angle) * total
