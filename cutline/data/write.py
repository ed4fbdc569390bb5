"""Write captions to a table, atomically: JSON Lines, CSV or Parquet."""

import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal

from cutline.data.parquet_file import import_pyarrow
from cutline.errors import ConfigError, DataError
from cutline.files import atomic_write

Row = Mapping[str, Any]
TableFormat = Literal["jsonl", "csv", "parquet"]
_FORMATS: dict[str, TableFormat] = {".jsonl": "jsonl", ".csv": "csv", ".parquet": "parquet"}
ROW_GROUP = 10_000
"""rows of a Parquet file that are in memory together"""


def find_table_format(path: str | Path) -> TableFormat:
    """Return the format in which `write_captions` writes a file.

    Raises:
        ConfigError: The path has an unsupported extension.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _FORMATS:
        raise ConfigError(
            f"{path}: captions cannot be written to {f'a {suffix}' if suffix else 'such a'} file; "
            "give a .jsonl, .csv or .parquet file"
        )
    return _FORMATS[suffix]


def write_captions(path: str | Path, rows: Iterable[Row], columns: Sequence[str] = ()) -> None:
    """Write captions in a format that the path determines.

    - `captions.jsonl`: one row per line.
    - `captions.csv`: one column per key; lists are written as JSON.
    - `captions.parquet`: one column per key.

    An existing file is replaced.

    Args:
        path: The file to write.
        rows: Rows such as `{"image": path, "caption": text, "score": number}`.
        columns: Names of all columns, so that the rows need not be in memory together (default:
            all keys; JSON Lines needs none).

    Raises:
        DataError: The file cannot be written.
        ConfigError: The path has an unsupported extension, or pyarrow is not installed.
    """
    table_format = find_table_format(path)
    try:
        if table_format == "jsonl":
            _write_jsonl(Path(path), rows)
            return
        if not columns:
            rows = list(rows)
            columns = list(
                dict.fromkeys(["image", "caption", *(key for row in rows for key in row)])
            )
        write = _write_csv if table_format == "csv" else _write_parquet
        write(Path(path), rows, columns)
    except OSError as error:
        raise not_writable(str(error.filename or path), error) from None


def not_writable(name: str, error: OSError) -> DataError:
    """Return the error of a file that cannot be written."""
    return DataError(
        f"{name}: cannot be written ({error.strerror or error}); "
        "check the folder, its permissions and the free space"
    )


@contextmanager
def open_atomic(path: Path, newline: str) -> Iterator[IO[str]]:
    r"""Open a file that replaces `path` when it is complete.

    Python represents file names that are not UTF-8 by lone surrogates, which cannot be encoded;
    they are escaped (`\udcff`), in a way that JSON readers understand.
    """
    with (
        atomic_write(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline=newline) as file,
    ):
        yield file


def _write_jsonl(path: Path, rows: Iterable[Row]) -> None:
    with open_atomic(path, newline="\n") as file:
        file.writelines(to_json(dict(row)) + "\n" for row in rows)


def _write_csv(path: Path, rows: Iterable[Row], columns: Sequence[str]) -> None:
    with open_atomic(path, newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        writer.writeheader()
        writer.writerows({key: _to_cell(value) for key, value in row.items()} for row in rows)


def _to_cell(value: object) -> object:
    return to_json(value) if isinstance(value, list | dict | bool) else value


def to_json(value: object) -> str:
    """Return a value as JSON on one line, with paths as text."""
    return json.dumps(value, ensure_ascii=False, default=os.fspath)


def _write_parquet(path: Path, rows: Iterable[Row], columns: Sequence[str]) -> None:
    pa, pq = import_pyarrow(path)
    number = pa.float64()
    word = {"text": pa.string(), "start": pa.int64(), "end": pa.int64(), "confidence": number}
    words = pa.list_(pa.struct(word))
    alternative = {"caption": pa.string(), "score": number, "token_log_probs": pa.list_(number)}
    optional = {"confidence": number, "match": number, "words": words}
    alternative |= {name: kind for name, kind in optional.items() if name in columns}
    types = {
        "score": number,
        "confidence": number,
        "accepted": pa.bool_(),
        "words": words,
        "match": number,
        "itm": number,
        "itc": number,
        "ratio": number,
        "cider": number,
        "alternatives": pa.list_(pa.struct(alternative)),
        "token_log_probs": pa.list_(number),
        "original_captions": pa.list_(pa.string()),
    }
    schema = pa.schema([(name, types.get(name, pa.string())) for name in columns])
    iterator = iter(rows)
    with atomic_write(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        while group := list(islice(iterator, ROW_GROUP)):
            writer.write_table(pa.Table.from_pylist(list(map(_make_encodable, group)), schema))


def _make_encodable(row: Row) -> dict[str, Any]:
    """Escape lone surrogates in the texts of a row, as in the other formats."""
    return {
        key: value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
        for key, value in row.items()
    }
