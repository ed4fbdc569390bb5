"""`Word`: a word of a caption, with the confidence of the model in it.

Confidence is algebraic, after Petryk et al., "Simple Token-Level Confidence Improves Caption
Correctness" (arXiv 2305.07021): the softmax probabilities of the tokens, aggregated.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cutline.tokenizer.words import WordSpan


@dataclass(frozen=True)
class Word:
    """A word of a caption: `caption.text[word.start : word.end] == word.text`."""

    text: str
    start: int
    """position of its first character in the text of the caption"""
    end: int
    """position after its last character"""
    confidence: float
    """from 0 to 1: the product of the probabilities of its tokens, given the image and the tokens
    before; with a calibration, the probability that the word is right"""


def measure_words(
    text: str, spans: Sequence[WordSpan], log_probs: Sequence[float]
) -> tuple[Word, ...]:
    """Return the words of a caption, without calibration.

    Args:
        text: The caption.
        spans: Where its words are, and which tokens each has.
        log_probs: The log-probability of each token.
    """
    return tuple(
        Word(text[start:end], start, end, math.exp(min(0.0, sum(log_probs[i] for i in tokens))))
        for start, end, tokens in spans
    )


def combine_words(words: Sequence[Word]) -> float:
    """Return the confidence of a caption: the mean of that of its words; 0 without words."""
    return sum(word.confidence for word in words) / len(words) if words else 0.0
