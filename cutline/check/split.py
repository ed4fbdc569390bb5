"""Check whether validation measures memorization: its images may be near training images."""

import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import PurePosixPath
from statistics import mean

from cutline.check.findings import Finding
from cutline.config import CaptionText
from cutline.config.pattern import MAX_QUANTIFIERS
from cutline.data import Sample
from cutline.data.names import natural_sort_key
from cutline.data.split import relative_names
from cutline.metrics.tokenizers import split_unspaced
from cutline.tokenizer import clean_caption

MIN_IMAGES = 10
"""number of validation images below which a split is not judged"""
FAR = 10
"""two images are far apart if more than this number of images is between them in natural order of
their names, or a tenth of the images, if that is less"""
MIN_REPEATED = 0.1
"""fraction of validation captions below which repeated ones are not reported"""
MIN_ODDS_RATIO = 2.0
"""odds that a validation caption repeats a training caption, relative to chance, from which on
repeated captions are reported"""
MIN_NEIGHBORS = 0.5
"""fraction of validation images with a neighbor in the training data from which on neighbors are
reported"""
MIN_SIMILARITY = 0.2
"""how much more the captions of neighbors must have in common than those of images far apart, as a
fraction of the most that is possible, for neighbors to be reported"""
_NUM_FAR = 20  # images that a validation image is compared with
_NUMBER = re.compile(r"(.*?)(\d{1,18})\D*?(\.\w+)?", re.DOTALL)  # the last one, and an extension


@dataclass(frozen=True)
class _Image:
    """An image with what its name and captions say."""

    name: str
    captions: tuple[str, ...]
    """cleaned captions"""
    is_train: bool
    folder: str
    """folder of the image if its name has a digit, like that of a scene, and if there are others"""
    sequence: str
    """path without the last number and what follows; empty without a number"""
    number: int

    @cached_property
    def words(self) -> frozenset[str]:
        """Return the words of all captions."""
        chunks = (chunk for caption in self.captions for chunk in caption.split())
        return frozenset(word for chunk in chunks for word in split_unspaced(chunk))


def check_split(
    train: Sequence[Sample], val: Sequence[Sample], text: CaptionText, one_dataset: bool = True
) -> Iterator[Finding]:
    """Yield warnings if validation images are too similar to training images.

    Args:
        train: Training images, each once.
        val: Validation images, each once.
        text: How captions are cleaned.
        one_dataset: Whether both are parts of one dataset, and so in one folder. Else each has a
            folder of its own, such as train/ and val/, which says nothing about scenes.
    """
    if len(val) < MIN_IMAGES:
        return
    train_names, val_names = relative_names(train), relative_names(val)
    if one_dataset:
        names = relative_names([*train, *val])
        train_names, val_names = names[: len(train)], names[len(train) :]
    images = [
        *_parse_images(train, train_names, text, True),
        *_parse_images(val, val_names, text, False),
    ]
    images.sort(key=lambda image: natural_sort_key(image.name))
    yield from _check_repeated(images)
    yield from _check_neighbors(images)


def _parse_images(
    samples: Sequence[Sample], names: Sequence[str], text: CaptionText, is_train: bool
) -> Iterator[_Image]:
    has_folders = len({PurePosixPath(name).parent for name in names}) > 1
    for sample, name in zip(samples, names, strict=True):
        cleaned = (clean_caption(caption, text.clean, sys.maxsize) for caption in sample.captions)
        folder = PurePosixPath(name).parent
        is_scene = has_folders and any(map(str.isdigit, folder.name))
        match = _NUMBER.fullmatch(name)
        yield _Image(
            name=name,
            captions=tuple(filter(None, cleaned)),
            is_train=is_train,
            folder=str(folder) if is_scene else "",
            sequence=match[1] if match else "",
            number=int(match[2]) if match else -1,
        )


def _check_repeated(images: Sequence[_Image]) -> Iterator[Finding]:
    """Yield a finding if validation captions repeat training captions more often than by chance.

    Args:
        images: All images, in natural order.
    """
    train = [image for image in images if image.is_train]
    val = [image for image in images if not image.is_train]
    repeated, by_chance = _measure_repeats(train, val)
    # Captions of one image are not independent: the images count.
    error = (max(by_chance, 0.01) * (1 - min(by_chance, 0.99)) / len(val)) ** 0.5
    is_frequent = repeated >= max(MIN_REPEATED, by_chance + 3 * error)
    if is_frequent and _odds(repeated) >= MIN_ODDS_RATIO * _odds(by_chance):
        yield Finding(
            "repeated_across_split",
            "",
            f"{repeated:.0%} of the validation captions are also training captions, word for word, "
            f"against {by_chance:.0%} by chance (training images far apart): scores measure "
            "memorization; hold out whole scenes with `data.group_pattern` or `data.group_column`, "
            "or the last images with `data.val_selection: blocks`",
        )


def _measure_repeats(train: Sequence[_Image], val: Sequence[_Image]) -> tuple[float, float]:
    """Return the fraction of validation captions that are training captions, and that by chance.

    Chance is how often captions of training images are also captions of training images far apart:
    these are as similar as unrelated images of this dataset are.

    Args:
        train: Training images, in natural order.
        val: Validation images.
    """
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for position, image in enumerate(train):
        for caption in image.captions:
            first.setdefault(caption, position)
            last[caption] = position
    far = _far_distance(train)
    by_chance = _mean(
        first[caption] < position - far or last[caption] > position + far
        for position, image in enumerate(train)
        for caption in image.captions
    )
    return _mean(caption in first for image in val for caption in image.captions), by_chance


def _far_distance(images: Sequence[_Image]) -> int:
    return min(FAR, len(images) // 10)


def _mean(values: Iterator[bool]) -> float:
    return mean([*map(float, values)] or [0.0])


def _odds(fraction: float) -> float:
    """Return the odds of a fraction, which is clipped because few captions prove no certainty."""
    fraction = min(max(fraction, 0.01), 0.99)
    return fraction / (1 - fraction)


def _check_neighbors(images: Sequence[_Image]) -> Iterator[Finding]:
    """Yield a finding if most validation images have a neighbor in the training data.

    Neighbors follow each other in a sequence, or are in the same numbered folder. Because unrelated
    images may be numbered, too, the captions of neighbors must also be more similar than those of
    images far apart.

    Args:
        images: All images, in natural order.
    """
    pairs = list(_find_neighbors(images))
    num_val = sum(not image.is_train for image in images)
    if len(pairs) < MIN_NEIGHBORS * num_val:
        return
    near = mean(_similarity(image, neighbor) for image, neighbor in pairs)
    far = mean([_similarity(*pair) for pair in _list_far_pairs(images)] or [1.0])
    if far == 1 or near - far < MIN_SIMILARITY * (1 - far):
        return
    image, neighbor = pairs[0]
    yield Finding(
        "neighbors_across_split",
        "",
        f"{len(pairs):,} of {num_val:,} validation images are neighbors of training images, such "
        f"as {image.name} and {neighbor.name}, and have {near:.0%} of the words of their captions "
        f"in common (images far apart: {far:.0%}): scores measure memorization; "
        f"{_suggest_split(pairs)}",
    )


def _find_neighbors(images: Sequence[_Image]) -> Iterator[tuple[_Image, _Image]]:
    """Yield each validation image that has a neighbor in the training data, with the neighbor."""
    steps = _find_steps(images)
    numbered = {(image.sequence, image.number): image for image in images if image.is_train}
    scenes = {image.folder: image for image in images if image.is_train and image.folder}
    for image in images:
        step = steps.get(image.sequence)
        numbers = (image.number - step, image.number + step) if step else ()
        neighbors = [numbered.get((image.sequence, number)) for number in numbers]
        neighbor = next(filter(None, [*neighbors, scenes.get(image.folder)]), None)
        if neighbor and not image.is_train:
            yield image, neighbor


def _find_steps(images: Sequence[_Image]) -> dict[str, int]:
    """Return the difference between the numbers of neighbors in each sequence.

    Names that differ only in a number are a sequence if most of the differences are equal: the
    numbers of frames and tiles are, those of a random sample of a larger dataset are not.
    """
    numbers: dict[str, set[int]] = defaultdict(set)
    for image in images:
        if image.number >= 0:
            numbers[image.sequence].add(image.number)
    steps = {}
    for sequence, members in numbers.items():
        gaps = Counter(after - before for before, after in pairwise(sorted(members)))
        step, count = gaps.most_common(1)[0] if gaps else (0, 0)
        if len(members) > 2 and 2 * count > gaps.total():
            steps[sequence] = step
    return steps


def _list_far_pairs(images: Sequence[_Image]) -> Iterator[tuple[_Image, _Image]]:
    """Yield validation images with training images far apart, spread over all of them."""
    far = _far_distance(images)
    others = range(0, len(images), max(1, len(images) // _NUM_FAR))
    for position, image in enumerate(images):
        if not image.is_train:
            for other in others:
                if abs(other - position) > far and images[other].is_train:
                    yield image, images[other]


def _similarity(image: _Image, other: _Image) -> float:
    """Return the fraction of the words of two images' captions that they have in common."""
    return len(image.words & other.words) / max(1, len(image.words | other.words))


def _suggest_split(pairs: Sequence[tuple[_Image, _Image]]) -> str:
    """Return how to split the data, with a pattern for its names."""
    groups = Counter(image.folder + "/" if image.folder else image.sequence for image, _ in pairs)
    blocks = "`data.val_selection: blocks`"
    if len(groups) < 2:
        return f"hold out the last images with {blocks}"
    pattern = re.sub(r"\d+", r"\\d+", re.escape(groups.most_common(1)[0][0]))
    if pattern.count("+") > MAX_QUANTIFIERS:
        pattern = r"^(.*?)\d+\D*$"
    return (
        f"hold out whole sequences with `data.group_pattern: '{pattern}'`, "
        f"and {blocks} with it to hold out the end of each instead"
    )
