"""Confidence intervals of scores, and tests of their differences, by resampling images.

A resample is scored as a corpus: the statistics of its images are summed. CIDEr keeps the document
frequencies of the original corpus.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from cutline.errors import ConfigError
from cutline.metrics.stats import CorpusStats, Floats, compute_scores

Interval = tuple[float, float]
CONFIDENCE_LEVEL = 0.95
"""confidence level of the intervals"""
# Resamples are processed in chunks: matrices with a row per resample and a column per image.
_MAX_ROWS = 250
_MAX_CELLS = 2**22  # 32 MB


@dataclass(frozen=True)
class Difference:
    """The scores of two captioners by one metric, on the same images."""

    first: float
    """score of the first captioner"""
    second: float
    """score of the second captioner"""
    interval: Interval
    """95 % bootstrap interval of `second - first`"""
    p_value: float
    """two-sided: probability of a difference at least this large by chance alone"""

    @property
    def value(self) -> float:
        """Return the difference, `second - first`."""
        return self.second - self.first


def check_resamples(resamples: int) -> None:
    """Raise ConfigError unless there is at least one resample."""
    if resamples < 1:
        raise ConfigError(f"resamples must be at least 1, not {resamples}")


def bootstrap_intervals(
    stats: CorpusStats, resamples: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """Return the 95 % percentile interval of each score.

    The method is that of Efron and Tibshirani (1993, chapter 13), and of Koehn (2004) for texts.

    Raises:
        ConfigError: `resamples` is below 1.
    """
    check_resamples(resamples)
    rng = np.random.default_rng(seed)
    chunks = draw_resamples(rng, len(stats), resamples)
    scores = _concatenate(_score_resamples(stats, counts) for counts in chunks)
    return {name: percentile_interval(values) for name, values in scores.items()}


def compare_stats(
    first: CorpusStats, second: CorpusStats, resamples: int = 10_000, seed: int = 0
) -> dict[str, Difference]:
    """Compare the scores of two captioners on the same images with the same references.

    The interval is that of a paired bootstrap (Koehn, 2004): both are scored on the same resamples.
    The two-sided p-value is by approximate randomization (Noreen, 1989; Riezler and Maxwell, 2005):
    in each of R trials the captions of every image are swapped between the two with probability
    1/2, and p = (1 + trials with |difference| ≥ the observed one) / (1 + R).

    Args:
        first: Statistics of the first captioner.
        second: Statistics of the second captioner.
        resamples: Resamples for the intervals, and trials for the p-values.
        seed: Seed of both.

    Raises:
        ConfigError: `resamples` is below 1.
    """
    check_resamples(resamples)
    rng = np.random.default_rng(seed)
    num_images = len(first)
    sums = first.sum(), second.sum()
    scores = [compute_scores(values, num_images) for values in sums]
    draws = draw_resamples(rng, num_images, resamples)
    bootstrap = _concatenate(
        _subtract(_score_resamples(first, counts), _score_resamples(second, counts))
        for counts in draws
    )
    swaps = _draw_swaps(rng, num_images, resamples)
    trials = _concatenate(_score_swaps(first, second, sums, swapped) for swapped in swaps)
    differences = {}
    for name in scores[0]:
        first_score, second_score = (float(values[name][0]) for values in scores)
        differences[name] = Difference(
            first=first_score,
            second=second_score,
            interval=percentile_interval(bootstrap[name]),
            p_value=_compute_p_value(trials[name], second_score - first_score),
        )
    return differences


def draw_resamples(rng: np.random.Generator, num_images: int, resamples: int) -> Iterator[Floats]:
    """Yield chunks of bootstrap resamples: how often each image is drawn, (R, N).

    Each resample consists of `num_images` draws.
    """
    for rows in _split_into_chunks(resamples, num_images):
        draws = rng.integers(num_images, size=(rows, num_images))
        # One bincount for all rows: the images of row r are numbered from r * num_images.
        draws = draws + num_images * np.arange(rows)[:, None]
        counts = np.bincount(draws.ravel(), minlength=rows * num_images)
        yield counts.reshape(rows, num_images).astype(np.float64)


def _draw_swaps(rng: np.random.Generator, num_images: int, trials: int) -> Iterator[Floats]:
    """Yield chunks of trials: 1 for each image that is swapped, else 0, (R, N)."""
    for rows in _split_into_chunks(trials, num_images):
        # One random bit per image: ceil(N / 8) bytes per trial.
        random_bytes = rng.integers(256, size=(rows, -(-num_images // 8)), dtype=np.uint8)
        yield np.unpackbits(random_bytes, axis=1)[:, :num_images].astype(np.float64)


def _split_into_chunks(total: int, num_images: int) -> Iterator[int]:
    """Yield the number of rows of each chunk."""
    size = max(1, min(_MAX_ROWS, _MAX_CELLS // num_images))
    for start in range(0, total, size):
        yield min(size, total - start)


def _score_resamples(stats: CorpusStats, counts: Floats) -> dict[str, Floats]:
    sums = {name: counts @ values for name, values in stats.image_stats.items()}
    return compute_scores(sums, len(stats))


def _score_swaps(
    first: CorpusStats,
    second: CorpusStats,
    sums: tuple[dict[str, Floats], dict[str, Floats]],
    swapped: Floats,
) -> dict[str, Floats]:
    """Return the differences, (R,) by score, after swapping captions between the two."""
    # Swapping the captions of an image moves the difference of their statistics from one sum to
    # the other.
    changes = {
        name: swapped @ (second.image_stats[name] - values)
        for name, values in first.image_stats.items()
    }
    first_sums = {name: values + changes[name] for name, values in sums[0].items()}
    second_sums = {name: values - changes[name] for name, values in sums[1].items()}
    return _subtract(
        compute_scores(first_sums, len(first)), compute_scores(second_sums, len(first))
    )


def _subtract(first: dict[str, Floats], second: dict[str, Floats]) -> dict[str, Floats]:
    """Return `second - first` by score."""
    return {name: second[name] - values for name, values in first.items()}


def _concatenate(chunks: Iterable[dict[str, Floats]]) -> dict[str, Floats]:
    chunk_list = list(chunks)
    return {name: np.concatenate([chunk[name] for chunk in chunk_list]) for name in chunk_list[0]}


def percentile_interval(values: Floats) -> Interval:
    """Return the 95 % percentile interval of a score, given its value in each resample."""
    low, high = np.quantile(values, [(1 - CONFIDENCE_LEVEL) / 2, (1 + CONFIDENCE_LEVEL) / 2])
    return float(low), float(high)


def _compute_p_value(trials: Floats, observed: float) -> float:
    # Sums in another order differ in the last digits, so equality needs a tolerance.
    num_as_large = np.count_nonzero(np.abs(trials) >= abs(observed) - 1e-12)
    return float(1 + num_as_large) / (1 + len(trials))
