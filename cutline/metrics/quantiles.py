"""Quantiles of the scores of images."""

from collections.abc import Sequence

import numpy as np

from cutline.metrics.stats import METRIC_NAMES, Scores

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def compute_quantiles(image_scores: Sequence[Scores]) -> dict[str, tuple[float, ...]]:
    """Return the quantiles in QUANTILES of the scores of images, by metric.

    They are interpolated between the nearest images (numpy's default). Metrics that were not
    requested have none.
    """
    quantiles = {}
    for name in METRIC_NAMES:
        values = [getattr(scores, name) for scores in image_scores]
        if values and None not in values:
            quantiles[name] = tuple(map(float, np.quantile(values, QUANTILES)))
    return quantiles
