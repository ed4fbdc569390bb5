"""Recall of retrieval: how often an image finds its texts, and a text its image.

As BLIP's train_retrieval.py `itm_eval` counts it, but ties are not broken by position: a model that
gives all candidates the same score would then find them.
"""

from dataclasses import asdict, dataclass

import numpy as np

from cutline.metrics.stats import Bools, Floats, Ints

CUTOFFS = (1, 5, 10)
"""recall is measured among so many first candidates"""


@dataclass(frozen=True)
class Recall:
    """Fraction of queries that have a right answer among the first 1, 5 and 10 candidates."""

    at1: float
    at5: float
    at10: float

    @property
    def mean(self) -> float:
        """Return the mean of the three."""
        return (self.at1 + self.at5 + self.at10) / 3


@dataclass(frozen=True)
class RetrievalScores:
    """Recall in both directions."""

    image_to_text: Recall
    """an image finds one of its texts (`txt_r` in BLIP's code)"""
    text_to_image: Recall
    """a text finds its image (`img_r`)"""

    @property
    def mean(self) -> float:
        """Return the mean of both directions (`r_mean`)."""
        return (self.image_to_text.mean + self.text_to_image.mean) / 2

    def to_dict(self) -> dict[str, float | dict[str, float]]:
        """Return all values in a form that JSON can store."""
        directions = {
            name: {**asdict(recall), "mean": recall.mean} for name, recall in vars(self).items()
        }
        return {**directions, "mean": self.mean}


def count_found(scores: Floats, relevant: Bools) -> Floats:
    """Return whether each query has a right answer among its first 1, 5 and 10 candidates.

    With ties, it is the probability of that if they are broken at random: let g candidates score
    higher than the best right answer, and t the same, r of them right. Of these t, the first k - g
    are within the cutoff k, and with probability C(t - r, k - g) / C(t, k - g) none is right.

    Args:
        scores: (Q, C), of the C candidates of each of Q queries.
        relevant: (Q, C), which are right.

    Returns:
        (Q, 3), in [0, 1].
    """
    best = np.where(relevant, scores, -np.inf).max(1, keepdims=True, initial=-np.inf)
    higher, tied = (scores > best).sum(1), scores == best
    num_tied, num_right = tied.sum(1), (tied & relevant).sum(1)
    found = [_probability_found(cutoff - higher, num_tied, num_right) for cutoff in CUTOFFS]
    return np.stack(found, axis=1)


def _probability_found(drawn: Ints, num_tied: Ints, num_right: Ints) -> Floats:
    """Return the probability that `drawn` of the tied candidates include a right one, (Q,)."""
    missed = np.ones(len(drawn))
    for step in range(max(CUTOFFS)):
        # The next one is drawn from num_tied - step, of which num_right are still right.
        wrong = np.clip(num_tied - step - num_right, 0, None) / np.clip(num_tied - step, 1, None)
        missed *= np.where(step < drawn, wrong, 1.0)
    return np.where(num_right > 0, 1 - missed, 0.0)


def average_recall(found: Floats) -> Recall:
    """Return the recall, given what `count_found` returns for all queries, (Q, 3)."""
    return Recall(*map(float, found.mean(0))) if len(found) else Recall(0.0, 0.0, 0.0)
