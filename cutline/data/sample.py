"""`Sample`, an image with its captions; merge samples of the same image."""

import itertools
import os
import zlib
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import attrgetter
from typing import cast

from cutline.data.tolerant import Tolerant
from cutline.errors import DataError
from cutline.files import ImageRef

MAX_IMAGE_BYTES = 512 << 20
"""size of an image file in a shard or table, or at an address: 100 megapixels, the most that is
decoded, take 400 MB without compression"""


@dataclass(frozen=True, slots=True)
class Sample:
    """One image and its captions."""

    image: str | bytes | ImageRef
    """path or address of the image, its bytes, or a reference to it; not opened, so that it may be
    missing"""
    captions: tuple[str, ...]
    """captions as written, none of them blank; empty if there are none"""
    id: str
    """identifies the image independently of the folder that holds the dataset"""
    prompt: str | None = None
    """prompt of these captions, if it differs from the model's"""
    domain: str = ""
    """subset of the data that is also evaluated on its own, such as near-domain in NoCaps"""
    group: str = ""
    """scene, video, sequence or region, which a split into training and validation data does not
    divide; empty if the data does not say"""
    url: str = ""
    """address from which the image came, or comes, if the data says so"""

    @property
    def name(self) -> str:
        """Return the image's display name: its path, or the id if the image is given as bytes."""
        return self.id if isinstance(self.image, bytes) else str(self.image)

    @property
    def local_path(self) -> str:
        """Return the path of the image if it is a file of its own on this machine, or ""."""
        return self.image if isinstance(self.image, str) and not is_url(self.image) else ""

    def prompt_or(self, default: str) -> str:
        """Return the sample's own prompt, which may be empty, or `default` if it has none."""
        return default if self.prompt is None else self.prompt


def stamp_image(image: str | bytes | ImageRef) -> str:
    """Return what changes when an image does: size and time of its file; empty if unknown."""
    if isinstance(image, ImageRef):
        return image.stamp()
    if isinstance(image, bytes):
        return f"{len(image)}-{zlib.crc32(image)}"
    try:
        status = os.stat(image)  # noqa: PTH116  # Path("") is the current folder
    except (OSError, ValueError):
        return ""
    return f"{status.st_size}-{status.st_mtime_ns}"


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
    return [_join_captions(group) for group in groups.values()]


def _join_captions(group: list[Sample]) -> Sample:
    if len(group) == 1:
        return group[0]
    captions = tuple(caption for sample in group for caption in sample.captions)
    return replace(group[0], captions=captions)


def merge_rows(rows: Iterable[Sample]) -> list[Sample]:
    """Merge the rows of a data file that have the same image, prompt and group."""
    return group_by_image(rows, attrgetter("image", "prompt", "group"))


def is_url(name: str) -> bool:
    """Return whether an image is named by an address, such as `https://…` or `s3://…`."""
    return "://" in name


def merge_adjacent(rows: Tolerant[Sample]) -> Tolerant[Sample]:
    """Merge adjacent rows that have the same image, prompt and group, and pass on errors."""
    for key, group in itertools.groupby(rows, _row_key):
        if isinstance(key, DataError):
            yield key
        else:
            yield _join_captions(list(cast(Iterator[Sample], group)))


def _row_key(row: Sample | DataError) -> Hashable:
    return row if isinstance(row, DataError) else (row.image, row.prompt, row.group)


@lru_cache(maxsize=1)  # rows of the same image usually follow each other
def image_path(name: str, root: str) -> str:
    """Return the normalized path of an image that a data file names relative to `root`.

    Absolute paths and URLs are kept.
    """
    if is_url(name):
        return name
    # pathlib would take ten times as long.
    return os.path.normpath(os.path.join(root, name))  # noqa: PTH118
