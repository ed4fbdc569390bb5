"""`Word`: a word of a caption, with the confidence of the model in it.

Confidence is algebraic, after Petryk et al., "Simple Token-Level Confidence Improves Caption
Correctness" (arXiv 2305.07021): the softmax probabilities of the tokens, aggregated.

A word's own probability supposes that the words before it are right: after a wrong one, the next
may be certain and wrong, too. Therefore half of a word's confidence is that of its caption, in
log-odds. `benchmarks/confidence.py` compares this with other definitions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cutline.tokenizer.words import WordSpan

_MAX_LOG_PROB = -1e-7  # of a probability that float32 cannot tell from 1


@dataclass(frozen=True)
class Word:
    """A word of a caption: `caption.text[word.start : word.end] == word.text`."""

    text: str
    start: int
    """position of its first character in the text of the caption"""
    end: int
    """position after its last character"""
    confidence: float
    """from 0 to 1: its own probability and that of all words, combined; with a calibration, the
    probability that the word is right"""


def measure_words(
    text: str, spans: Sequence[WordSpan], log_probs: Sequence[float]
) -> tuple[tuple[Word, ...], float]:
    """Return the words of a caption and its confidence, without calibration.

    The confidence of the caption is the product of the probabilities of its words; 0 without words.
    The log-odds of a word are the mean of those of its own probability and of this product.

    Args:
        text: The caption.
        spans: Where its words are, and which tokens each has.
        log_probs: The log-probability of each token.
    """
    own = sum_log_probs(spans, log_probs)
    if not own:
        return (), 0.0
    total = sum(own)
    words = tuple(
        Word(text[start:end], start, end, combine_log_probs(log_prob, total))
        for (start, end, _), log_prob in zip(spans, own, strict=True)
    )
    return words, math.exp(min(0.0, total))


def sum_log_probs(spans: Sequence[WordSpan], log_probs: Sequence[float]) -> list[float]:
    """Return the log-probability of each word, given the image and the tokens before it."""
    return [sum(log_probs[token] for token in tokens) for _, _, tokens in spans]


def combine_log_probs(first: float, second: float) -> float:
    """Return the probability whose log-odds are the mean of those of two probabilities."""
    log_odds = (_to_log_odds(first) + _to_log_odds(second)) / 2
    return 1 / (1 + math.exp(-log_odds)) if log_odds > -700 else 0.0


def _to_log_odds(log_prob: float) -> float:
    log_prob = min(_MAX_LOG_PROB, log_prob)
    return log_prob - math.log(-math.expm1(log_prob))
