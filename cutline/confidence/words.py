"""`Word`: a word of a caption, with the confidence of the model in it.

Confidence is algebraic, after Petryk et al., "Simple Token-Level Confidence Improves Caption
Correctness" (arXiv 2305.07021): the softmax probabilities of the tokens, aggregated.

A word's own probability supposes that the words before it are right: after a wrong one, the next
may be certain and wrong, too. Therefore half of a word's confidence is that of its caption. On
drawn scenes (`benchmarks/confidence.py`), this finds wrong words much better than either alone.
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
    """from 0 to 1: the mean of its own probability and that of all words of the caption; with a
    calibration, the probability that the word is right"""


def measure_words(
    text: str, spans: Sequence[WordSpan], log_probs: Sequence[float]
) -> tuple[Word, ...]:
    """Return the words of a caption, without calibration.

    Args:
        text: The caption.
        spans: Where its words are, and which tokens each has.
        log_probs: The log-probability of each token.
    """
    own = compute_word_probabilities(spans, log_probs)
    mean = sum(own) / len(own) if own else 0.0
    return tuple(
        Word(text[start:end], start, end, (probability + mean) / 2)
        for (start, end, _), probability in zip(spans, own, strict=True)
    )


def compute_word_probabilities(
    spans: Sequence[WordSpan], log_probs: Sequence[float]
) -> list[float]:
    """Return the probability of each word, given the image and the tokens before.

    It is the product of the probabilities of its tokens, before penalties and temperature.
    """
    return [math.exp(min(0.0, sum(log_probs[i] for i in tokens))) for _, _, tokens in spans]


def combine_words(words: Sequence[Word]) -> float:
    """Return the confidence of a caption: the mean of that of its words; 0 without words.

    It is the mean of their own probabilities, too.
    """
    return sum(word.confidence for word in words) / len(words) if words else 0.0
