"""Tar files of images with their captions, `000.jpg` beside `000.txt` or `000.json`, as webdataset and img2dataset write them."""

import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from cutline.data.folder import IMAGE_SUFFIXES
from cutline.data.row import CAPTION_KEYS, first_of, parse_captions
from cutline.data.sample import Sample, decode_text, parse_json
from cutline.errors import DataError, ImageError
from cutline.files import ImageRef

PICTURE_KINDS = frozenset(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES)
CAPTION_KINDS = ("txt", "captions.json", "json")  # the first that says something counts
_NAME = re.compile(
    r"(?:\./)?((?:.*/)?[^./][^./]*)\.([^/]+)"
)  # as in webdataset: the key ends at the first dot

Content = bytes | ImageRef
Named = tuple[str, str, Content]  # key, kind, content
BROKEN = (tarfile.TarError, OSError, EOFError, zlib.error)
"""what reading a broken tar raises"""


@dataclass(frozen=True, slots=True)
class Member(ImageRef):
    """An image inside a tar file."""

    shard: str
    name: str
    offset: int
    """bytes before it"""
    size: int
    """bytes of it"""

    def __str__(self) -> str:
        return f"{self.shard}/{self.name}"

    def read(self) -> bytes:
        """The bytes of the image. Raises ImageError."""
        try:
            with Path(self.shard).open("rb") as file:
                file.seek(self.offset)
                data = file.read(self.size)
        except OSError as error:
            raise ImageError(
                f"{self}: the shard cannot be opened ({error.strerror}); check the path and its permissions"
            ) from None
        if len(data) < self.size:
            raise ImageError(f"{self}: the shard ends before the image does; copy it again")
        return data


def read_tar(path: str) -> list[Sample]:
    """The images in an uncompressed tar file, in its order, with their captions; the bytes of images are not read.

    Captions are in `key.txt`, one per line, or in `key.json` under `captions`, `caption` or `text`, or in `key.captions.json`. A
    image's id is the file's name and the key. Raises DataError.
    """
    groups: dict[str, dict[str, Content]] = {}  # a key's members need not follow each other
    try:
        with tarfile.open(path, "r:", tarinfo=_Header) as tar:
            for key, kind, content in read_members(
                tar, lambda info: Member(path, info.name, info.offset_data, info.size)
            ):
                groups.setdefault(key, {}).setdefault(kind, content)
    except BROKEN as error:
        raise DataError(
            f"{path}: not a tar that can be read ({error}); unpack it if it is compressed, else copy it again"
        ) from None
    samples = (make_sample(path, key, parts) for key, parts in groups.items())
    return [sample for sample in samples if sample]


def open_stream(stream: IO[bytes]) -> tarfile.TarFile:
    """A tar that is read once, from front to back; it may be compressed. Raises one of BROKEN."""
    return tarfile.open(fileobj=stream, mode="r|*", tarinfo=_Header)


def read_members(
    tar: tarfile.TarFile, find: Callable[[tarfile.TarInfo], Content] | None = None
) -> Iterator[Named]:
    """Key, kind and bytes of every image and caption; for images what `find` gives, if it is there. Raises one of BROKEN."""
    while info := tar.next():
        name = _NAME.fullmatch(info.name)
        kind = name[2].lower() if name and info.isfile() else ""
        if name and kind in PICTURE_KINDS and find:
            yield name[1], kind, find(info)
        elif (
            name
            and (kind in PICTURE_KINDS or kind in CAPTION_KINDS)
            and (file := tar.extractfile(info))
        ):
            yield name[1], kind, file.read()


def make_sample(shard: str, key: str, parts: dict[str, Content]) -> Sample | None:
    """The sample of the members called `key`, by their kinds; None without an image. Raises DataError for broken captions."""
    picture = next((content for kind, content in parts.items() if kind in PICTURE_KINDS), None)
    return (
        Sample(picture, _captions(parts, f"{shard}/{key}"), f"{Path(shard).name}/{key}")
        if picture is not None
        else None
    )


def _captions(parts: dict[str, Content], where: str) -> tuple[str, ...]:
    for kind in CAPTION_KINDS:
        if isinstance(data := parts.get(kind), bytes):
            text, name = decode_text(data, f"{where}.{kind}"), f"{where}.{kind}"
            captions = (
                _of_json(parse_json(text, name), name) if kind.endswith("json") else _of_lines(text)
            )
            if captions:
                return captions
    return ()


def _of_lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.split("\n") if line.strip())


def _of_json(value: object, where: str) -> tuple[str, ...]:
    return parse_captions(
        first_of(value, CAPTION_KEYS) if isinstance(value, dict) else value, where
    )


class _Header(tarfile.TarInfo):
    """A member's header; `tarfile` takes a broken one for the end of the file, and says nothing."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> "_Header":
        try:
            return super().fromtarfile(tar)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError):  # type: ignore[attr-defined]  # the stubs lack them
            raise tarfile.ReadError("a header is broken") from None
