"""BLEU (Papineni et al., 2002), in the arithmetic of the COCO caption evaluator."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Words = Sequence[str]
ORDERS = 4
_TINY, _SMALL = (
    1e-15,
    1e-9,
)  # the evaluator's guards against division by zero; they show in scores of single images


@dataclass(frozen=True)
class Matches:
    """What BLEU counts: n-grams that match, n-grams there are, and the lengths of candidate and closest reference."""

    matched: NDArray[np.int64]
    possible: NDArray[np.int64]
    length: int
    reference_length: int

    def row(self) -> NDArray[np.float64]:
        """The counts in a row, (10,), to be summed over images."""
        return np.array(
            [*self.matched, *self.possible, self.length, self.reference_length], np.float64
        )


def ngrams(tokens: Words, orders: int = ORDERS) -> Counter[tuple[str, ...]]:
    """How often each n-gram of 1 to `orders` tokens occurs."""
    return Counter(
        tuple(tokens[start : start + n])
        for n in range(1, orders + 1)
        for start in range(len(tokens) - n + 1)
    )


def count_matches(candidate: Words, references: Sequence[Words]) -> Matches:
    """Matches of a candidate, each n-gram no more often than in the reference that has it most."""
    allowed: Counter[tuple[str, ...]] = Counter()
    for reference in references:
        allowed |= ngrams(reference)
    matched = np.zeros(ORDERS, np.int64)
    for ngram, count in (ngrams(candidate) & allowed).items():
        matched[len(ngram) - 1] += count
    length = len(candidate)
    closest = min((abs(len(reference) - length), len(reference)) for reference in references)[1]
    return Matches(matched, np.maximum(0, length - np.arange(ORDERS)), length, closest)


def bleu(pictures: Sequence[Matches]) -> list[float]:
    """BLEU-1 to BLEU-4 of a corpus, or of a single image."""
    return [float(value) for value in bleu_of_rows(np.sum([one.row() for one in pictures], axis=0))]


def bleu_of_rows(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """BLEU-1 to BLEU-4, (..., 4), of rows of `Matches`, or of their sums, (..., 10).

    Geometric means of the precisions, times the brevity penalty.
    """
    matched, possible, lengths = (
        rows[..., :ORDERS],
        rows[..., ORDERS : 2 * ORDERS],
        rows[..., 2 * ORDERS :],
    )
    ratio = (lengths[..., :1] + _TINY) / (lengths[..., 1:] + _SMALL)
    penalty = np.exp(np.minimum(0, 1 - 1 / ratio))
    products = np.cumprod((matched + _TINY) / (possible + _SMALL), axis=-1)
    return np.asarray(products ** (1 / np.arange(1, ORDERS + 1)) * penalty)
