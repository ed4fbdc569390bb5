"""Words that captions use more often, or less often, than the references of their images."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cutline.metrics.bleu import Tokens

MIN_Z = 3.0
"""Many words are tested: of 1,000 that captions use as references do, about 46 exceed 2 by chance,
and 3 exceed 3"""
MIN_IMAGES = 10
"""images in whose caption or references a word must occur to be tested"""
MAX_WORDS = 20


@dataclass(frozen=True)
class WordUsage:
    """How often captions and references use a word."""

    word: str
    captions: float
    """share of the captions that contain it"""
    references: float
    """share of the references that contain it, as a mean over images"""
    z: float
    """difference of the two in standard errors; above 0 if captions use the word more often"""


@dataclass(frozen=True)
class WordUsages:
    """The words whose use differs most significantly, largest |z| first."""

    overused: tuple[WordUsage, ...]
    """words that captions use more often than references"""
    underused: tuple[WordUsage, ...]
    """words that captions use less often than references"""

    def to_dict(self) -> dict[str, list[dict[str, Any]]]:
        """Return both lists, in a form that JSON can store."""
        return {
            "overused": [asdict(usage) for usage in self.overused],
            "underused": [asdict(usage) for usage in self.underused],
        }


def compute_word_usage(
    candidates: Sequence[Tokens],
    references: Sequence[Sequence[Tokens]],
    max_words: int = MAX_WORDS,
) -> WordUsages:
    """Return the words that captions use significantly more or less often than references.

    The bias of a word in an image is 1 if the caption contains the word, else 0, minus the share of
    the references that contain it. z is that of Mantel and Haenszel (1959), with images as strata:
    the sum of biases, each weighted by m / (m + 1) for m references, by its standard error if any
    of the m + 1 texts of an image could be its caption. That error, unlike one estimated from the
    biases, is right for a word that no caption contains.

    Args:
        candidates: The tokens of each caption.
        references: The tokens of each image's references, at least one.
        max_words: Number of words to return of each kind, at most; only words with |z| ≥ MIN_Z in
            MIN_IMAGES or more images are among them.
    """
    sums: dict[str, _Sums] = defaultdict(_Sums)
    for candidate, texts in zip(candidates, references, strict=True):
        words = set(candidate)
        counts = Counter(word for text in texts for word in set(text))
        for word in words | counts.keys():
            sums[word].add(word in words, counts[word], len(texts))
    usages = [
        each.summarize(word, len(candidates))
        for word, each in sums.items()
        if each.num_images >= MIN_IMAGES and abs(each.compute_z()) >= MIN_Z
    ]
    usages.sort(key=lambda usage: (-abs(usage.z), usage.word))
    return WordUsages(
        overused=tuple(usage for usage in usages if usage.z > 0)[:max_words],
        underused=tuple(usage for usage in usages if usage.z < 0)[:max_words],
    )


class _Sums:
    """Sums over the images in which a word occurs; the others do not count in z."""

    __slots__ = ("bias", "captions", "num_images", "references", "variance")

    def __init__(self) -> None:
        self.captions, self.num_images = 0, 0
        self.references, self.bias, self.variance = 0.0, 0.0, 0.0

    def add(self, in_caption: bool, count: int, num_references: int) -> None:
        """Add an image, `count` of whose references contain the word."""
        probability = (in_caption + count) / (1 + num_references)
        self.captions += in_caption
        self.num_images += 1
        self.references += count / num_references
        self.bias += in_caption - probability
        self.variance += probability * (1 - probability)

    def compute_z(self) -> float:
        """Return the bias in standard errors; 0 if all texts of each image agree."""
        if not self.variance:
            return 0.0
        bias = max(0.0, abs(self.bias) - 0.5)  # the continuity correction: captions are counts
        return math.copysign(bias / math.sqrt(self.variance), self.bias)

    def summarize(self, word: str, num_images: int) -> WordUsage:
        """Return the usage of the word, given the number of all images."""
        captions, references = self.captions / num_images, self.references / num_images
        return WordUsage(word, captions, references, self.compute_z())
