"""Tar files of images with their captions, as webdataset and img2dataset write them.

The image `000.jpg` has its captions beside it, in `000.txt`, `000.caption` or `000.json`.
"""

import json
import logging
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tarfile import TarError

from cutline.data.names import IMAGE_EXTENSIONS, SIDECAR_EXTENSIONS
from cutline.data.row import CAPTION_KEYS, find_url, first_value, parse_captions
from cutline.data.sample import MAX_IMAGE_BYTES, Sample, stamp_image
from cutline.data.tar_reader import Member, TarSource, iter_members
from cutline.data.text import decode_text, parse_json, split_lines
from cutline.data.tolerant import Tolerant, attempt
from cutline.errors import DataError, ImageError
from cutline.files import ImageRef
from cutline.messages import format_text

logger = logging.getLogger(__name__)

MAX_CAPTION_BYTES = 16 << 20
"""size of a member that may have captions"""
CAPTION_EXTENSIONS = (*SIDECAR_EXTENSIONS, "captions.json", "json")
"""members that may have captions; the first of these that has any is used"""
_EXTENSIONS = IMAGE_EXTENSIONS.union(CAPTION_EXTENSIONS)
# As in webdataset, the key ends at the first dot of the file name.
_MEMBER_NAME = re.compile(r"(?:\./)?((?:.*/)?[^./][^./]*)\.([^/]+)")

Content = bytes | ImageRef
Members = dict[str, Content]  # by extension
TAR_ERRORS = (TarError, OSError, EOFError, zlib.error)
"""errors that reading a damaged tar file raises"""


def split_member_name(name: str) -> tuple[str, str]:
    """Return the key of a member, and its extension in lower case; both "" if it has none."""
    match = _MEMBER_NAME.fullmatch(name)
    return (match[1], match[2].lower()) if match else ("", "")


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
    modified: float = 0
    """time of its last change; 0 if unknown"""

    def __str__(self) -> str:
        return f"{self.shard}/{format_text(self.name)}"

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

    def stamp(self) -> str:
        """Return the size, and the time of the last change, else that of the shard."""
        return f"{self.size}-{self.modified or stamp_image(self.shard)}"


def iter_tar(path: str) -> Tolerant[Sample]:
    """Yield the images of an uncompressed tar file, except for their bytes.

    Captions are in `key.txt` or `key.caption`, one per line, or in `key.json` under `captions`,
    `caption`, `text` or `comment`, or in `key.captions.json`. The members of a key may be apart
    from each other. Members that are too large or sparse are skipped, with a warning.

    Yields:
        The images in the order of the file, the id of each being the name of the tar file and its
        key, and the errors of captions that cannot be read. If the file is damaged, the error comes
        first, before the images that precede the damage.

    Raises:
        DataError: Nothing of the file can be read.
    """
    groups: dict[str, Members] = {}
    try:
        _group_members(path, groups)
    except DataError as error:
        if not groups:
            raise
        yield error
    for key, members in groups.items():
        sample = attempt(join_members, path, key, members)
        if sample is not None:
            yield sample


def _group_members(path: str, groups: dict[str, Members]) -> None:
    """Add the members of a tar file to `groups`, by key. Raises DataError if it is damaged."""
    try:
        with Path(path).open("rb") as file:
            source = TarSource(file, seekable=True)
            for key, extension, content in read_members(
                source,
                path,
                lambda member: TarImage(
                    path, member.name, member.offset, member.size, member.modified
                ),
            ):
                groups.setdefault(key, {}).setdefault(extension, content)
    except TAR_ERRORS as error:
        raise DataError(
            f"{path}: not a tar file that can be read ({error}); "
            "decompress it if it is compressed, otherwise copy it again"
        ) from None


def read_members(
    source: TarSource, shard: str, locate: Callable[[Member], ImageRef] | None = None
) -> Iterator[tuple[str, str, Content]]:
    """Yield the images and caption files in a tar file; only the first image of each key.

    Members that are too large or sparse are skipped, with a warning.

    Args:
        source: An open tar file.
        shard: Its name.
        locate: Makes a reference to an image, so that its bytes are not read.

    Yields:
        Key, extension and content of each. The content is bytes or, for images, the result of
            `locate`.

    Raises:
        TAR_ERRORS: The file is damaged.
    """
    last_image = ""
    for member in iter_members(source):
        key, extension = split_member_name(member.name)
        is_image = extension in IMAGE_EXTENSIONS
        if extension not in _EXTENSIONS or (is_image and key == last_image):
            continue
        if problem := member.problem or _describe_excess(member.size, is_image):
            logger.warning("%s/%s: skipped, because %s", shard, format_text(member.name), problem)
            continue
        last_image = key if is_image else last_image
        yield key, extension, locate(member) if is_image and locate else source.read_member(member)


def _describe_excess(size: int, is_image: bool) -> str:
    """Return what to say of a member that is too large, or ""."""
    limit = MAX_IMAGE_BYTES if is_image else MAX_CAPTION_BYTES
    return f"it has {size:,} bytes, more than {limit:,}" if size > limit else ""


def join_members(shard: str, key: str, members: Members) -> Sample | None:
    """Return the sample that the members of a key make up, or None if there is no image.

    Raises:
        DataError: A caption file cannot be read.
    """
    images = (members[extension] for extension in members if extension in IMAGE_EXTENSIONS)
    image = next(images, None)
    if image is None:
        return None
    captions = _read_captions(members, f"{shard}/{format_text(key)}")
    return Sample(image, captions, f"{Path(shard).name}/{key}", url=_read_url(members.get("json")))


def _read_url(data: Content | None) -> str:
    """Return the address in img2dataset's JSON file of an image, or ""."""
    if isinstance(data, bytes) and b'url"' in data:
        with suppress(ValueError, RecursionError):
            value = json.loads(data)
            return find_url(value) if isinstance(value, dict) else ""
    return ""


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
