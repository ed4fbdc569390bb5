"""Platt scaling: a probability that is right as often as it says, from one that is not."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cutline.errors import DataError
from cutline.metrics.stats import Floats

CLIP = 1e-9
"""distance from 0 and 1 that probabilities keep, so that their log-odds are finite"""
MAX_STEPS = 100
_TOLERANCE = 1e-9  # of the gradient, per example
_RIDGE = 1e-9  # in the Hessian matrix, for probabilities that are all equal


@dataclass(frozen=True)
class PlattScaling:
    """Maps a probability p to sigmoid(slope * log-odds(p) + intercept)."""

    slope: float = 1.0
    intercept: float = 0.0

    def apply(self, probability: float) -> float:
        """Return the scaled probability."""
        clipped = min(max(probability, CLIP), 1 - CLIP)
        logit = self.slope * math.log(clipped / (1 - clipped)) + self.intercept
        return float(_sigmoid(np.float64(logit)))


def fit_platt(probabilities: ArrayLike, targets: ArrayLike) -> PlattScaling:
    """Fit the scaling that makes targets most likely.

    This is the logistic regression of Platt (1999, "Probabilistic Outputs for Support Vector
    Machines"), on log-odds, by Newton's method with step halving (Lin, Lin and Weng, 2007, "A Note
    on Platt's Probabilistic Outputs"). Targets are smoothed as there, so that the fit is finite
    even if a threshold separates right from wrong.

    Args:
        probabilities: Of N examples, from 0 to 1.
        targets: Whether each is right, or how much of it is, from 0 to 1.

    Raises:
        DataError: There are no examples, not one target for each, or a value is out of range.
    """
    values, right = check_probabilities(probabilities, targets)
    clipped = np.clip(values, CLIP, 1 - CLIP)
    inputs = np.stack([np.log(clipped / (1 - clipped)), np.ones(len(clipped))], 1)  # (N, 2)
    smoothed = smooth_targets(right)
    weights = np.array([0.0, math.log(smoothed.mean() / (1 - smoothed.mean()))])
    loss = _compute_loss(inputs @ weights, smoothed)
    for _ in range(MAX_STEPS):
        predicted = _sigmoid(inputs @ weights)
        gradient = inputs.T @ (predicted - smoothed)
        if np.abs(gradient).max() < _TOLERANCE * len(values):
            break
        curvature = (inputs * (predicted * (1 - predicted))[:, None]).T @ inputs
        step = np.linalg.solve(curvature + _RIDGE * len(values) * np.eye(2), gradient)
        size = 1.0
        while size > 1e-10:
            candidate = weights - size * step
            candidate_loss = _compute_loss(inputs @ candidate, smoothed)
            if candidate_loss < loss:
                weights, loss = candidate, candidate_loss
                break
            size /= 2
        else:  # no smaller loss can be represented
            break
    return PlattScaling(float(weights[0]), float(weights[1]))


def smooth_targets(targets: Floats) -> Floats:
    """Return targets between those of Platt: (R + 1) / (R + 2) for right, 1 / (W + 2) for wrong.

    R and W are the sums of right and of wrong targets.
    """
    num_right = targets.sum()
    num_wrong = len(targets) - num_right
    low, high = 1 / (num_wrong + 2), (num_right + 1) / (num_right + 2)
    smoothed: Floats = low + targets * (high - low)
    return smoothed


def check_probabilities(probabilities: ArrayLike, targets: ArrayLike) -> tuple[Floats, Floats]:
    """Return both as arrays (N,).

    Raises:
        DataError: There are none, not one target for each, or a value is not from 0 to 1.
    """
    values, right = np.asarray(probabilities, np.float64), np.asarray(targets, np.float64)
    if values.ndim != 1 or values.shape != right.shape or not len(values):
        raise DataError(
            f"probabilities {values.shape} and targets {right.shape}: give one of each per example"
        )
    for array in (values, right):
        if not ((array >= 0) & (array <= 1)).all():  # false for NaN, too
            raise DataError("a probability or a target is not from 0 to 1: check the numbers")
    return values, right


def _sigmoid(logits: Floats | np.float64) -> Floats:
    """Return 1 / (1 + exp(-x)) without overflow."""
    small = np.exp(-np.abs(logits))
    result: Floats = np.where(np.asarray(logits) >= 0, 1 / (1 + small), small / (1 + small))
    return result


def _compute_loss(logits: Floats, targets: Floats) -> float:
    """Return the sum of cross-entropies."""
    return float((np.logaddexp(0, logits) - targets * logits).sum())
