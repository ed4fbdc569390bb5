"""How varied captions are: a captioner that says the same of every image may score well and say little."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

from cutline.metrics.bleu import Words


@dataclass(frozen=True)
class Diversity:
    """How varied the captions of a corpus are."""

    distinct1: float
    """distinct words by words (distinct-1 of Li et al., 2016)"""
    distinct2: float
    """distinct pairs of neighbouring words by words (distinct-2, which divides by words too)"""
    mean_length: float
    """words of a caption"""
    vocabulary: int
    """distinct words"""
    unique: float
    """distinct captions by captions"""
    novel: float | None = None
    """share of captions that are none of those learned from, where these are known"""

    def numbers(self) -> dict[str, float | int]:
        """The values by name, without those that are not known."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def measure_diversity(
    captions: Sequence[Words], learned: Collection[Words] | None = None
) -> Diversity:
    """How varied `captions` are, each given as its words; `learned` are the captions that their author learned from."""
    total = sum(map(len, captions))
    singles = {word for caption in captions for word in caption}
    pairs = {pair for caption in captions for pair in pairwise(caption)}
    texts = [tuple(caption) for caption in captions]
    known = None if learned is None else set(map(tuple, learned))
    return Diversity(
        distinct1=len(singles) / max(1, total),
        distinct2=len(pairs) / max(1, total),
        mean_length=total / max(1, len(captions)),
        vocabulary=len(singles),
        unique=len(set(texts)) / max(1, len(texts)),
        novel=None
        if known is None
        else sum(text not in known for text in texts) / max(1, len(texts)),
    )
