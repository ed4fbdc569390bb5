"""Parquet files: rows whose images are paths, or are contained in the file itself."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cutline.config import Columns
from cutline.data.parquet_file import column_to_list, list_chunks, open_parquet, read_columns
from cutline.data.parquet_image import ParquetImage
from cutline.data.row import (
    CAPTION_KEYS,
    DEFAULT_COLUMNS,
    ID_KEYS,
    IMAGE_COLUMN_HINT,
    IMAGE_KEYS,
    URL_KEYS,
    make_sample,
    parse_row,
    reject_repeated_columns,
    require_columns,
    urls_only_error,
)
from cutline.data.sample import Sample, merge_rows
from cutline.errors import ConfigError, CutlineError, DataError
from cutline.messages import first_line, format_text

logger = logging.getLogger(__name__)

MAX_GROUP_ROWS = 1000
"""images in a row group; reading larger groups in random order is slow"""
MAX_GROUP_BYTES = 100_000_000
"""size of the images in a row group; likewise"""
_IMG2DATASET_KEYS = ("jpg", "png", "webp")
_OTHER_KEYS = ("prompt", "domain", "status")


def read_parquet(
    paths: Sequence[Path], image_root: str = "", columns: Columns = DEFAULT_COLUMNS
) -> list[Sample]:
    """Read Parquet files, whose columns have the names that `read_jsonl` recognizes.

    Images are paths, bytes, or Hugging Face's `{bytes, path}`; bytes are not loaded here. Those of
    img2dataset are in a column `jpg`, and rows whose download failed are skipped. If a row group
    is too large for training, which reads in random order, a warning names the file with the
    largest one.

    Args:
        paths: The files.
        image_root: Folder that image paths are relative to (default: the folder of the file).
        columns: Column names, where they differ from the defaults.

    Returns:
        One sample per image and prompt. An image contained in the file has the file's name and its
        row as id, unless its row has one.

    Raises:
        DataError: A file cannot be read, has no column of images, or has an invalid row.
        ConfigError: pyarrow is not installed.
    """
    groups: list[_RowGroup] = []
    samples = merge_rows(
        sample
        for path in paths
        for sample in _read_file(path, image_root or str(path.parent), columns, groups)
    )
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


def _read_file(
    path: Path, root: str, columns: Columns, groups: list[_RowGroup]
) -> Iterator[Sample]:
    """Yield the samples of a file, and append its row groups that contain images to `groups`."""
    try:
        import pyarrow  # type: ignore[import-untyped]  # noqa: F401
    except ImportError:
        raise ConfigError(
            f"{path}: Parquet files need pyarrow, which is not installed: "
            "pip install 'cutline[parquet]'"
        ) from None
    row_number = 0
    with _parquet_errors(path):
        file = open_parquet(path)
        image_column = _find_image_column(file, path, columns)
    with file:
        for group in range(file.num_row_groups):
            with _parquet_errors(path):
                embedded = image_column.is_embedded(group)
                rows = _read_rows(image_column, path, group, columns)
            if embedded:
                groups.append(_RowGroup(path, len(rows), image_column.count_bytes(group)))
            for index, values in enumerate(rows):
                row_number += 1
                if not embedded:
                    yield parse_row(values, root, f"{path}, row {row_number}", columns)
                elif not _has_failed(values, image_column.name):
                    image = ParquetImage(str(path), image_column.name, group, index, row_number)
                    id = f"{path.name}/{row_number}"
                    yield make_sample(values, image, id, str(image), columns)


@contextmanager
def _parquet_errors(path: Path) -> Iterator[None]:
    """Turn errors of pyarrow, which are of many types for a damaged file, into DataError."""
    try:
        yield
    except CutlineError:
        raise
    except Exception as error:
        raise DataError(
            f"{path}: not a Parquet file that can be read ({first_line(error)}); "
            "copy it again, or remove it"
        ) from None


@dataclass(frozen=True)
class _ImageColumn:
    """The column of an open Parquet file that contains its images or their paths."""

    file: Any
    """`pyarrow.parquet.ParquetFile`"""
    name: str

    @property
    def type(self) -> Any:
        """Return the pyarrow type of the column."""
        return self.file.schema_arrow.field(self.name).type

    @property
    def fields(self) -> set[str]:
        """Return the fields of a struct; empty for other types."""
        import pyarrow as pa

        if not pa.types.is_struct(self.type):
            return set()
        return {self.type.field(number).name for number in range(self.type.num_fields)}

    def is_embedded(self, group: int) -> bool:
        """Return whether a row group contains bytes of images, not only their paths."""
        import pyarrow as pa

        if not self.fields:
            return bool(pa.types.is_binary(self.type) or pa.types.is_large_binary(self.type))
        if "path" not in self.fields:
            return True
        return any(
            not chunk.statistics or chunk.statistics.null_count < chunk.num_values
            for chunk in list_chunks(self.file, group)
            if chunk.path_in_schema == f"{self.name}.bytes"
        )

    def count_bytes(self, group: int) -> int:
        """Return the size of the images in a row group."""
        names = (self.name, f"{self.name}.bytes")
        chunks = list_chunks(self.file, group)
        return sum(
            chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema in names
        )


def _find_image_column(file: Any, path: Path, columns: Columns) -> _ImageColumn:
    """Return the column of images. Raises DataError if there is none."""
    names = file.schema_arrow.names
    reject_repeated_columns(names, str(path))
    require_columns(columns, names, str(path))
    default_names = (key for key in (*IMAGE_KEYS, *_IMG2DATASET_KEYS) if key in names)
    name = columns.image_column or next(default_names, "")
    if not name and any(name.lower() in URL_KEYS for name in names):
        raise urls_only_error(path)
    if not name:
        raise DataError(
            f"{path}: none of the columns {format_text(', '.join(names))} is recognized "
            f"as the image column; rename the right one to `image`, or {IMAGE_COLUMN_HINT}"
        )
    column = _ImageColumn(file, name)
    if column.fields and not {"bytes", "path"} & column.fields:
        fields = format_text(", ".join(sorted(column.fields)))
        raise DataError(
            f"{path}: the column `{name}` has the fields {fields}, but neither `bytes` nor `path`; "
            f"{IMAGE_COLUMN_HINT}"
        )
    return column


def _read_rows(
    image_column: _ImageColumn, path: Path, group: int, columns: Columns
) -> Sequence[dict[str, Any]]:
    """Return the rows of a group with their images' paths, but without the bytes of images."""
    import pyarrow.compute as pc  # type: ignore[import-untyped]

    file, column = image_column.file, image_column.name
    keys = (*CAPTION_KEYS, *ID_KEYS, *_OTHER_KEYS, *columns.names)
    names = [name for name in keys if name in file.schema_arrow.names and name != column]
    embedded, nested = image_column.is_embedded(group), bool(image_column.fields)
    if not embedded:
        names.append(f"{column}.path" if nested else column)
    if not names:
        return [{}] * file.metadata.row_group(group).num_rows
    table = read_columns(file, path, group, list(dict.fromkeys(names)))
    values = {name: table.column(name) for name in table.column_names}
    if nested and not embedded:
        values[column] = pc.struct_field(values[column], "path")
    lists = [column_to_list(array) for array in values.values()]
    return [dict(zip(values, row, strict=True)) for row in zip(*lists, strict=True)]


def _has_failed(values: dict[str, Any], image_column: str) -> bool:
    """Return whether img2dataset failed to download the image of a row."""
    return image_column in _IMG2DATASET_KEYS and values.get("status", "success") != "success"
