"""`ParquetImage`: an image whose bytes are in a Parquet file."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

from cutline.data.parquet_file import open_parquet, read_columns
from cutline.data.sample import MAX_IMAGE_BYTES, stamp_image
from cutline.errors import ImageError
from cutline.files import ImageRef
from cutline.messages import first_line


@dataclass(frozen=True, slots=True)
class ParquetImage(ImageRef):
    """An image in a Parquet file.

    Reading it loads its column of the entire row group; the last two loaded are cached.
    """

    path: str
    column: str
    group: int
    """row group, from 0"""
    index: int
    """row within the group, from 0"""
    row: int
    """row within the file, from 1"""

    def __str__(self) -> str:
        return f"{self.path}, row {self.row}"

    def read(self) -> bytes:
        """Return the bytes of the image file.

        Raises:
            ImageError: The row has no image, or the Parquet file is missing, damaged or changed.
        """
        try:
            modified = Path(self.path).stat().st_mtime_ns
            with _lock:  # or every thread would load the same row group
                images = _load_column(self.path, modified, self.column, self.group)
            value = images[self.index].as_py()
        except Exception as error:  # from the file system, pyarrow, or a file with fewer rows now
            reason = first_line(error)
            raise ImageError(
                f"{self}: the table cannot be read ({reason}); copy it again"
            ) from None
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            raise ImageError(f"{self}: the row contains no image; remove it")
        if len(data) > MAX_IMAGE_BYTES:
            raise ImageError(f"{self}: the image has {len(data):,} bytes; remove it")
        return data

    def stamp(self) -> str:
        """Return the size and the time of the last change of the file."""
        return stamp_image(self.path)


_lock = Lock()


@lru_cache(maxsize=2)
def _load_column(path: str, modified: int, column: str, group: int) -> Any:
    """Load a column of a row group as a pyarrow array.

    `modified`, the file's time stamp, keeps the content of an older file out of the cache.
    """
    with open_parquet(path) as file:
        return read_columns(file, path, group, [column]).column(column)
