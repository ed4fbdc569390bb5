"""Diversity of captions: a captioner may score well and still repeat a few phrases."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

from cutline.metrics.bleu import Tokens


@dataclass(frozen=True)
class Diversity:
    """How varied the captions of a corpus are."""

    distinct1: float
    """distinct words / words (distinct-1 of Li et al., 2016)"""
    distinct2: float
    """distinct bigrams / words (distinct-2, which also divides by words)"""
    mean_length: float
    """words per caption"""
    vocabulary: int
    """distinct words"""
    unique: float
    """distinct captions / captions"""
    novel: float | None = None
    """fraction of captions that are not in the training data; None if that is not given"""

    def to_dict(self) -> dict[str, float | int]:
        """Return the values by name, without those that were not measured."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def compute_diversity(
    captions: Sequence[Tokens], train_captions: Collection[Tokens] | None = None
) -> Diversity:
    """Return how varied captions are.

    Args:
        captions: The tokens of each caption.
        train_captions: The tokens of each caption of the training data, to count novel captions.
    """
    num_words, num_captions = sum(map(len, captions)), max(1, len(captions))
    words = {word for caption in captions for word in caption}
    bigrams = {bigram for caption in captions for bigram in pairwise(caption)}
    texts = [tuple(caption) for caption in captions]
    novel = None
    if train_captions is not None:
        train_texts = set(map(tuple, train_captions))
        novel = sum(text not in train_texts for text in texts) / num_captions
    return Diversity(
        distinct1=len(words) / max(1, num_words),
        distinct2=len(bigrams) / max(1, num_words),
        mean_length=num_words / num_captions,
        vocabulary=len(words),
        unique=len(set(texts)) / num_captions,
        novel=novel,
    )
