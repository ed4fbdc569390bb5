"""What lists in a folder say about its images: captions, prompts and other columns."""

import json
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import replace

from cutline.data.sample import Sample, merge_adjacent
from cutline.data.tolerant import Tolerant
from cutline.errors import DataError


class ListedColumns:
    """Columns by the path of the image.

    They are in a temporary database, which is in memory while it is small: lists may have millions
    of rows, in another order than the images.
    """

    def __init__(self) -> None:
        # Whoever reads the images may do so in another thread than the one that began.
        self.database = sqlite3.connect("", check_same_thread=False)
        self.is_empty = True
        self.database.execute("CREATE TABLE rows (path BLOB PRIMARY KEY, fields) WITHOUT ROWID")

    def close(self) -> None:
        """Delete the database."""
        self.database.close()

    def load(self, path: str, rows: Tolerant[Sample]) -> Iterator[DataError]:
        """Add the rows of a list; rows of the same image are merged.

        Args:
            path: The list, for error messages.
            rows: Its rows; those whose image is not a file are ignored.

        Yields:
            The errors among the rows.

        Raises:
            DataError: The list cannot be read, or is too large for the temporary folder.
        """
        for row in merge_adjacent(rows):
            if isinstance(row, DataError):
                yield row
            elif image := row.local_path:
                try:
                    self._add(image, row)
                except sqlite3.Error as error:
                    raise DataError(
                        f"{path}: its rows do not fit into the temporary folder ({error}); "
                        "set TMPDIR to a folder with more space"
                    ) from None

    def _add(self, image: str, row: Sample) -> None:
        self.is_empty = False
        if earlier := self._find(image):
            row = replace(earlier, captions=earlier.captions + row.captions)
        fields = json.dumps([row.captions, row.prompt, row.domain, row.group, row.url])
        values = (_encode_path(image), fields)
        self.database.execute("INSERT OR REPLACE INTO rows VALUES (?, ?)", values)

    def _find(self, image: str) -> Sample | None:
        query = "SELECT fields FROM rows WHERE path = ?"
        row = self.database.execute(query, (_encode_path(image),)).fetchone()
        if not row:
            return None
        captions, *fields = json.loads(row[0])
        return Sample(image, tuple(captions), "", *fields)

    def add_to(self, sample: Sample) -> Sample:
        """Return a sample whose image is a file, with the columns that the lists have for it.

        Its own captions are kept only if the lists have none.
        """
        row = None if self.is_empty else self._find(str(sample.image))
        if not row:
            return sample
        return replace(row, captions=row.captions or sample.captions, id=sample.id)


def _encode_path(path: str) -> bytes:
    """Return the absolute path as bytes, whatever characters are in it."""
    return os.path.abspath(path).encode("utf-8", "surrogatepass")  # noqa: PTH100  # keeps links
