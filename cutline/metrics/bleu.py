"""BLEU (Papineni et al., 2002), computed exactly as the COCO evaluator (pycocoevalcap) does."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Tokens = Sequence[str]
"""the tokens of one text"""
Ngram = tuple[str, ...]
MAX_ORDER = 4
"""largest n of the n-grams"""
# The evaluator adds these to avoid division by zero. They matter only where an order of n-grams has
# no match, as in many single images.
_TINY, _SMALL = 1e-15, 1e-9


@dataclass(frozen=True)
class NgramMatches:
    """The counts that BLEU is computed from."""

    matched: NDArray[np.int64]
    """matching n-grams, (4,) by order"""
    total: NDArray[np.int64]
    """n-grams of the candidate, (4,) by order"""
    length: int
    """tokens of the candidate"""
    reference_length: int
    """tokens of the reference whose length is closest to that of the candidate"""

    def to_array(self) -> NDArray[np.float64]:
        """Return all counts as an array, (10,), which can be summed over images."""
        return np.array(
            [*self.matched, *self.total, self.length, self.reference_length], np.float64
        )


def count_ngrams(tokens: Tokens, max_order: int = MAX_ORDER) -> Counter[Ngram]:
    """Return the count of each n-gram of 1 to `max_order` tokens."""
    return Counter(
        tuple(tokens[start : start + n])
        for n in range(1, max_order + 1)
        for start in range(len(tokens) - n + 1)
    )


def count_matches(candidate: Tokens, references: Sequence[Tokens]) -> NgramMatches:
    """Count the n-grams that a candidate shares with its references.

    An n-gram counts at most as often as in the reference that has most of it (clipped counts).
    """
    limits: Counter[Ngram] = Counter()
    for reference in references:
        limits |= count_ngrams(reference)  # keeps the larger count of each n-gram
    matched = np.zeros(MAX_ORDER, np.int64)
    for ngram, count in (count_ngrams(candidate) & limits).items():
        matched[len(ngram) - 1] += count
    length = len(candidate)
    # Of two references equally close in length, the shorter one counts.
    closest = min((abs(len(reference) - length), len(reference)) for reference in references)[1]
    return NgramMatches(matched, np.maximum(0, length - np.arange(MAX_ORDER)), length, closest)


def compute_bleu(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return BLEU-1 to BLEU-4: geometric means of the precisions, times the brevity penalty.

    Args:
        counts: Results of `NgramMatches.to_array`, or their sums over the images of a corpus,
            (..., 10).

    Returns:
        The scores, (..., 4).
    """
    matched, total = counts[..., :MAX_ORDER], counts[..., MAX_ORDER : 2 * MAX_ORDER]
    length, reference_length = counts[..., -2:-1], counts[..., -1:]
    ratio = (length + _TINY) / (reference_length + _SMALL)
    penalty = np.exp(np.minimum(0, 1 - 1 / ratio))
    products = np.cumprod((matched + _TINY) / (total + _SMALL), axis=-1)
    return np.asarray(products ** (1 / np.arange(1, MAX_ORDER + 1)) * penalty)
