"""`Sample`, an image with its captions; group and split samples by image."""

import hashlib
import os
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import attrgetter

from cutline.files import ImageRef

MAX_IMAGE_BYTES = 512 << 20
"""size of an image file in a shard or table: 100 megapixels, the most that is decoded, take 400 MB
without compression"""


@dataclass(frozen=True, slots=True)
class Sample:
    """One image and its captions."""

    image: str | bytes | ImageRef
    """path of the image, its bytes, or its position in a shard or table; not opened, so the file
    may be missing"""
    captions: tuple[str, ...]
    """captions as written, none of them blank; empty if there are none"""
    id: str
    """identifies the image independently of the folder that holds the dataset"""
    prompt: str | None = None
    """prompt of these captions, if it differs from the model's"""
    domain: str = ""
    """subset of the data that is also evaluated on its own, such as near-domain in NoCaps"""

    @property
    def name(self) -> str:
        """Return the image's display name: its path, or the id if the image is given as bytes."""
        return self.id if isinstance(self.image, bytes) else str(self.image)

    def prompt_or(self, default: str) -> str:
        """Return the sample's own prompt, which may be empty, or `default` if it has none."""
        return default if self.prompt is None else self.prompt


def group_by_image(
    samples: Iterable[Sample], key: Callable[[Sample], Hashable] = attrgetter("image")
) -> list[Sample]:
    """Merge the samples of each image into one.

    Args:
        samples: Samples in any order.
        key: Samples with the same key are merged (default: `sample.image`).

    Returns:
        One sample per key, in the order of the first samples. It has the captions of all samples of
        its key; everything else is taken from the first.
    """
    groups: dict[Hashable, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(key(sample), []).append(sample)
    return [group[0] if len(group) == 1 else _join_captions(group) for group in groups.values()]


def _join_captions(group: list[Sample]) -> Sample:
    captions = tuple(caption for sample in group for caption in sample.captions)
    return replace(group[0], captions=captions)


def merge_rows(rows: Iterable[Sample]) -> list[Sample]:
    """Merge the rows of a data file that have the same image and the same prompt."""
    return group_by_image(rows, attrgetter("image", "prompt"))


def split_by_image(
    samples: Sequence[Sample], fraction: float, seed: int
) -> tuple[list[Sample], list[Sample]]:
    """Hold out a random fraction of the images, for example for validation.

    All samples with the same id go to the same side. Which ids are held out depends on the set of
    ids and on the seed, not on the order of the samples.

    Args:
        samples: Samples to split.
        fraction: Fraction of the images to hold out, in [0, 1). If it is above 0 and there are two
            images or more, neither side is empty.
        seed: Seed of the random choice.

    Returns:
        The remaining and the held-out samples, both in the order given.
    """
    ids = sorted({sample.id for sample in samples}, key=lambda id: _random_rank(id, seed))
    count = min(max(1, round(fraction * len(ids))), len(ids) - 1) if fraction > 0 else 0
    held_out = set(ids[: max(0, count)])
    return [s for s in samples if s.id not in held_out], [s for s in samples if s.id in held_out]


def _random_rank(id: str, seed: int) -> bytes:
    """Return a sort key that shuffles ids in the same way in every run, as `hash()` would not."""
    return hashlib.sha256(f"{seed}:{id}".encode("utf-8", "surrogatepass")).digest()


@lru_cache(maxsize=1)  # rows of the same image usually follow each other
def image_path(name: str, root: str) -> str:
    """Return the normalized path of an image that a data file names relative to `root`.

    Absolute paths and URLs are kept.
    """
    if "://" in name:
        return name
    # pathlib would take ten times as long.
    return os.path.normpath(os.path.join(root, name))  # noqa: PTH118
