"""`Sample`, and what all readers share."""

import codecs
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from cutline.errors import DataError
from cutline.files import ImageRef


@dataclass(frozen=True, slots=True)
class Sample:
    """One image and what is said of it."""

    image: str | bytes | ImageRef
    """the image's path, its bytes, or its place in a shard or table; whether it exists is seen when it is opened"""
    captions: tuple[str, ...]
    """the captions as written, none of them blank; empty where there are none"""
    id: str
    """names the image whatever folder the data set lies in"""
    prompt: str | None = None
    """what its captions begin with, where that is not the model's prompt"""
    domain: str = ""
    """the part of the data it belongs to, such as NoCaps' near-domain, where they have parts that are measured by themselves"""


def merge(samples: Iterable[Sample]) -> list[Sample]:
    """Join the captions of samples that have image and prompt in common; order is kept, the first id counts."""
    rows: dict[tuple[str | bytes | ImageRef, str | None], list[Sample]] = {}
    for sample in samples:
        rows.setdefault((sample.image, sample.prompt), []).append(sample)
    return [same[0] if len(same) == 1 else _join(same) for same in rows.values()]


def _join(same: list[Sample]) -> Sample:
    return replace(
        same[0], captions=tuple(caption for sample in same for caption in sample.captions)
    )


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
