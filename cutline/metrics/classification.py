"""Telling texts that belong to their images from texts that do not, by a score."""

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike

from cutline.errors import DataError
from cutline.metrics.significance import (
    Interval,
    check_resamples,
    draw_resamples,
    percentile_interval,
)
from cutline.metrics.stats import Bools, Floats

Labels = Sequence[bool] | Bools
"""of R pairs, whether the text of each belongs to its image"""


@dataclass(frozen=True)
class Detection:
    """How well a threshold finds the wrong pairs: those that score below it are called wrong."""

    precision: float
    """wrong pairs among those called wrong; 0 if there are none"""
    recall: float
    """wrong pairs that are called wrong / wrong pairs; 0 if there are none"""
    accuracy: float
    """pairs that are called what they are"""
    num_wrong: int
    num_pairs: int
    threshold: float

    def to_dict(self) -> dict[str, float | int]:
        """Return all values by name."""
        return asdict(self)


def detect_wrong_pairs(scores: ArrayLike, is_right: Labels, threshold: float = 0.5) -> Detection:
    """Count how many wrong pairs score below a threshold, and how many right ones do not.

    Args:
        scores: Of R pairs; the higher, the better they match.
        is_right: Whether the text of each pair belongs to its image.
        threshold: Pairs below it are called wrong.

    Raises:
        DataError: There is not one score for each pair, or a score is not a number.
    """
    values, right = _check_scores(scores, is_right)
    called_wrong, is_wrong = values < threshold, ~right
    num_found = int((called_wrong & is_wrong).sum())
    return Detection(
        precision=num_found / max(1, int(called_wrong.sum())),
        recall=num_found / max(1, int(is_wrong.sum())),
        accuracy=int((called_wrong == is_wrong).sum()) / max(1, len(is_wrong)),
        num_wrong=int(is_wrong.sum()),
        num_pairs=len(is_wrong),
        threshold=threshold,
    )


def compute_auroc(scores: ArrayLike, is_right: Labels) -> float:
    """Return the area under the ROC curve: how well the scores tell right from wrong pairs.

    It is the probability that a random right pair scores higher than a random wrong one, a tie
    counting half (the Mann-Whitney statistic; Hanley and McNeil, 1982): 1 if all do, 0.5 for
    scores that tell nothing.

    Args:
        scores: Of R pairs; the higher, the better they match.
        is_right: Whether the text of each pair belongs to its image.

    Raises:
        DataError: All pairs are right, or all are wrong, or as for `detect_wrong_pairs`.
    """
    values, right = _check_pairs(scores, is_right)
    return float(_weighted_auroc(values, right, np.ones((1, len(values))))[0])


def bootstrap_auroc(
    scores: ArrayLike,
    is_right: Labels,
    groups: Sequence[Hashable],
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Return the 95 % percentile interval of the area under the ROC curve.

    Whole groups are drawn, as the pairs of an image are not independent (a cluster bootstrap;
    Davison and Hinkley, 1997, section 3.8).

    Args:
        scores: As for `compute_auroc`.
        is_right: As for `compute_auroc`.
        groups: The group of each pair, such as its image.
        resamples: Number of resamples.
        seed: Seed of the resamples.

    Raises:
        DataError: As for `compute_auroc`; or there is not one group for each pair, or too few
            groups, so that no resample has right and wrong pairs.
        ConfigError: `resamples` is below 1.
    """
    return percentile_interval(resample_auroc(scores, is_right, groups, resamples, seed))


def resample_auroc(
    scores: ArrayLike,
    is_right: Labels,
    groups: Sequence[Hashable],
    resamples: int = 1000,
    seed: int = 0,
) -> Floats:
    """Return the area under the ROC curve in each bootstrap resample, (R,).

    Two scores of the same pairs have the same resamples, so that the difference of two results
    gives the interval of the difference. Resamples without right or without wrong pairs are left
    out. For arguments and errors see `bootstrap_auroc`.
    """
    check_resamples(resamples)
    values, right = _check_pairs(scores, is_right)
    if len(groups) != len(values):
        raise DataError(
            f"there are {len(groups)} groups for {len(values)} pairs: give one for each pair"
        )
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    group_of_pair = np.array([numbers[group] for group in groups])
    rng = np.random.default_rng(seed)
    parts = [
        _weighted_auroc(values, right, counts[:, group_of_pair])
        for counts in draw_resamples(rng, len(numbers), resamples)
    ]
    areas: Floats = np.concatenate(parts)
    if np.isnan(areas).all():
        raise DataError(
            f"none of {resamples} resamples has both right and wrong pairs: "
            f"use more of them, or more groups than {len(numbers)}"
        )
    return areas[~np.isnan(areas)]


def _check_pairs(scores: ArrayLike, is_right: Labels) -> tuple[Floats, Bools]:
    values, right = _check_scores(scores, is_right)
    if right.all() or not right.any():
        raise DataError(
            f"all {len(right)} pairs of image and text are {'right' if right.all() else 'wrong'}: "
            "an area under the ROC curve needs both"
        )
    return values, right


def _check_scores(scores: ArrayLike, is_right: Labels) -> tuple[Floats, Bools]:
    values, right = np.asarray(scores, np.float64), np.asarray(is_right, np.bool_)
    if values.shape != right.shape or values.ndim != 1:
        raise DataError(
            f"scores {values.shape} and is_right {right.shape} differ in shape, or are no lists: "
            "give one of each per pair of image and text"
        )
    if np.isnan(values).any():
        raise DataError("a score is not a number: check the model for NaN or infinite weights")
    return values, right


def _weighted_auroc(scores: Floats, is_right: Bools, weights: Floats) -> Floats:
    """Return the area for each row of weights (R, P), where pair p counts `weights[:, p]` times.

    NaN where all pairs that count are right, or all are wrong.
    """
    order = np.argsort(scores)
    ranked, weights, right = scores[order], weights[:, order], is_right[order]
    starts = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))  # of runs of equal scores
    rights = np.add.reduceat(weights * right, starts, axis=1)
    wrongs = np.add.reduceat(weights * ~right, starts, axis=1)
    below = wrongs.cumsum(1) - wrongs / 2
    total = rights.sum(1) * wrongs.sum(1)
    area = (rights * below).sum(1)
    result: Floats = np.divide(area, total, out=np.full(len(area), np.nan), where=total > 0)
    return result
