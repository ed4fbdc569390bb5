"""Images opened as training would open them, and reduced to what a check needs of them."""

import hashlib
import os
from collections.abc import Generator, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

from PIL import ExifTags, Image

from cutline.errors import ImageError
from cutline.files import ImageRef
from cutline.image import ImageSource, open_image
from cutline.image.open import quiet
from cutline.image.prefetch import start_pool

GRID = (9, 8)
"""columns and rows of a thumb, as many as a difference hash needs"""
AT_ONCE = 256  # images asked for together: bounds memory, and how long Ctrl-C waits


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What is kept of an image: some 400 bytes."""

    width: int
    height: int
    traits: tuple[str, ...]
    """what is unusual about its file"""
    digest: bytes
    """of its pixels: equal for equal images"""
    thumb: bytes
    """RGB, 8 rows of 9"""


@dataclass(frozen=True, slots=True)
class ImageProblem:
    """Why there is no look."""

    kind: str
    """missing or unreadable"""
    sentence: str


ImageInfos: TypeAlias = Mapping[Any, ImageInfo | ImageProblem]
"""what was seen of each `Sample.image`"""


def inspect_images(
    sources: Iterable[ImageSource], workers: int = 0
) -> Generator[ImageInfo | ImageProblem]:
    """ImageInfo at images, in order, in threads, or in `workers` processes."""
    waiting = iter(sources)
    with start_pool(workers) as pool:
        while chunk := list(islice(waiting, AT_ONCE)):
            yield from pool.map(look, chunk, chunksize=8)


def look(source: ImageSource) -> ImageInfo | ImageProblem:
    """ImageInfo at one image."""
    try:
        image = open_image(source)
    except ImageError as error:
        return ImageProblem("missing" if _is_missing(source) else "unreadable", str(error))
    digest = hashlib.blake2b(
        image.tobytes(), digest_size=16, salt=f"{image.width}x{image.height}".encode()[:16]
    )
    thumb = image.resize(GRID, Image.Resampling.BOX).tobytes()
    return ImageInfo(image.width, image.height, _traits(source), digest.digest(), thumb)


def _is_missing(source: ImageSource) -> bool:
    if not isinstance(source, str | Path):
        return False
    try:
        os.stat(
            source
        )  # Path.exists() takes a folder that may not be read for one without the file
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False


def _traits(source: ImageSource) -> tuple[str, ...]:
    """What the header says, which the RGB image no longer does."""
    with (
        suppress(Exception),
        quiet(),
        Image.open(_file(source)) as header,
    ):  # broken EXIF data does not make a broken image
        traits = {
            "grey": header.mode in ("1", "L", "LA"),
            "of 16 bits or more": header.mode == "F" or header.mode.startswith("I"),
            "CMYK": header.mode == "CMYK",
            "transparent": header.has_transparency_data,
            "of several frames": getattr(header, "is_animated", False),
            "turned by EXIF": header.getexif().get(ExifTags.Base.Orientation, 1) != 1,
        }
        return tuple(name for name, true in traits.items() if true)
    return ()


def _file(source: Any) -> Any:
    if isinstance(source, ImageRef):
        source = source.read()
    return BytesIO(source) if isinstance(source, bytes) else source
