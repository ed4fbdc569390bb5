"""`CaptionFile`: a captions file, as entries that can be changed one by one."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cutline.config import DataSource
from cutline.data.row import CAPTION_KEYS, IMAGE_KEYS, first_value
from cutline.data.sample import Sample
from cutline.errors import DataError
from cutline.files import ImageRef


@dataclass(frozen=True, slots=True)
class FileRow:
    """What a row of a captions file says."""

    image: str | bytes | ImageRef
    name: str
    """the image as written; empty if the file contains it"""
    id: str
    text: str
    """the caption, or several, one on each line"""
    has_lines: bool
    confidence: float | None


class CaptionFile(ABC):
    """A captions file of one format.

    Its entries are rows, and what lies between them, such as the names of columns. Each can be
    given to `write` as it was read, or in another form that `replace_caption` has made of it.
    """

    def __init__(self, source: DataSource) -> None:
        """Name the file, and how it is read."""
        self.path, self.source = Path(source.path), source
        self.errors: list[DataError] = []
        """of the rows that cannot be read"""

    @abstractmethod
    def read(self) -> list[FileRow | None]:
        """Return the entries of the file; None for one that is no row, or cannot be read."""

    @abstractmethod
    def read_raw(self, position: int) -> str:
        """Return an entry, as text that the journal can keep."""

    @abstractmethod
    def parse_raw(self, raw: str) -> FileRow:
        """Return what an entry says that is not in the file any more.

        Raises:
            DataError: It is no row of this file.
        """

    @abstractmethod
    def replace_caption(self, raw: str, text: str) -> str:
        """Return an entry that is a row, with another caption and nothing else changed."""

    @abstractmethod
    def read_columns(self, position: int) -> dict[str, Any]:
        """Return the columns of a row that describe its caption, such as `words`."""

    @abstractmethod
    def write(self, path: Path, entries: Sequence[int | str]) -> None:
        """Write a file in the same format.

        Args:
            path: The file to write.
            entries: Positions of entries that stay as they are, and other entries.
        """


def hash_captions(path: Path) -> str:
    """Return a hash of the content of a captions file.

    Raises:
        DataError: The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); check the path and its permissions"
        ) from None


def find_caption_key(row: dict[str, Any], source: DataSource, usual: str) -> str:
    """Return the column of a row that has its captions.

    Args:
        row: The row.
        source: Says whether the column is named.
        usual: The column to add if the row has none.
    """
    if source.columns.caption_column:
        return source.columns.caption_column
    keys = [key for key in CAPTION_KEYS if key in row]
    return next((key for key in keys if row[key] is not None), keys[0] if keys else usual)


def name_row(row: dict[str, Any], source: DataSource) -> str:
    """Return the image of a row as written; empty if the row contains it."""
    column = source.columns.image_column
    name = row.get(column) if column else first_value(row, IMAGE_KEYS)
    return name if isinstance(name, str) else ""


def make_file_row(sample: Sample, name: str, value: object, confidence: Any) -> FileRow:
    """Return what a row says.

    Args:
        sample: The image and its captions.
        name: The image as written.
        value: Value of the column of captions.
        confidence: Value of the column `confidence`, if there is one.
    """
    has_lines = isinstance(value, list)
    captions = (" ".join(caption.split("\n")) for caption in sample.captions)
    text = "\n".join(captions) if has_lines else "".join(sample.captions)
    is_number = isinstance(confidence, int | float) and not isinstance(confidence, bool)
    if not is_number or not 0 <= confidence <= 1:  # also of NaN
        confidence = None
    return FileRow(sample.image, name, sample.id, text, has_lines, confidence)
