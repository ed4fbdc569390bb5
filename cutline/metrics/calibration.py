"""How well probabilities say how often they are right: calibration, and what a threshold keeps."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cutline.metrics.platt import check_probabilities
from cutline.metrics.stats import Floats

NUM_BINS = 10
COVERAGES = tuple(percent / 100 for percent in range(100, 0, -10))


@dataclass(frozen=True)
class ReliabilityBin:
    """Examples of similar probability."""

    probability: float
    """their mean probability"""
    right: float
    """share of them that is right"""
    count: int


@dataclass(frozen=True)
class CoveragePoint:
    """What is accepted if only the most probable examples are."""

    coverage: float
    """share of the examples that is accepted"""
    threshold: float
    """the lowest probability among them"""
    right: float
    """share of them that is right"""


def compute_reliability(
    probabilities: ArrayLike, targets: ArrayLike, num_bins: int = NUM_BINS
) -> list[ReliabilityBin]:
    """Return bins of as many examples each, by probability; their sizes differ by one at most.

    Examples of equal probability count with their mean target, so that their order has no effect.

    Args:
        probabilities: Of N examples, from 0 to 1.
        targets: Whether each is right, or how much of it is, from 0 to 1.
        num_bins: Number of bins; there are fewer of fewer examples.

    Raises:
        DataError: As for `fit_platt`.
    """
    values, right = _sort_examples(probabilities, targets)
    parts = np.array_split(np.arange(len(values)), min(num_bins, len(values)))
    return [
        ReliabilityBin(float(values[part].mean()), float(right[part].mean()), len(part))
        for part in parts
    ]


def compute_calibration_error(
    probabilities: ArrayLike, targets: ArrayLike, num_bins: int = NUM_BINS
) -> float:
    """Return the expected calibration error (ECE) over bins of as many examples each.

    It is the mean distance between the probability of a bin and its share of right examples, each
    bin with the weight of its examples (Naeini et al., 2015; Guo et al., 2017, arXiv 1706.04599),
    with the bins of Nixon et al., 2019 (arXiv 1904.01685). For arguments and errors see
    `compute_reliability`.
    """
    bins = compute_reliability(probabilities, targets, num_bins)
    total = sum(each.count for each in bins)
    return sum(each.count / total * abs(each.probability - each.right) for each in bins)


def compute_risk_coverage(
    probabilities: ArrayLike, targets: ArrayLike, coverages: Sequence[float] = COVERAGES
) -> list[CoveragePoint]:
    """Return the share of right examples among the most probable ones, for each coverage.

    This is selective prediction (Geifman and El-Yaniv, 2017, arXiv 1705.08500); its risk is
    1 - `right`. Examples of equal probability count with their mean target. For arguments and
    errors see `compute_reliability`.
    """
    values, right = _sort_examples(probabilities, targets)
    points = []
    for coverage in coverages:
        start = len(values) - max(1, round(coverage * len(values)))
        points.append(CoveragePoint(coverage, float(values[start]), float(right[start:].mean())))
    return points


def _sort_examples(probabilities: ArrayLike, targets: ArrayLike) -> tuple[Floats, Floats]:
    """Return both by ascending probability, with the mean target of each probability."""
    values, right = check_probabilities(probabilities, targets)
    values, places = np.unique(values, return_inverse=True)
    counts = np.bincount(places.reshape(-1))
    means = np.bincount(places.reshape(-1), right) / counts
    return np.repeat(values, counts), np.repeat(means, counts)
