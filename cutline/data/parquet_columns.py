"""The rows of an open Parquet file: find the column of images, and read the others."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cutline.config import Columns
from cutline.data.parquet_file import column_to_list, list_chunks, open_parquet, read_columns
from cutline.data.row import (
    CAPTION_KEYS,
    ID_KEYS,
    IMAGE_KEYS,
    URL_KEYS,
    UrlHandling,
    column_setting,
    no_image_column_error,
    reject_repeated_columns,
    require_columns,
    urls_only_error,
)
from cutline.errors import CutlineError, DataError
from cutline.messages import first_line, format_text

IMG2DATASET_KEYS = ("jpg", "png", "webp")
"""columns in which img2dataset writes images"""
_OTHER_KEYS = ("prompt", "domain", "status")


@dataclass(frozen=True)
class ImageColumn:
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
        import pyarrow as pa  # type: ignore[import-untyped]

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


@contextmanager
def open_images(path: Path, columns: Columns, urls: UrlHandling = "keep") -> Iterator[ImageColumn]:
    """Open a file and find its column of images. Raises DataError if there is none."""
    with parquet_errors(path):
        file = open_parquet(path)
    with file:
        with parquet_errors(path):
            image_column = _find_image_column(file, path, columns, urls)
        yield image_column


@contextmanager
def parquet_errors(path: Path) -> Iterator[None]:
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


def count_rows(path: Path) -> int:
    """Return the number of rows of a Parquet file.

    Raises:
        DataError: The file cannot be read.
        ConfigError: pyarrow is not installed.
    """
    with parquet_errors(path), open_parquet(path) as file:
        return int(file.metadata.num_rows)


def _find_image_column(file: Any, path: Path, columns: Columns, urls: UrlHandling) -> ImageColumn:
    """Return the column of images. Raises DataError if there is none."""
    names = file.schema_arrow.names
    reject_repeated_columns(names, str(path))
    require_columns(columns, names, str(path))
    keys = (*IMAGE_KEYS, *IMG2DATASET_KEYS, *(URL_KEYS if urls == "allow" else ()))
    name = columns.image_column or next((key for key in keys if key in names), "")
    if not name and any(name.lower() in URL_KEYS for name in names):
        raise urls_only_error(path, urls)
    if not name:
        raise no_image_column_error(names, str(path), "image")
    column = ImageColumn(file, name)
    if column.fields and not {"bytes", "path"} & column.fields:
        fields = format_text(", ".join(sorted(column.fields)))
        raise DataError(
            f"{path}: the column `{name}` has the fields {fields}, but neither `bytes` nor `path`; "
            "name another one in ",
            column_setting("image_column"),
        )
    return column


def iter_rows(
    image_column: ImageColumn, path: Path, group: int, columns: Columns, max_rows: int | None
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a group with their images' paths, but without the bytes of images."""
    with parquet_errors(path):
        values = _read_values(image_column, path, group, columns)
    num_rows = image_column.file.metadata.row_group(group).num_rows
    if not values:
        yield from ({} for _ in range(num_rows))
        return
    step = max_rows or max(num_rows, 1)
    for start in range(0, num_rows, step):
        with parquet_errors(path):
            lists = [column_to_list(array.slice(start, step)) for array in values.values()]
        for row in zip(*lists, strict=True):
            yield dict(zip(values, row, strict=True))


def _read_values(
    image_column: ImageColumn, path: Path, group: int, columns: Columns
) -> dict[str, Any]:
    """Return the pyarrow columns of a group by name."""
    import pyarrow.compute as pc  # type: ignore[import-untyped]

    file, column = image_column.file, image_column.name
    keys = (*CAPTION_KEYS, *ID_KEYS, *URL_KEYS, *_OTHER_KEYS, *columns.names)
    names = [name for name in keys if name in file.schema_arrow.names and name != column]
    embedded, nested = image_column.is_embedded(group), bool(image_column.fields)
    if not embedded:
        names.append(f"{column}.path" if nested else column)
    if not names:
        return {}
    table = read_columns(file, path, group, list(dict.fromkeys(names)))
    values = {name: table.column(name) for name in table.column_names}
    if nested and not embedded:
        values[column] = pc.struct_field(values[column], "path")
    return values
