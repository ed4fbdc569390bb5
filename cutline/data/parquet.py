"""Parquet files: rows whose images are paths, or lie in the file itself."""

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

from cutline.config import Columns
from cutline.data.row import (
    ADDRESS_KEYS,
    CAPTION_KEYS,
    DEFAULT_COLUMNS,
    ID_KEYS,
    IMAGE_KEYS,
    NAME_IT,
    describe,
    parse_row,
    require_columns,
    urls_only_error,
)
from cutline.data.sample import Sample, merge_rows
from cutline.errors import ConfigError, DataError, ImageError
from cutline.files import ImageRef

logger = logging.getLogger(__name__)

MOST_ROWS, MOST_BYTES = 1000, 100_000_000
"""of images in a row group, more than which are read too slowly in random order"""
_IMG2DATASET_KEYS = ("jpg", "png", "webp")
_OTHER_KEYS = ("prompt", "domain", "status")


@dataclass(frozen=True, slots=True)
class Cell(ImageRef):
    """An image inside a Parquet file. CaptionRules one reads its row group, and keeps the last two of these."""

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
        """The bytes of the image. Raises ImageError."""
        try:
            changed = os.stat(self.path).st_mtime_ns
            with _reading:  # or every thread would read the same group
                pictures = _read_group(self.path, changed, self.column, self.group)
            cell = pictures[self.index].as_py()
        except (
            Exception
        ) as error:  # of the file system, of pyarrow, or of a file that is another by now
            raise ImageError(f"{self}: the table cannot be read ({error}); copy it again") from None
        data = cell.get("bytes") if isinstance(cell, dict) else cell
        if not isinstance(data, bytes):
            raise ImageError(f"{self}: the row holds no image; leave it out")
        return data


_reading = Lock()


@lru_cache(maxsize=2)
def _read_group(path: str, changed: int, column: str, group: int) -> Any:
    """A column of a row group, as a pyarrow array. `changed`: when the file was, so that no former content is kept."""
    with _open(path) as file:
        return file.read_row_group(group, columns=[column]).column(column)


def read_parquet(
    paths: Sequence[Path], image_root: str = "", columns: Columns = DEFAULT_COLUMNS
) -> list[Sample]:
    """Read Parquet files whose columns are called as the keys that `read_jsonl` reads.

    Images are paths, bytes, or Hugging Face's `{bytes, path}`; bytes stay where they are until they are asked for. In img2dataset's
    files they are called `jpg`, and rows whose download failed are left out. Paths are relative to `image_root`, or else to the file's
    folder. An image in the file has the file's name and its row as id, unless the row has one. A warning names the file with the
    largest row group, where that is too large for training, which reads in random order. Raises DataError.
    """
    groups: list[_Group] = []
    samples = merge_rows(
        sample
        for path in paths
        for sample in _read_file(path, image_root or str(path.parent), columns, groups)
    )
    largest = max(groups, key=lambda group: group.load, default=None)
    if largest and largest.load > 1:
        logger.warning(
            "%s: %d images (%d MB) stand in one row group, read whole for each of them, and training reads in random order; write the "
            "file again with a smaller `row_group_size`, such as 100, or as tar shards",
            largest.path,
            largest.rows,
            largest.size // 1_000_000,
        )
    return samples


@dataclass(frozen=True)
class _Group:
    """A row group with images in it."""

    path: Path
    rows: int
    size: int
    """bytes of the images"""

    @property
    def load(self) -> float:
        """Above 1 it is too large."""
        return max(self.rows / MOST_ROWS, self.size / MOST_BYTES)


def _read_file(path: Path, root: str, columns: Columns, groups: list[_Group]) -> Iterator[Sample]:
    try:
        import pyarrow as pa  # type: ignore[import-untyped]
    except ImportError:
        raise ConfigError(
            f"{path}: Parquet needs a package that is not here: pip install 'cutline[parquet]'"
        ) from None
    try:
        with _open(path) as file:
            names = file.schema_arrow.names
            require_columns(columns, names, str(path))
            picture = columns.image_column or next(
                (key for key in (*IMAGE_KEYS, *_IMG2DATASET_KEYS) if key in names), ""
            )
            if not picture:
                raise _no_picture(path, names)
            _require_picture(file, picture, path)
            wanted = [
                name
                for name in (*CAPTION_KEYS, *ID_KEYS, *_OTHER_KEYS, *columns.names)
                if name in names and name != picture
            ]
            row = 0
            for group in range(file.num_row_groups):
                inside = _is_inside(file, picture, group)
                if inside:
                    groups.append(
                        _Group(
                            path,
                            file.metadata.row_group(group).num_rows,
                            _count_bytes(file, picture, group),
                        )
                    )
                for index, values in enumerate(_read_rows(file, group, wanted, picture, inside)):
                    row += 1
                    if inside and not _has_failed(values, picture):
                        cell = Cell(str(path), picture, group, index, row)
                        yield describe(values, cell, f"{path.name}/{row}", str(cell), columns)
                    elif not inside:
                        yield parse_row(values, root, f"{path}, row {row}", columns)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path}: not a Parquet file that can be read ({error}); copy it again, or leave it out"
        ) from None


def _read_rows(
    file: Any, group: int, wanted: list[str], picture: str, inside: bool
) -> Iterable[dict[str, Any]]:
    """The rows of a group, without what is inside them; an image's path comes as text."""
    import pyarrow as pa

    nested = pa.types.is_struct(file.schema_arrow.field(picture).type)
    paths = [] if inside else [f"{picture}.path"] if nested else [picture]
    if not wanted + paths:
        return [{}] * file.metadata.row_group(group).num_rows
    rows: list[dict[str, Any]] = file.read_row_group(
        group, columns=list(dict.fromkeys(wanted + paths))
    ).to_pylist()
    return (
        ({**row, picture: (row[picture] or {}).get("path")} for row in rows)
        if nested and not inside
        else rows
    )


def _is_inside(file: Any, picture: str, group: int) -> bool:
    """Whether the images of a row group are bytes: a column of them, or a struct whose bytes are not all missing."""
    import pyarrow as pa

    kind = file.schema_arrow.field(picture).type
    if not pa.types.is_struct(kind):
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
    if "path" not in _fields(kind):
        return True
    found = [chunk for chunk in _chunks(file, group) if chunk.path_in_schema == f"{picture}.bytes"]
    return any(
        not chunk.statistics or chunk.statistics.null_count < chunk.num_values for chunk in found
    )


def _count_bytes(file: Any, picture: str, group: int) -> int:
    chunks = [
        chunk
        for chunk in _chunks(file, group)
        if chunk.path_in_schema in (picture, f"{picture}.bytes")
    ]
    return sum(chunk.total_uncompressed_size for chunk in chunks)


def _chunks(file: Any, group: int) -> list[Any]:
    return [
        file.metadata.row_group(group).column(number) for number in range(file.metadata.num_columns)
    ]


def _has_failed(values: dict[str, Any], picture: str) -> bool:
    return picture in _IMG2DATASET_KEYS and values.get("status", "success") != "success"


def _require_picture(file: Any, picture: str, path: Path) -> None:
    """Raise DataError where the column is a struct of other things."""
    import pyarrow as pa

    kind = file.schema_arrow.field(picture).type
    if pa.types.is_struct(kind) and not {"bytes", "path"} & _fields(kind):
        raise DataError(
            f"{path}: the column `{picture}` holds {', '.join(_fields(kind))}, neither bytes nor a path; {NAME_IT}"
        )


def _fields(kind: Any) -> set[str]:
    return {kind.field(number).name for number in range(kind.num_fields)}


def _no_picture(path: Path, names: list[str]) -> DataError:
    if any(name.lower() in ADDRESS_KEYS for name in names):
        return urls_only_error(path)
    return DataError(
        f"{path}: no column is an image's; there are {', '.join(names)}; call one image, or {NAME_IT}"
    )


def _open(path: str | Path) -> Any:
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    return pq.ParquetFile(path)
