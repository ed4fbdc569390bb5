"""`Thumbnails`: images of rows as small JPEG files, made when the page asks for them."""

import io
import threading
from collections import OrderedDict

from cutline.data.sample import is_url, stamp_image
from cutline.errors import ImageError
from cutline.image.resize import open_thumbnail
from cutline.serving.review.row import Row

SIZES = {"small": 160, "large": 1600}
"""pixels of the longer side"""
MAX_CACHE_BYTES = 64 << 20
QUALITY = 88


class Thumbnails:
    """Images of rows as small JPEG files.

    Whatever a row names is opened as an image and written anew, so that nothing else of a disk can
    be read through the page.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cache: OrderedDict[tuple[int, str, str], bytes] = OrderedDict()
        self._num_bytes = 0

    def make(self, row: Row, size: str) -> bytes:
        """Return the image of a row as JPEG.

        Args:
            row: The row.
            size: One of `SIZES`.

        Raises:
            ImageError: The image cannot be read.
        """
        if isinstance(row.image, str) and is_url(row.image):
            raise ImageError("the image is at an address; download it to see it here")
        key = (row.number, size, stamp_image(row.image))
        with self._lock:
            if (data := self._cache.get(key)) is not None:
                self._cache.move_to_end(key)
                return data
        file = io.BytesIO()
        open_thumbnail(row.image, SIZES[size]).save(file, "JPEG", quality=QUALITY)
        data = file.getvalue()
        self._keep(key, data)
        return data

    def _keep(self, key: tuple[int, str, str], data: bytes) -> None:
        with self._lock:
            self._num_bytes += len(data) - len(self._cache.pop(key, b""))
            self._cache[key] = data
            while self._num_bytes > MAX_CACHE_BYTES:
                self._num_bytes -= len(self._cache.popitem(last=False)[1])
