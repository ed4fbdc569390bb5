"""Small copies of images inside a page, which together stay within a size."""

import base64
import io
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from PIL import Image

from cutline.errors import ImageError
from cutline.image import ImageSource, open_thumbnail
from cutline.progress import Progress, no_progress

TOTAL_BYTES = 3 << 20
"""of all thumbnails of a page; Base64 makes a third more of them"""
MIN_BYTES, MAX_BYTES = 1200, 24_000
"""of one thumbnail: the first limit counts before the total, from 2,600 images on"""
MAX_SIZE, MIN_SIZE = 384, 40
"""longer side of a thumbnail, in pixels"""
MAX_EXACT_SIZE = 128
"""longer side of images, such as drawings, that are stored without loss if they fit"""
BYTES_PER_PIXEL = 0.16
"""of a photograph at QUALITY, to guess the size that fits"""
QUALITY = 68


class Thumbnails:
    """The images of a page: each is opened and stored once."""

    def __init__(self) -> None:
        self._sources: dict[object, tuple[int, ImageSource]] = {}

    def __len__(self) -> int:
        return len(self._sources)

    def add(self, source: ImageSource) -> int:
        """Return the number of an image on the page."""
        # Arrays cannot be compared; objects of a sample are the same in every gallery.
        source = str(source) if isinstance(source, Path) else source
        key = source if isinstance(source, str | bytes) else id(source)
        return self._sources.setdefault(key, (len(self), source))[0]

    def encode(self, progress: Progress = no_progress) -> list[str]:
        """Return the images as data URIs, "" for those that cannot be read."""
        sources = [source for _, source in self._sources.values()]
        max_bytes = limit_bytes(len(sources))
        uris = _map_threads(sources, max_bytes)
        return list(progress(uris, len(sources), "adding images to the report"))


def limit_bytes(num_images: int) -> int:
    """Return the number of bytes that each of some thumbnails may have."""
    return min(MAX_BYTES, max(MIN_BYTES, TOTAL_BYTES // max(1, num_images)))


def _map_threads(sources: Sequence[ImageSource], max_bytes: int) -> Iterator[str]:
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 2))  # Pillow releases the lock
    try:
        yield from pool.map(partial(make_data_uri, max_bytes=max_bytes), sources)
    finally:
        pool.shutdown(cancel_futures=True)


def make_data_uri(source: ImageSource, max_bytes: int = MAX_BYTES) -> str:
    """Return a small copy of an image as a data URI; "" if the image cannot be read."""
    data = make_thumbnail(source, max_bytes)
    return f"data:image/webp;base64,{base64.b64encode(data).decode()}" if data else ""


def make_thumbnail(source: ImageSource, max_bytes: int = MAX_BYTES) -> bytes:
    """Return a small copy of an image as a WebP file; b"" if the image cannot be read."""
    size = _guess_size(max_bytes)
    try:
        image = open_thumbnail(source, size)
    except ImageError:
        return b""
    is_small = max(image.size) < min(size, MAX_EXACT_SIZE + 1)  # and has not been reduced
    data = _save_webp(image, lossless=True) if is_small else b""
    if not is_small or len(data) > max_bytes:
        data = _encode(image, max_bytes)
    return data


def _guess_size(max_bytes: int) -> int:
    """Return the longer side of a photograph, with sides 4:3, of so many bytes."""
    return min(MAX_SIZE, round(math.sqrt(max_bytes / BYTES_PER_PIXEL * 4 / 3)))


def _encode(image: Image.Image, max_bytes: int) -> bytes:
    data = _save_webp(image, quality=QUALITY)
    while len(data) > max_bytes and max(image.size) > MIN_SIZE:
        size = max(MIN_SIZE, round(0.85 * max(image.size)))
        image = image.copy()
        image.thumbnail((size, size))
        data = _save_webp(image, quality=QUALITY)
    return data


def _save_webp(image: Image.Image, **options: object) -> bytes:
    data = io.BytesIO()
    image.save(data, "WEBP", **options)
    return data.getvalue()
