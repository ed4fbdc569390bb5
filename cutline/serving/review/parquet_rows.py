"""`ParquetCaptionFile`: a Parquet file, whose rows change in one value only."""

import base64
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from cutline.data.parquet_columns import ImageColumn, iter_rows, open_images, parquet_errors
from cutline.data.parquet_file import column_to_list, open_parquet, read_columns
from cutline.data.parquet_image import ParquetImage
from cutline.data.row import CAPTION_KEYS, image_folder, make_sample, parse_row
from cutline.errors import DataError
from cutline.serving.review.formats import (
    CaptionFile,
    FileRow,
    find_caption_key,
    make_file_row,
    name_row,
)

_CAPTION_COLUMNS = ("words", "alternatives")
MAX_BATCH = 1000
"""rows that are Python objects at a time"""


class ParquetCaptionFile(CaptionFile):
    """A Parquet file. In the journal, a row is a table of one row in Arrow's format, as base64."""

    _starts: tuple[int, ...] = ()
    """number of the first row of each group"""

    def read(self) -> list[FileRow | None]:
        """Return the rows of the file; None for one that cannot be read."""
        columns = self.source.columns
        rows: list[FileRow | None] = []
        starts = []
        with open_images(self.path, columns) as images:
            names = images.file.schema_arrow.names
            if not columns.caption_column and not set(CAPTION_KEYS) & set(names):
                raise DataError(
                    f"{self.path}: there is no column of captions; add one named `caption`"
                )
            for group in range(images.file.num_row_groups):
                starts.append(len(rows))
                for row in self._read_group(images, group, len(rows)):
                    rows.append(row if isinstance(row, FileRow) else None)
                    if isinstance(row, DataError):
                        self.errors.append(row)
        self._starts = tuple(starts)
        return rows

    def _read_group(
        self, images: ImageColumn, group: int, start: int
    ) -> Iterator[FileRow | DataError]:
        with parquet_errors(self.path):
            is_embedded = images.is_embedded(group)
            count = images.file.metadata.row_group(group).num_rows
            confidence: list[Any] = [None] * count
            if "confidence" in images.file.schema_arrow.names:
                table = read_columns(images.file, self.path, group, ["confidence"])
                confidence = column_to_list(table.column(0))
        rows = iter_rows(images, self.path, group, self.source.columns, MAX_BATCH)
        for index, values in enumerate(rows):
            where = f"{self.path}, row {start + index + 1}"
            image = None
            if is_embedded:
                image = ParquetImage(str(self.path), images.name, group, index, start + index + 1)
            try:
                yield self._parse(values, image, where, confidence[index])
            except DataError as error:
                yield error.with_traceback(None)

    def _parse(
        self,
        values: dict[str, Any],
        image: ParquetImage | bytes | None,
        where: str,
        confidence: object,
    ) -> FileRow:
        columns = self.source.columns
        if isinstance(image, bytes):
            sample = replace(make_sample(values, "", where, where, columns), image=image)
        elif image:
            sample = make_sample(values, image, where, where, columns)
        else:
            root = image_folder(self.path, self.source)
            sample = parse_row(values, root, where, columns)
        value = values[find_caption_key(values, self.source, "")]
        return make_file_row(sample, name_row(values, self.source), value, confidence)

    def parse_raw(self, raw: str) -> FileRow:
        """Return what a row says that is not in the file any more."""
        (values,) = _from_text(raw).to_pylist()
        image: bytes | None = None
        for key, value in values.items():
            data = value.get("bytes") if isinstance(value, dict) else value
            if isinstance(data, bytes):
                image = data
            elif isinstance(value, dict) and "path" in value:
                values[key] = value["path"]
        return self._parse(values, image, f"{self.path}, a row", values.get("confidence"))

    def _find_place(self, position: int) -> tuple[int, int]:
        """Return the group of a row, and its number within it."""
        group = bisect_right(self._starts, position) - 1  # of equal starts, those of empty groups
        return group, position - self._starts[group]

    def read_raw(self, position: int) -> str:
        """Return a row as text that the journal can keep."""
        group, index = self._find_place(position)
        with parquet_errors(self.path):
            table = _load_group(str(self.path), self.path.stat().st_mtime_ns, group)
            return _to_text(table.slice(index, 1))

    def replace_caption(self, raw: str, text: str) -> str:
        """Return a row with another caption and nothing else changed."""
        import pyarrow as pa  # type: ignore[import-untyped]

        table = _from_text(raw)
        columns = {self.source.columns.caption_column, *CAPTION_KEYS}
        names = [name for name in table.column_names if name in columns]
        values = {name: table.column(name)[0].as_py() for name in names}
        number = table.column_names.index(find_caption_key(values, self.source, ""))
        field = table.schema.field(number)
        has_lines = pa.types.is_list(field.type) or pa.types.is_large_list(field.type)
        value = pa.array([text.split("\n") if has_lines else text], field.type)
        return _to_text(table.set_column(number, field, value))

    def read_columns(self, position: int) -> dict[str, Any]:
        """Return the columns of a row that describe its caption."""
        group, index = self._find_place(position)
        with parquet_errors(self.path), open_parquet(self.path) as file:
            names = [name for name in _CAPTION_COLUMNS if name in file.schema_arrow.names]
            if not names:
                return {}
            table = read_columns(file, self.path, group, names)
            return cast("dict[str, Any]", table.slice(index, 1).to_pylist()[0])

    def write(self, path: Path, entries: Sequence[int | str]) -> None:
        """Write a file in the same format; see `CaptionFile`."""
        import pyarrow as pa
        import pyarrow.parquet as pq  # type: ignore[import-untyped]

        with parquet_errors(self.path), open_parquet(self.path) as file:
            schema, codec = file.schema_arrow, _find_codec(file)
            with pq.ParquetWriter(path, schema, compression=codec) as writer:
                for group, part in self._split_at_groups(entries):
                    table: Any = file.read_row_group(group) if self._starts else None
                    pieces = [
                        _from_text(piece).cast(schema)
                        if isinstance(piece, str)
                        else table.slice(piece[0] - self._starts[group], piece[1] - piece[0])
                        for piece in _join_runs(part)
                    ]
                    if pieces:
                        rows = pa.concat_tables(pieces)
                        writer.write_table(rows, row_group_size=rows.num_rows)

    def _split_at_groups(
        self, entries: Sequence[int | str]
    ) -> Iterator[tuple[int, list[int | str]]]:
        """Yield the number of each row group that is needed, with the entries that begin there."""
        group, part = 0, list[int | str]()
        for entry in entries:
            if isinstance(entry, int) and (own := self._find_place(entry)[0]) != group:
                yield group, part
                group, part = own, []
            part.append(entry)
        yield group, part


def _join_runs(entries: Sequence[int | str]) -> list[list[int] | str]:
    """Return entries with runs of positions as the first one, and the one after the last."""
    runs: list[list[int] | str] = []
    for entry in entries:
        if isinstance(entry, str):
            runs.append(entry)
        elif runs and isinstance(runs[-1], list) and runs[-1][1] == entry:
            runs[-1][1] += 1
        else:
            runs.append([entry, entry + 1])
    return runs


def _find_codec(file: Any) -> str:
    """Return the compression of the first column."""
    if not file.num_row_groups:
        return "snappy"
    codec = file.metadata.row_group(0).column(0).compression
    return "none" if codec == "UNCOMPRESSED" else str(codec).lower()


def _to_text(table: Any) -> str:
    """Return a table of one row as text."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return base64.b64encode(sink.getvalue().to_pybytes()).decode()


def _from_text(text: str) -> Any:
    import pyarrow as pa

    with pa.ipc.open_stream(base64.b64decode(text)) as reader:
        return reader.read_all()


@lru_cache(maxsize=1)
def _load_group(path: str, modified: int, group: int) -> Any:
    """Load a row group; `modified`, the time stamp of the file, keeps an older one out."""
    with open_parquet(path) as file:
        return file.read_row_group(group)
