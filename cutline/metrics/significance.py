"""How sure scores are: images drawn again and again, from the ones there are.

A resample is scored as a corpus: counts of its images are summed, so BLEU and METEOR are those of a corpus. CIDEr keeps the weights of
words that the whole set gives.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cutline.errors import ConfigError
from cutline.metrics.stats import CorpusStats, Floats, score_sums

Interval = tuple[float, float]
LEVEL = 0.95
_TOGETHER = 250  # resamples at once, at most: a matrix of so many rows and a column per image
_MOST_CELLS = 2**22  # of that matrix: 32 MB


@dataclass(frozen=True)
class Difference:
    """A score of two captioners over the same images."""

    first: float
    second: float
    interval: Interval
    """95 % of the bootstrap's differences, second less first, lie between these"""
    p_value: float
    """how often chance alone makes a difference as large, either way"""

    @property
    def value(self) -> float:
        """Second less first."""
        return self.second - self.first


def check_resamples(resamples: int) -> None:
    """Raise ConfigError unless there is at least one resample."""
    if resamples < 1:
        raise ConfigError(f"resamples {resamples} is below 1")


def bootstrap(found: CorpusStats, resamples: int = 1000, seed: int = 0) -> dict[str, Interval]:
    """Percentile intervals, 95 %, of each score (Efron and Tibshirani, 1993, chapter 13; of captions and translations: Koehn, 2004).

    Raises ConfigError where `resamples` is below 1.
    """
    check_resamples(resamples)
    rng = np.random.default_rng(seed)
    draws = _joined(_score_drawn(found, drawn) for drawn in _draws(rng, len(found), resamples))
    return {name: _interval(values) for name, values in draws.items()}


def compare_stats(
    first: CorpusStats, second: CorpusStats, resamples: int = 10_000, seed: int = 0
) -> dict[str, Difference]:
    """Each score of two tallies of the same images with the same references, and whether they differ.

    The interval is that of a paired bootstrap (Koehn, 2004): both are scored on the same drawn images. The two-sided p-value is by
    approximate randomisation (Noreen, 1989; Riezler and Maxwell, 2005): in each of R trials the captions of every image are swapped
    between the two with probability 1/2, and p = (1 + trials with |difference| ≥ the one observed) / (1 + R). Raises ConfigError where
    `resamples` is below 1.
    """
    check_resamples(resamples)
    rng = np.random.default_rng(seed)
    sums = [
        {name: rows.sum(0, keepdims=True) for name, rows in one.rows.items()}
        for one in (first, second)
    ]
    scores = [
        {name: float(value[0]) for name, value in score_sums(one, len(first)).items()}
        for one in sums
    ]
    gaps = _joined(
        _gaps(_score_drawn(first, drawn), _score_drawn(second, drawn))
        for drawn in _draws(rng, len(first), resamples)
    )
    trials = _joined(
        _swap(first, second, sums, swapped) for swapped in _swaps(rng, len(first), resamples)
    )
    return {
        name: Difference(
            a, b := scores[1][name], _interval(gaps[name]), _p_value(trials[name], b - a)
        )
        for name, a in scores[0].items()
    }


def _draws(rng: np.random.Generator, pictures: int, resamples: int) -> Iterator[Floats]:
    """How often each image is drawn, (R, N), in as many draws as there are images."""
    for count in _parts(resamples, pictures):
        drawn = (
            rng.integers(pictures, size=(count, pictures)) + pictures * np.arange(count)[:, None]
        )
        yield (
            np.bincount(drawn.ravel(), minlength=count * pictures)
            .reshape(count, pictures)
            .astype(np.float64)
        )


def _swaps(rng: np.random.Generator, pictures: int, trials: int) -> Iterator[Floats]:
    """Which images are swapped, (R, N)."""
    for count in _parts(trials, pictures):
        bits = np.unpackbits(
            rng.integers(256, size=(count, -(-pictures // 8)), dtype=np.uint8), axis=1
        )
        yield bits[:, :pictures].astype(np.float64)


def _parts(total: int, pictures: int) -> Iterator[int]:
    most = max(1, min(_TOGETHER, _MOST_CELLS // pictures))
    for start in range(0, total, most):
        yield min(most, total - start)


def _score_drawn(found: CorpusStats, drawn: Floats) -> dict[str, Floats]:
    return score_sums({name: drawn @ rows for name, rows in found.rows.items()}, len(found))


def _swap(
    first: CorpusStats, second: CorpusStats, sums: list[dict[str, Floats]], swapped: Floats
) -> dict[str, Floats]:
    """Differences, (R,) by score, after the captions of the swapped images went over to the other side."""
    moved = {name: swapped @ (second.rows[name] - rows) for name, rows in first.rows.items()}
    ours = score_sums({name: total + moved[name] for name, total in sums[0].items()}, len(first))
    theirs = score_sums({name: total - moved[name] for name, total in sums[1].items()}, len(first))
    return _gaps(ours, theirs)


def _gaps(first: dict[str, Floats], second: dict[str, Floats]) -> dict[str, Floats]:
    return {name: second[name] - values for name, values in first.items()}


def _joined(parts: Iterator[dict[str, Floats]]) -> dict[str, Floats]:
    found = list(parts)
    return {name: np.concatenate([part[name] for part in found]) for name in found[0]}


def _interval(values: Floats) -> Interval:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _p_value(trials: Floats, observed: float) -> float:
    as_large = np.count_nonzero(
        np.abs(trials) >= abs(observed) - 1e-12
    )  # sums in another order differ in the last digits
    return float(1 + as_large) / (1 + len(trials))
