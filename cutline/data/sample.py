"""`Sample`, and what all readers share."""

import codecs
import json
import os
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import attrgetter
from pathlib import Path

from cutline.errors import DataError
from cutline.files import ImageRef


@dataclass(frozen=True, slots=True)
class Sample:
    """One image and its captions."""

    image: str | bytes | ImageRef
    """path of the image, its bytes, or its place in a shard or table; not opened, so it may not
    exist"""
    captions: tuple[str, ...]
    """captions as written, none of them blank; empty if there are none"""
    id: str
    """identifies the image independently of the folder that holds the data set"""
    prompt: str | None = None
    """prompt of these captions, if it differs from the model's"""
    domain: str = ""
    """subset of the data that is also measured on its own, such as near-domain in NoCaps"""

    @property
    def name(self) -> str:
        """The image's display name: its path, or the id if the image is given as bytes."""
        return self.id if isinstance(self.image, bytes) else str(self.image)

    def prompt_or(self, default: str) -> str:
        """Return the sample's own prompt, which may be empty, or `default` if it has none."""
        return default if self.prompt is None else self.prompt


def group_by_image(
    samples: Iterable[Sample], key: Callable[[Sample], Hashable] = attrgetter("image")
) -> list[Sample]:
    """Join the captions of samples that show the same image.

    Args:
        samples: samples in any order.
        key: returns what samples of one image have in common; by default `sample.image`.

    Returns:
        One sample per key, in the order of their first samples, with the captions of all of its
        samples; everything else is that of the first.
    """
    groups: dict[Hashable, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(key(sample), []).append(sample)
    return [group[0] if len(group) == 1 else _join_captions(group) for group in groups.values()]


def _join_captions(group: list[Sample]) -> Sample:
    captions = tuple(caption for sample in group for caption in sample.captions)
    return replace(group[0], captions=captions)


def merge_rows(rows: Iterable[Sample]) -> list[Sample]:
    """Join the rows of a data file that have both image and prompt in common."""
    return group_by_image(rows, attrgetter("image", "prompt"))


@lru_cache(maxsize=1)  # the rows of an image follow each other
def image_path(name: str, root: str) -> str:
    """The path of the image that a data file calls `name`; absolute names and URLs stay as they are."""
    return (
        name if "://" in name else os.path.normpath(os.path.join(root, name))
    )  # a Path is ten times slower


def read_text(path: Path) -> str:
    """Text in UTF-8, with or without its byte-order mark, or in UTF-16 with one. Raises DataError naming file and line."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); check the path and its permissions"
        ) from None
    return decode_text(data, str(path))


def decode_text(data: bytes, name: str) -> str:
    """The text of a file called `name`, as `read_text` reads it. Raises DataError naming file and line."""
    try:
        return data.decode(
            "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
        )
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{name}, line {line}: not UTF-8 text; save the file as UTF-8") from None


def parse_json(text: str, where: str) -> object:
    """The value that `text` holds. Raises DataError beginning with `where`."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{where}: not JSON ({error.msg} at column {error.colno}); mend or remove it"
        ) from None
    except (
        ValueError,
        RecursionError,
    ) as error:  # numbers of thousands of digits, brackets nested as deep
        raise DataError(
            f"{where}: not JSON that can be read ({error}); mend or remove it"
        ) from None
