"""Captions of aerial images (UCM-Captions), some of which are swapped between images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cutline.data import Sample
from cutline.evaluation.ranking import TextSet
from cutline.metrics.stats import Bools, Ints
from cutline.tokenizer import clean_caption

SWAPPED = 0.3
"""fraction of the captions that are swapped"""


@dataclass(frozen=True)
class Pairs:
    """Images of the validation data with texts, some of which are those of other images."""

    images: Ints
    """number of the image of each pair"""
    texts: list[str]
    """cleaned"""
    is_right: Bools


def land_use(sample: Sample) -> str:
    """Return the land use of an image, such as "03" of ucm_03_041.jpg."""
    return Path(str(sample.image)).stem.split("_")[1]


def swap_captions(samples: Sequence[Sample], within: bool, seed: int) -> Pairs:
    """Swap captions between images, neither of which has the other's after cleaning.

    Wrong captions are thus about as frequent among all captions as right ones, so that texts alone
    hardly tell which are wrong.

    Args:
        samples: Images with their captions.
        within: Whether both images are of the same land use: of each, the same fraction of captions
            is wrong. Captions that can be swapped with none, because all images of their land use
            have them, are left out.
        seed: Seed of the choice.
    """
    rng = np.random.default_rng(seed)
    texts = TextSet.from_texts([list(map(clean_text, sample.captions)) for sample in samples])
    groups = np.array([land_use(sample) if within else "" for sample in samples])[texts.images]
    numbers, is_right = texts.numbers.copy(), np.ones(len(texts.numbers), np.bool_)
    kept = []
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        partners = {row: others for row in rows if len(others := find_partners(texts, row, rows))}
        for first, second in choose_swaps(partners, rng):
            numbers[[first, second]] = numbers[[second, first]]
            is_right[[first, second]] = False
        kept += [*partners]
    images = texts.images[kept]
    return Pairs(images, [texts.distinct[number] for number in numbers[kept]], is_right[kept])


def find_partners(texts: TextSet, row: int, rows: Ints) -> Ints:
    """Return those of the rows whose captions could be swapped with that of this row."""
    has_text = texts.is_equal(texts.images[rows], np.array([row]))
    gets_text = texts.is_equal(texts.images[[row]], rows)
    return rows[~(has_text | gets_text)]


def choose_swaps(partners: dict[int, Ints], rng: np.random.Generator) -> Iterator[tuple[int, int]]:
    """Yield pairs of rows, until a fraction SWAPPED of all rows is in one."""
    free, num_left = set(partners), round(SWAPPED * len(partners))
    for row in rng.permutation([*partners]):
        others = [other for other in partners[row] if other in free]
        if num_left > 0 and row in free and others:
            other = rng.choice(others)
            free -= {row, other}
            num_left -= 2
            yield row, other


def clean_text(text: str) -> str:
    """Return a text as the recipe's training sees it."""
    return clean_caption(text, "blip", 30)
