"""Parquet files: rows whose pictures are paths, or lie in the file itself."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from cutline.config import Columns
from cutline.data.row import ADDRESS_KEYS, CAPTION_KEYS, ID_KEYS, PICTURE_KEYS, USUAL, describe, holds_addresses, parse_row, require_columns
from cutline.data.sample import Sample, merge
from cutline.errors import ConfigError, DataError, ImageError
from cutline.files import FilePart

_IMG2DATASET_KEYS = ("jpg", "png", "webp")
_OTHER_KEYS = ("prompt", "domain", "status")


@dataclass(frozen=True, slots=True)
class Cell(FilePart):
    """A picture inside a Parquet file. Reading one reads its row group, and keeps the last two of these."""

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
        """The bytes of the picture. Raises ImageError."""
        try:
            cell = _read_group(self.path, os.stat(self.path).st_mtime_ns, self.column, self.group)[self.index].as_py()  # noqa: PTH116
        except Exception as error:  # of the file system, of pyarrow, or of a file that is another by now
            raise ImageError(f"{self}: the table cannot be read ({error}); copy it again") from None
        data = cell.get("bytes") if isinstance(cell, dict) else cell
        if not isinstance(data, bytes):
            raise ImageError(f"{self}: the row holds no picture; leave it out")
        return data


@lru_cache(maxsize=2)
def _read_group(path: str, changed: int, column: str, group: int) -> Any:
    """A column of a row group, as a pyarrow array. `changed`: when the file was, so that no former content is kept."""
    with _open(path) as file:
        return file.read_row_group(group, columns=[column]).column(column)


def read_parquet(paths: Sequence[Path], image_root: str = "", columns: Columns = USUAL) -> list[Sample]:
    """Read Parquet files whose columns are called as the keys that `read_jsonl` reads.

    Pictures are paths, bytes, or Hugging Face's `{bytes, path}`; bytes stay where they are until they are asked for. In img2dataset's
    files they are called `jpg`, and rows whose download failed are left out. Paths are relative to `image_root`, or else to the file's
    folder. A picture in the file has the file's name and its row as id, unless the row has one. Raises DataError.
    """
    return merge(sample for path in paths for sample in _read_file(path, image_root or str(path.parent), columns))


def _read_file(path: Path, root: str, columns: Columns) -> Iterator[Sample]:
    try:
        import pyarrow as pa  # type: ignore[import-untyped]
    except ImportError:
        raise ConfigError(f"{path}: Parquet needs a package that is not here: pip install 'cutline[parquet]'") from None
    try:
        with _open(path) as file:
            names = file.schema_arrow.names
            require_columns(columns, names, str(path))
            picture = columns.image or next((key for key in (*PICTURE_KEYS, *_IMG2DATASET_KEYS) if key in names), "")
            if not picture:
                raise _no_picture(path, names)
            wanted = [name for name in (*CAPTION_KEYS, *ID_KEYS, *_OTHER_KEYS, *columns.names) if name in names and name != picture]
            row = 0
            for group in range(file.num_row_groups):
                inside = _is_inside(file, picture, group)
                for index, values in enumerate(_read_rows(file, group, wanted, picture, inside)):
                    row += 1
                    if inside and not _has_failed(values, picture):
                        cell = Cell(str(path), picture, group, index, row)
                        yield describe(values, cell, f"{path.name}/{row}", str(cell), columns)
                    elif not inside:
                        yield parse_row(values, root, f"{path}, row {row}", columns)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a Parquet file that can be read ({error}); copy it again, or leave it out") from None


def _read_rows(file: Any, group: int, wanted: list[str], picture: str, inside: bool) -> Iterable[dict[str, Any]]:
    """The rows of a group, without what is inside them; a picture's path comes as text."""
    import pyarrow as pa

    nested = pa.types.is_struct(file.schema_arrow.field(picture).type)
    paths = [] if inside else [f"{picture}.path"] if nested else [picture]
    if not wanted + paths:
        return [{}] * file.metadata.row_group(group).num_rows
    rows: list[dict[str, Any]] = file.read_row_group(group, columns=list(dict.fromkeys(wanted + paths))).to_pylist()
    return ({**row, picture: (row[picture] or {}).get("path")} for row in rows) if nested and not inside else rows


def _is_inside(file: Any, picture: str, group: int) -> bool:
    """Whether the pictures of a row group are bytes: a column of them, or a struct whose bytes are not all missing."""
    import pyarrow as pa

    kind = file.schema_arrow.field(picture).type
    if not pa.types.is_struct(kind):
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
    chunks = [file.metadata.row_group(group).column(number) for number in range(file.metadata.num_columns)]
    found = [chunk for chunk in chunks if chunk.path_in_schema == f"{picture}.bytes"]
    return any(not chunk.statistics or chunk.statistics.null_count < chunk.num_values for chunk in found)


def _has_failed(values: dict[str, Any], picture: str) -> bool:
    return picture in _IMG2DATASET_KEYS and values.get("status", "success") != "success"


def _no_picture(path: Path, names: list[str]) -> DataError:
    if any(name.lower() in ADDRESS_KEYS for name in names):
        return holds_addresses(path)
    return DataError(f"{path}: no column is a picture's; there are {', '.join(names)}; call one image, or set image_column")


def _open(path: str | Path) -> Any:
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    return pq.ParquetFile(path)
