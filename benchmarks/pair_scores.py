"""How well scores tell right pairs of image and text from wrong ones."""

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from cutline import Captioner
from cutline.image import ImageSource
from cutline.metrics import (
    bootstrap_auroc,
    compute_auroc,
    detect_wrong_pairs,
    percentile_interval,
    resample_auroc,
)
from cutline.metrics.stats import Bools, Floats, Ints


def judge_scores(scores: Floats, is_right: Bools, groups: Sequence[Hashable]) -> dict[str, Any]:
    """Return AUROC with its interval over groups, and the most that a threshold finds."""
    return {
        "auroc": compute_auroc(scores, is_right),
        "interval": list(bootstrap_auroc(scores, is_right, groups)),
        "found_at_precision_0.95": find_best_recall(scores, is_right, 0.95),
    }


def judge_matcher(
    scores: dict[str, Floats], is_right: Bools, groups: Sequence[Hashable]
) -> dict[str, Any]:
    """Return `judge_scores` of each score, and what the matcher's finds below 0.5."""
    result = {name: judge_scores(values, is_right, groups) for name, values in scores.items()}
    result["matcher"] |= detect_wrong_pairs(scores["matcher"], is_right).to_dict()
    return result


def compare_scores(
    first: Floats, second: Floats, is_right: Bools, groups: Sequence[Hashable]
) -> dict[str, Any]:
    """Return how much larger the AUROC of the second scores is, on the same pairs."""
    difference = compute_auroc(second, is_right) - compute_auroc(first, is_right)
    samples = resample_auroc(second, is_right, groups) - resample_auroc(first, is_right, groups)
    return {"difference": difference, "interval": list(percentile_interval(samples))}


def find_best_recall(scores: Floats, is_right: Bools, precision: float) -> float:
    """Return the largest share of wrong pairs that any threshold finds at this precision."""
    thresholds = [*np.unique(scores), math.inf]
    results = (detect_wrong_pairs(scores, is_right, threshold) for threshold in thresholds)
    return max((each.recall for each in results if each.precision >= precision), default=0.0)


def score_pairs(
    captioner: Captioner, images: Sequence[ImageSource], texts: Sequence[str]
) -> tuple[Floats, Ints]:
    """Return the log-likelihood of each text given its image, and its number of tokens."""
    scores = captioner.score(images, texts)
    sums = np.array([score.log_prob for score in scores])
    return sums, np.array([len(score.token_ids) for score in scores])


def format_value(value: float, interval: Sequence[float]) -> str:
    """Return a value with its interval."""
    low, high = interval
    return f"{value:.4f} [{low:.4f}, {high:.4f}]"
