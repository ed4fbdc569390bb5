"""Inspect images: open them as training does, and keep what a check needs of them."""

import hashlib
import os
from collections.abc import Generator, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeAlias

from PIL import ExifTags, Image

from cutline.errors import ImageError
from cutline.files import ImageRef
from cutline.image import ImageSource, describe_failure, hold_image
from cutline.image.open import name_image, silence_pillow
from cutline.image.pool import ProcessDiedError
from cutline.image.prefetch import start_pool

HASH_THUMBNAIL_SIZE = (9, 8)
"""width and height of a thumbnail: what a 64-bit difference hash needs"""
CHUNK_SIZE = 256
"""images submitted to the pool together; it bounds memory, and how long Ctrl-C waits"""


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """Facts about a readable image; they take about 400 bytes."""

    width: int
    height: int
    attributes: tuple[str, ...]
    """unusual attributes of the file"""
    digest: bytes
    """hash of the pixels: equal for equal images"""
    thumbnail: bytes
    """RGB pixels of size HASH_THUMBNAIL_SIZE"""


@dataclass(frozen=True, slots=True)
class ImageProblem:
    """Why an image cannot be read."""

    kind: Literal["missing", "unreadable"]
    """the kind of finding"""
    message: str
    """the error message, which says which image it is"""


ImageInfos: TypeAlias = Mapping[Any, ImageInfo | ImageProblem]
"""`Sample.image` → what is known about it"""


def inspect_images(
    sources: Iterable[ImageSource], num_workers: int = 0
) -> Generator[ImageInfo | ImageProblem]:
    """Yield facts about images, in order.

    Args:
        sources: The images; they are consumed in chunks of CHUNK_SIZE.
        num_workers: Processes that open images (0: threads of this process).
    """
    remaining = iter(sources)
    pool = start_pool(num_workers)
    try:
        while chunk := list(islice(remaining, CHUNK_SIZE)):
            futures = [pool.submit(inspect_image, source) for source in chunk]
            for source, future in zip(chunk, futures, strict=True):
                yield _result_of(future, source)
    finally:
        pool.shutdown(cancel_futures=True)


def _result_of(
    future: Future[ImageInfo | ImageProblem], source: ImageSource
) -> ImageInfo | ImageProblem:
    """Return a result; for an image that killed the processes that opened it, a problem."""
    try:
        return future.result()
    except ProcessDiedError as error:
        return ImageProblem("unreadable", str(describe_failure(name_image(source), error)))


def inspect_image(source: ImageSource) -> ImageInfo | ImageProblem:
    """Return facts about an image, or why it cannot be read."""
    try:
        with hold_image(source) as image:
            return _describe(image, source)
    except ImageError as error:
        return ImageProblem("missing" if _is_missing(source) else "unreadable", str(error))


def _describe(image: Image.Image, source: ImageSource) -> ImageInfo:
    # Images of different shapes may have the same bytes; the salt tells them apart.
    salt = f"{image.width}x{image.height}".encode()[:16]
    digest = hashlib.blake2b(image.tobytes(), digest_size=16, salt=salt).digest()
    thumbnail = image.resize(HASH_THUMBNAIL_SIZE, Image.Resampling.BOX).tobytes()
    return ImageInfo(image.width, image.height, _read_attributes(source), digest, thumbnail)


def _is_missing(source: ImageSource) -> bool:
    """Return whether `source` is a path without a file.

    Not Path.exists(), which is also false for a file in a folder that may not be read.
    """
    if not isinstance(source, str | Path):
        return False
    try:
        os.stat(source)  # noqa: PTH116  # Path("") is the current folder
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False


def _read_attributes(source: ImageSource) -> tuple[str, ...]:
    """Return the unusual attributes in the header of an image file."""
    # Ignore all errors: an image with broken EXIF data is readable.
    with suppress(Exception), silence_pillow(), Image.open(_as_file(source)) as header:
        attributes = {
            "grayscale": header.mode in ("1", "L", "LA"),
            "with 16 bits or more": header.mode == "F" or header.mode.startswith("I"),
            "CMYK": header.mode == "CMYK",
            "transparent": header.has_transparency_data,
            "with several frames": getattr(header, "is_animated", False),
            "rotated by EXIF": header.getexif().get(ExifTags.Base.Orientation, 1) != 1,
        }
        return tuple(name for name, present in attributes.items() if present)
    return ()


def _as_file(source: ImageSource) -> Any:
    """Return `source` in a form that `Image.open` accepts."""
    if isinstance(source, ImageRef):
        source = source.read()
    return BytesIO(source) if isinstance(source, bytes) else source
