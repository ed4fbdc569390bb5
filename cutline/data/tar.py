"""Tar files of images with their captions, as webdataset and img2dataset write them.

The image `000.jpg` has its captions beside it, in `000.txt` or `000.json`.
"""

import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from cutline.data.folder import IMAGE_EXTENSIONS
from cutline.data.row import CAPTION_KEYS, first_value, parse_captions
from cutline.data.sample import Sample
from cutline.data.text import decode_text, parse_json, split_lines
from cutline.errors import DataError, ImageError
from cutline.files import ImageRef

CAPTION_EXTENSIONS = ("txt", "captions.json", "json")
"""members that may have captions; the first of these that has any is used"""
_EXTENSIONS = IMAGE_EXTENSIONS.union(CAPTION_EXTENSIONS)
# As in webdataset, the key ends at the first dot of the file name.
_MEMBER_NAME = re.compile(r"(?:\./)?((?:.*/)?[^./][^./]*)\.([^/]+)")

Content = bytes | ImageRef
Members = dict[str, Content]  # by extension
TAR_ERRORS = (tarfile.TarError, OSError, EOFError, zlib.error)
"""errors that reading a damaged tar file raises"""


@dataclass(frozen=True, slots=True)
class TarImage(ImageRef):
    """An image in an uncompressed tar file."""

    shard: str
    """path of the tar file"""
    name: str
    """name of the member"""
    offset: int
    """position of its first byte in the tar file"""
    size: int
    """bytes"""

    def __str__(self) -> str:
        return f"{self.shard}/{self.name}"

    def read(self) -> bytes:
        """Return the bytes of the image file.

        Raises:
            ImageError: The shard is missing or truncated.
        """
        try:
            with Path(self.shard).open("rb") as file:
                file.seek(self.offset)
                data = file.read(self.size)
        except OSError as error:
            raise ImageError(
                f"{self}: the shard cannot be opened ({error.strerror}); "
                "check the path and its permissions"
            ) from None
        if len(data) < self.size:
            raise ImageError(f"{self}: the shard ends before the image does; copy it again")
        return data


def read_tar(path: str) -> list[Sample]:
    """Read an uncompressed tar file, except for the bytes of its images.

    Captions are in `key.txt`, one per line, or in `key.json` under `captions`, `caption`, `text` or
    `comment`, or in `key.captions.json`. The members of a key may be apart from each other.

    Returns:
        The images in the order of the file; the id of each is the name of the tar file and its key.

    Raises:
        DataError: The file, or a caption in it, cannot be read.
    """
    groups: dict[str, Members] = {}
    try:
        with tarfile.open(path, "r:", tarinfo=_StrictHeader) as tar:
            for key, extension, content in read_members(
                tar, lambda info: TarImage(path, info.name, info.offset_data, info.size)
            ):
                groups.setdefault(key, {}).setdefault(extension, content)
    except TAR_ERRORS as error:
        raise DataError(
            f"{path}: not a tar file that can be read ({error}); "
            "decompress it if it is compressed, otherwise copy it again"
        ) from None
    samples = (join_members(path, key, members) for key, members in groups.items())
    return [sample for sample in samples if sample]


def open_stream(stream: IO[bytes]) -> tarfile.TarFile:
    """Open a tar file, compressed or not, that is read once from front to back.

    Raises:
        TAR_ERRORS: The stream is not a tar file.
    """
    return tarfile.open(fileobj=stream, mode="r|*", tarinfo=_StrictHeader)


def read_members(
    tar: tarfile.TarFile, locate: Callable[[tarfile.TarInfo], ImageRef] | None = None
) -> Iterator[tuple[str, str, Content]]:
    """Yield the images and caption files in a tar file.

    Args:
        tar: An open tar file.
        locate: Makes a reference from the header of an image, so that its bytes are not read.

    Yields:
        Key, extension and content of each. The content is bytes or, for images, the result of
            `locate`.

    Raises:
        TAR_ERRORS: The file is damaged.
    """
    while info := tar.next():
        name = _MEMBER_NAME.fullmatch(info.name)
        if not name or not info.isfile():
            continue
        key, extension = name[1], name[2].lower()
        if extension in IMAGE_EXTENSIONS and locate:
            yield key, extension, locate(info)
        elif extension in _EXTENSIONS and (file := tar.extractfile(info)):
            yield key, extension, file.read()


def join_members(shard: str, key: str, members: Members) -> Sample | None:
    """Return the sample that the members of a key make up, or None if there is no image.

    Raises:
        DataError: A caption file cannot be read.
    """
    images = (members[extension] for extension in members if extension in IMAGE_EXTENSIONS)
    image = next(images, None)
    if image is None:
        return None
    return Sample(image, _read_captions(members, f"{shard}/{key}"), f"{Path(shard).name}/{key}")


def _read_captions(members: Members, name: str) -> tuple[str, ...]:
    for extension in CAPTION_EXTENSIONS:
        data = members.get(extension)
        if isinstance(data, bytes):
            captions = _parse_captions(data, f"{name}.{extension}")
            if captions:
                return captions
    return ()


def _parse_captions(data: bytes, name: str) -> tuple[str, ...]:
    text = decode_text(data, name)
    if not name.endswith("json"):
        return split_lines(text)
    value = parse_json(text, name)
    return parse_captions(
        first_value(value, CAPTION_KEYS) if isinstance(value, dict) else value, name
    )


_DAMAGED_HEADER: tuple[type[tarfile.TarError], ...] = (
    tarfile.InvalidHeaderError,  # type: ignore[attr-defined]  # missing in the stubs
    tarfile.TruncatedHeaderError,  # type: ignore[attr-defined]
)


class _StrictHeader(tarfile.TarInfo):
    """Header of a member; a damaged one is an error.

    `tarfile` itself would mistake it for the end of the file, and silently drop the rest.
    """

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> "_StrictHeader":
        try:
            return super().fromtarfile(tar)
        except _DAMAGED_HEADER:
            raise tarfile.ReadError("a header is damaged") from None
