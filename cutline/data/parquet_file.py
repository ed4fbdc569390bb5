"""Open Parquet files and read their columns, without trusting the sizes that they declare."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from cutline.errors import ConfigError

MAX_VALUES_PER_BYTE = 8
"""values that a column of a row group may declare, per byte of the file"""
MAX_DICTIONARY_BYTES = 1 << 30
"""size of a row group up to which equal values are kept once; pyarrow's limit is 2 GiB"""
MAX_COMPRESSION = 4
"""compression of a larger row group, which holds images, and these are compressed already"""


def import_pyarrow(path: str | Path) -> tuple[Any, Any]:
    """Return the modules `pyarrow` and `pyarrow.parquet`, which the file `path` needs.

    Raises:
        ConfigError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa  # type: ignore[import-untyped]
        import pyarrow.parquet as pq  # type: ignore[import-untyped]
    except ImportError:
        raise ConfigError(
            f"{path}: Parquet files need pyarrow, which is not installed: "
            "pip install 'cutline[parquet]'"
        ) from None
    return pa, pq


def open_parquet(path: str | Path) -> Any:
    """Open a Parquet file as a `pyarrow.parquet.ParquetFile`.

    Raises:
        ConfigError: pyarrow is not installed.
        ValueError: It declares far more values than it can hold. A damaged file raises this and
            many other errors.
    """
    _, pq = import_pyarrow(path)
    file = pq.ParquetFile(path)
    limit = MAX_VALUES_PER_BYTE * Path(path).stat().st_size
    for group in range(file.num_row_groups):
        num_values = [chunk.num_values for chunk in list_chunks(file, group)]
        if max(num_values, default=0) > limit or file.metadata.row_group(group).num_rows > limit:
            file.close()
            raise ValueError("it declares more values than it can hold")
    return file


def list_chunks(file: Any, group: int) -> list[Any]:
    """Return the metadata of each column, or field of a column, in a row group."""
    row_group = file.metadata.row_group(group)
    return [row_group.column(number) for number in range(row_group.num_columns)]


def read_columns(file: Any, path: str | Path, group: int, names: Sequence[str]) -> Any:
    """Read columns, or fields of columns, of a row group as a pyarrow table.

    Texts and bytes are read as dictionaries, so that a value that a small file repeats a million
    times is in memory once.

    Args:
        file: The open file.
        path: Its path.
        group: Number of the row group, from 0.
        names: Columns, or fields such as `image.path`.

    Raises:
        ValueError: The file is too small for the size that it declares. A damaged file raises this
            and many other errors.
    """
    import pyarrow.parquet as pq

    prefixes = tuple(f"{name}." for name in names)
    chunks = [
        chunk
        for chunk in list_chunks(file, group)
        if f"{chunk.path_in_schema}.".startswith(prefixes)
    ]
    size = sum(chunk.total_uncompressed_size for chunk in chunks)
    if size > max(MAX_DICTIONARY_BYTES, MAX_COMPRESSION * Path(path).stat().st_size):
        raise ValueError(f"a row group unpacks to {size:,} bytes")
    repeated = [chunk.path_in_schema for chunk in chunks if chunk.physical_type == "BYTE_ARRAY"]
    if size > MAX_DICTIONARY_BYTES:
        repeated = []
    with pq.ParquetFile(path, metadata=file.metadata, read_dictionary=repeated) as reader:
        return reader.read_row_group(group, columns=list(names))


def column_to_list(column: Any) -> list[Any]:
    """Convert a column to Python values; a value that a dictionary repeats is one object."""
    return [value for chunk in column.chunks for value in _array_to_list(chunk)]


def _array_to_list(array: Any) -> list[Any]:
    import pyarrow as pa

    if pa.types.is_dictionary(array.type):
        indices = array.indices.to_pylist()
        used = sorted({index for index in indices if index is not None})  # few of them in a slice
        values = _array_to_list(array.dictionary.take(pa.array(used, pa.int64())))
        by_index = dict(zip(used, values, strict=True))
        return [None if index is None else by_index[index] for index in indices]
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        items = iter(_array_to_list(array.flatten()))
        lengths = array.value_lengths().to_pylist()
        return [None if length is None else list(islice(items, length)) for length in lengths]
    return list(array.to_pylist())
