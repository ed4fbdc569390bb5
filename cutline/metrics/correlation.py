"""Rank correlation of two scores of the same examples."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from cutline.errors import DataError
from cutline.metrics.significance import check_resamples, draw_resamples
from cutline.metrics.stats import Floats


def compute_spearman(first: ArrayLike, second: ArrayLike) -> float:
    """Return Spearman's rank correlation: the correlation of ranks, where ties share a rank.

    Args:
        first: Scores of N examples.
        second: Other scores of them.

    Raises:
        DataError: There are not two of each, or all scores of one kind are equal.
    """
    value = _correlate_ranks(*_check_examples(first, second))
    if np.isnan(value):
        raise DataError("all scores are equal: a rank correlation needs different ones")
    return value


def resample_spearman(
    first: ArrayLike, second: ArrayLike, resamples: int = 1000, seed: int = 0
) -> Floats:
    """Return the rank correlation in each bootstrap resample of the examples.

    Other scores of the same examples have the same resamples. Resamples in which all scores are
    equal are left out. For errors see `compute_spearman`.
    """
    check_resamples(resamples)
    pair = _check_examples(first, second)
    values = np.array(list(_iter_resampled(*pair, resamples, seed)))
    defined: Floats = values[~np.isnan(values)]
    return defined


def _iter_resampled(first: Floats, second: Floats, resamples: int, seed: int) -> Iterator[float]:
    numbers = np.arange(len(first))
    for counts in draw_resamples(np.random.default_rng(seed), len(first), resamples):
        for row in counts:
            drawn = np.repeat(numbers, row.astype(np.int64))
            yield _correlate_ranks(first[drawn], second[drawn])


def _check_examples(first: ArrayLike, second: ArrayLike) -> tuple[Floats, Floats]:
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if one.ndim != 1 or one.shape != other.shape or len(one) < 2:
        raise DataError(f"scores {one.shape} and {other.shape}: give two or more examples of both")
    return one, other


def _correlate_ranks(first: Floats, second: Floats) -> float:
    ranks = [_rank(first), _rank(second)]
    if any(np.ptp(each) == 0 for each in ranks):
        return float("nan")
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _rank(values: Floats) -> Floats:
    """Return ranks from 0; equal values share the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    means = np.cumsum(counts) - (counts + 1) / 2
    ranks: Floats = means[places.reshape(-1)]
    return ranks
