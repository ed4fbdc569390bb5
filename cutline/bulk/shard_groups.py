"""Samples in new tar shards: an image, its caption and its row, which have the same key."""

import hashlib
import json
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tarfile import ReadError
from typing import IO, Any, NamedTuple

from PIL import Image

from cutline.bulk.parts import Position
from cutline.bulk.record import Record
from cutline.bulk.shard_captions import encode_lines
from cutline.bulk.text_edit import encode_text
from cutline.bulk.text_names import path_for_id
from cutline.data.names import IMAGE_EXTENSIONS
from cutline.data.tar import split_member_name
from cutline.data.tar_reader import TarSource, iter_members
from cutline.data.tar_writer import TarWriter
from cutline.image.heif import is_heif
from cutline.messages import first_line

MAX_KEY_BYTES = 1000
_EXTENSIONS = {"JPEG": "jpg", "MPO": "jpg", "TIFF": "tif", "JPEG2000": "jp2"}
"""by Pillow's names of formats, where these are no extensions"""


class Group(NamedTuple):
    """The members of a sample in a shard."""

    key: str
    start: int
    """position of the first header"""
    end: int
    """position after the last block"""


@dataclass
class OldShard:
    """A shard that is there, parts of which go into the one that replaces it."""

    file: IO[bytes]
    groups: dict[Position, Group]
    """its samples, by the records that they were built from"""

    def keep(self, positions: Iterable[Position]) -> set[str]:
        """Keep only the samples with these records, and return their keys."""
        kept = set(positions)
        self.groups = {each: group for each, group in self.groups.items() if each in kept}
        return {group.key for group in self.groups.values()}

    def __contains__(self, position: Position) -> bool:
        return position in self.groups

    def copy(self, position: Position, tar: TarWriter) -> None:
        """Copy a sample.

        Raises:
            ReadError: It cannot be read.
            DataError: The tar file cannot be written.
        """
        group = self.groups[position]
        tar.copy(self.file, group.start, group.end)


@contextmanager
def open_old_shard(path: Path, positions: Sequence[Position]) -> Iterator[OldShard]:
    """Open a shard for the duration of the block.

    Args:
        path: The shard.
        positions: The records that it was built from; if there are none, it is not opened.

    Raises:
        TarError: It cannot be read.
    """
    if not positions:
        yield OldShard(BytesIO(), {})
        return
    with path.open("rb") as file:
        groups = read_groups(file)
        if len(groups) != len(positions):
            raise ReadError(f"it has {len(groups):,} samples, not {len(positions):,}")
        yield OldShard(file, dict(zip(positions, groups, strict=True)))


def read_groups(file: IO[bytes]) -> list[Group]:
    """Return the groups of members that have the same key.

    Raises:
        ReadError: The file cannot be read.
    """
    groups: list[Group] = []
    try:
        for member in iter_members(TarSource(file, seekable=True)):
            key, _ = split_member_name(member.name)
            if groups and groups[-1].key == key:
                groups[-1] = groups[-1]._replace(end=member.end)
            else:
                groups.append(Group(key, member.start, member.end))
    except OSError as error:
        raise ReadError(first_line(error)) from None
    return groups


def add_sample(
    tar: TarWriter, record: Record, image: bytes, name: str, keys: set[str], extension: str
) -> None:
    """Add a sample to a shard: its image, its caption or selected texts, and all columns.

    Args:
        tar: The shard.
        record: What is recorded of it.
        image: Bytes of the image.
        name: Name of the image.
        keys: Keys of the shard, to which its key is added.
        extension: Extension of the member that has the caption, without a dot.
    """
    key = make_key(record.id, keys)
    keys.add(key)
    tar.add(f"{key}.{find_image_extension(name, image)}", image)
    tar.add(f"{key}.{extension}", encode_lines(record.texts))
    tar.add(f"{key}.json", encode_text(json.dumps(collect_columns(record), ensure_ascii=False)))


def collect_columns(record: Record) -> dict[str, Any]:
    """Return the columns of a caption; for selected texts, a list for each of their columns.

    That of the texts is called `captions`, which readers of shards know.
    """
    names = list(record.kept[0]) if record.kept else []
    lists = {name: [text[name] for text in record.kept] for name in names}
    if "caption" in lists:
        lists = {"captions": lists.pop("caption"), **lists}
    return {**record.row, **lists}


def make_key(id: str, taken: Collection[str]) -> str:
    """Return the key of a sample in a shard: its id without extension and without further dots.

    Args:
        id: The id.
        taken: Keys of others. An image `a.png` beside `a.jpg` becomes `a_png`.
    """
    path = path_for_id(id)
    stem, _, extension = path.name.rpartition(".")
    is_image = bool(stem) and extension.lower() in IMAGE_EXTENSIONS
    key = str(path.with_name((stem if is_image else path.name).replace(".", "_")))
    if len(key.encode("utf-8", "surrogateescape")) > MAX_KEY_BYTES:
        key = hashlib.sha256(id.encode("utf-8", "surrogatepass")).hexdigest()
    if key in taken and is_image:
        key = f"{key}_{extension}"
    unique, number = key, 1
    while unique in taken:
        unique, number = f"{key}_{number}", number + 1
    return unique


def find_image_extension(name: str, data: bytes) -> str:
    """Return the extension of an image, without a dot: that of its name, or of its format."""
    extension = os.path.splitext(name)[1].lower().removeprefix(".")  # noqa: PTH122
    if extension in IMAGE_EXTENSIONS:
        return extension
    try:
        with Image.open(BytesIO(data)) as image:
            name = image.format or ""
    except Exception:  # it could be opened once; Pillow raises errors of many types
        name = "HEIC" if is_heif(data) else ""
    extension = _EXTENSIONS.get(name, name.lower())
    return extension if extension in IMAGE_EXTENSIONS else "jpg"
