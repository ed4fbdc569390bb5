"""BLEU (Papineni et al., 2002), in the arithmetic of the COCO caption evaluator."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Tokens = Sequence[str]
ORDERS = 4
_TINY, _SMALL = 1e-15, 1e-9  # the evaluator's guards against division by zero; they show in scores of single pictures


@dataclass(frozen=True)
class Matches:
    """What BLEU counts: n-grams that match, n-grams there are, and the lengths of candidate and closest reference."""

    matched: "np.ndarray[tuple[int], np.dtype[np.int64]]"
    possible: "np.ndarray[tuple[int], np.dtype[np.int64]]"
    length: int
    reference_length: int


def ngrams(tokens: Tokens, orders: int = ORDERS) -> Counter[tuple[str, ...]]:
    """How often each n-gram of 1 to `orders` tokens occurs."""
    return Counter(tuple(tokens[start : start + n]) for n in range(1, orders + 1) for start in range(len(tokens) - n + 1))


def count_matches(candidate: Tokens, references: Sequence[Tokens]) -> Matches:
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
    """BLEU-1 to BLEU-4 of a corpus, or of a single picture: geometric means of the precisions, times the brevity penalty."""
    matched, possible = sum(one.matched for one in pictures), sum(one.possible for one in pictures)
    ratio = (sum(one.length for one in pictures) + _TINY) / (sum(one.reference_length for one in pictures) + _SMALL)
    penalty = math.exp(min(0.0, 1 - 1 / ratio))
    products = np.cumprod((matched + _TINY) / (possible + _SMALL))
    return [float(product ** (1 / n) * penalty) for n, product in enumerate(products, start=1)]
