"""Parquet files: rows whose images are paths, or are contained in the file itself."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cutline.config import Columns, DataSource
from cutline.data.parquet_columns import IMG2DATASET_KEYS, iter_rows, open_images, parquet_errors
from cutline.data.parquet_image import ParquetImage
from cutline.data.row import UrlHandling, image_folder, make_sample, parse_row
from cutline.data.sample import Sample, merge_rows
from cutline.data.tolerant import Tolerant, attempt, raise_errors
from cutline.errors import DataError

logger = logging.getLogger(__name__)

MAX_GROUP_ROWS = 1000
"""images in a row group; reading larger groups in random order is slow"""
MAX_GROUP_BYTES = 100_000_000
"""size of the images in a row group; likewise"""


def read_parquet(paths: Sequence[Path], source: DataSource) -> list[Sample]:
    """Read Parquet files, as `iter_parquet` does.

    If a row group is too large for training, which reads in random order, a warning names the file
    with the largest one.

    Returns:
        One sample per image and prompt.

    Raises:
        DataError: A file cannot be read, has no column of images, or has an invalid row.
        ConfigError: pyarrow is not installed.
    """
    samples = merge_rows(
        sample for path in paths for sample in raise_errors(iter_parquet(path, source, "keep"))
    )
    groups = (group for path in paths for group in _list_embedded(path, source.columns))
    largest = max(groups, key=lambda group: group.load, default=None)
    if largest and largest.load > 1:
        logger.warning(
            "%s: a row group contains %d images (%d MB), and training, which reads images in "
            "random order, loads the entire group for each; write the file again with a smaller "
            "`row_group_size`, such as 100, or as tar shards",
            largest.path,
            largest.rows,
            largest.size // 1_000_000,
        )
    return samples


@dataclass(frozen=True)
class _RowGroup:
    """A row group that contains images."""

    path: Path
    rows: int
    size: int
    """bytes of the images"""

    @property
    def load(self) -> float:
        """Return the size relative to the recommended maximum."""
        return max(self.rows / MAX_GROUP_ROWS, self.size / MAX_GROUP_BYTES)


def iter_parquet(
    path: Path, source: DataSource, urls: UrlHandling, max_rows: int | None = None
) -> Tolerant[Sample]:
    """Yield the rows of a Parquet file, whose columns have the names that `iter_jsonl` recognizes.

    Images are paths, bytes, or Hugging Face's `{bytes, path}`; bytes are not loaded here. Those of
    img2dataset are in a column `jpg`, and rows whose download failed are skipped.

    Args:
        path: The file.
        source: Says where the images are, and which column names differ from the defaults.
        urls: What becomes of addresses.
        max_rows: Rows that are converted to Python at a time (default: a row group, in which equal
            texts are one object).

    Yields:
        A sample for each row, or the error of an invalid row, or of a row group that cannot be
        read. An image contained in the file has the file's name and its row as id, unless its row
        has one.

    Raises:
        DataError: The file cannot be read, or has no column of images.
        ConfigError: pyarrow is not installed.
    """
    root, columns = image_folder(path, source), source.columns
    with open_images(path, columns, urls) as images:
        first_row = 1
        for group in range(images.file.num_row_groups):
            try:
                with parquet_errors(path):
                    is_embedded = images.is_embedded(group)
                rows = iter_rows(images, path, group, columns, max_rows)
                for row, values in enumerate(rows, first_row):
                    if not is_embedded:
                        where = f"{path}, row {row}"
                        yield attempt(parse_row, values, root, where, columns, urls)
                    elif not _has_failed(values, images.name):
                        image = ParquetImage(str(path), images.name, group, row - first_row, row)
                        id = f"{path.name}/{row}"
                        yield attempt(make_sample, values, image, id, str(image), columns)
            except DataError as error:
                yield error
            first_row += images.file.metadata.row_group(group).num_rows


def _list_embedded(path: Path, columns: Columns) -> list[_RowGroup]:
    """Return the row groups that contain images."""
    with open_images(path, columns) as images:
        groups = filter(images.is_embedded, range(images.file.num_row_groups))
        metadata = images.file.metadata
        return [
            _RowGroup(path, metadata.row_group(group).num_rows, images.count_bytes(group))
            for group in groups
        ]


def _has_failed(values: dict[str, Any], image_column: str) -> bool:
    """Return whether img2dataset failed to download the image of a row."""
    return image_column in IMG2DATASET_KEYS and values.get("status", "success") != "success"
