"""What a test of a calibration measures: of words, and of captions."""

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cutline.metrics import Interval, bootstrap_auroc, compute_auroc
from cutline.metrics.calibration import (
    CoveragePoint,
    ReliabilityBin,
    compute_calibration_error,
    compute_reliability,
    compute_risk_coverage,
)
from cutline.metrics.platt import PlattScaling


@dataclass(frozen=True)
class ConfidenceFigures:
    """How well the confidence of words, or of captions, says how often they are right."""

    count: int
    """words or captions"""
    right: float
    """share of them that is right; of captions, the mean share of right words"""
    error_before: float
    """expected calibration error without the calibration"""
    error_after: float
    """that with it"""
    auroc: float | None
    """area under the ROC curve of wrong words; None if all are right, or all wrong, and for
    captions"""
    auroc_interval: Interval | None
    """95 % bootstrap interval over images"""
    coverage: list[CoveragePoint]
    """share of right ones among the most confident"""
    reliability_before: list[ReliabilityBin]
    """bins of as many examples each, without the calibration"""
    reliability_after: list[ReliabilityBin]
    """with it"""

    def to_dict(self) -> dict[str, Any]:
        """Return all figures, in a form that JSON can store."""
        return asdict(self)


def measure_confidence(
    probabilities: Sequence[float],
    targets: Sequence[float],
    scaling: PlattScaling,
    images: Sequence[Hashable] | None = None,
) -> ConfidenceFigures:
    """Measure confidence that a calibration was not fitted on.

    Args:
        probabilities: The confidence of each word or caption, without calibration.
        targets: Whether it is right, or how much of it is.
        scaling: The calibration.
        images: The image of each word, for the ROC curve; None for captions.
    """
    scaled = [scaling.apply(probability) for probability in probabilities]
    auroc, interval = None, None
    if images is not None and 0 < sum(targets) < len(targets):
        is_right = np.array(targets) == 1
        auroc = compute_auroc(scaled, is_right)
        if len(set(images)) > 1:
            interval = bootstrap_auroc(scaled, is_right, images)
    return ConfidenceFigures(
        count=len(targets),
        right=sum(targets) / len(targets),
        error_before=compute_calibration_error(probabilities, targets),
        error_after=compute_calibration_error(scaled, targets),
        auroc=auroc,
        auroc_interval=interval,
        coverage=compute_risk_coverage(scaled, targets),
        reliability_before=compute_reliability(probabilities, targets),
        reliability_after=compute_reliability(scaled, targets),
    )
