"""Captions of aerial images (UCM-Captions), some of which are swapped for those of other images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pair_scores import Bools

from cutline.data import Sample
from cutline.evaluation.ranking import TextSet
from cutline.tokenizer import clean_caption

SWAPPED = 0.3
"""fraction of the captions that are swapped"""


@dataclass(frozen=True)
class Pairs:
    """Images of the validation data with texts, some of which are swapped."""

    images: NDArray[np.int64]
    """number of the image of each pair"""
    texts: list[str]
    """cleaned"""
    is_right: Bools


def land_use(sample: Sample) -> str:
    """Return the land use of an image, such as "03" of ucm_03_041.jpg."""
    return Path(str(sample.image)).stem.split("_")[1]


def swap_captions(samples: Sequence[Sample], within: bool, seed: int) -> Pairs:
    """Swap captions for those of other images, which the image does not have after cleaning.

    Args:
        samples: Images with their captions.
        within: Whether the other image is one of the same land use. Where all images of a land use
            have the same captions, none is swapped, and more in the others.
        seed: Seed of the choice.
    """
    rng = np.random.default_rng(seed)
    texts = TextSet.from_texts([list(map(clean_text, sample.captions)) for sample in samples])
    uses = np.array(list(map(land_use, samples)))[texts.images]
    numbers, is_right = texts.numbers.copy(), np.ones(len(texts.numbers), np.bool_)
    num_left = round(SWAPPED * len(numbers))
    for row in rng.permutation(len(numbers)):
        is_wrong = ~texts.belongs[texts.images[row], texts.numbers]
        others = texts.numbers[is_wrong & (uses == uses[row]) if within else is_wrong]
        if num_left and len(others):
            numbers[row], is_right[row] = rng.choice(others), False
            num_left -= 1
    return Pairs(texts.images, [texts.distinct[number] for number in numbers], is_right)


def clean_text(text: str) -> str:
    """Return a text as the recipe's training sees it."""
    return clean_caption(text, "blip", 30)
