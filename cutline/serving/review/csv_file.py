"""`CsvFile`: CSV and TSV, whose rows change in one cell only."""

import csv
import json
from collections.abc import Iterator
from typing import Any, cast

from cutline.config import DataSource
from cutline.data.row import (
    CAPTION_KEYS,
    image_folder,
    parse_row,
    reject_repeated_columns,
    require_columns,
)
from cutline.data.table import find_delimiter, parse_cell
from cutline.data.tolerant import attempt
from cutline.errors import DataError
from cutline.serving.review.formats import FileRow, find_caption_key, make_file_row, name_row
from cutline.serving.review.text_files import BYTE_ORDER_MARK, TextCaptionFile, check_encoding

_LINE_ENDS = "\r\n"
_JSON_COLUMNS = ("confidence", "words", "alternatives")


class CsvFile(TextCaptionFile):
    """A table whose first line names the columns."""

    def __init__(self, source: DataSource) -> None:
        """Name the file, and how it is read."""
        super().__init__(source)
        self._delimiter, self._quoting, self._names = ",", csv.QUOTE_MINIMAL, [""]

    def _parse(self, text: str) -> Iterator[tuple[str, FileRow | DataError | None]]:
        lines = split_lines_as_bytes(text)
        header = next((line for line in lines if line.strip()), "")
        header = header.removeprefix(BYTE_ORDER_MARK).strip(_LINE_ENDS)
        if not header:
            return
        self._delimiter = find_delimiter(header, self.path, self.source.columns, "keep")
        if self._delimiter == "|":
            raise DataError(
                f"{self.path}: a table with bars between its cells; write it as CSV to review it"
            )
        records = list(self._split(lines))
        if self._delimiter == "\t" and any(isinstance(cells, DataError) for _, _, cells in records):
            self._quoting = csv.QUOTE_NONE
            records = list(self._split(lines))
        yield from self._parse_records(records)

    def _split(self, lines: list[str]) -> Iterator[tuple[int, str, list[str] | DataError]]:
        """Yield number, text and cells of each record; an invalid one is a single line."""
        feed = _Feed(lines)
        quoting = cast(Any, self._quoting)
        reader = csv.reader(feed, delimiter=self._delimiter, strict=True, quoting=quoting)
        start = 0
        while start < len(lines):
            try:
                cells: list[str] | DataError = next(reader)
            except csv.Error as error:
                where = f"{self.path}, line {start + 1}"
                cells = DataError(f"{where}: the row cannot be read ({error}); correct its quotes")
                feed.position = start + 1
            yield start + 1, "".join(lines[start : feed.position]), cells
            start = feed.position

    def _parse_records(
        self, records: list[tuple[int, str, list[str] | DataError]]
    ) -> Iterator[tuple[str, FileRow | DataError | None]]:
        root, is_header = image_folder(self.path, self.source), True
        for number, raw, cells in records:
            if isinstance(cells, DataError):
                yield raw, cells
            elif not any(cells):
                yield raw, None
            elif is_header:
                is_header = False
                self._read_names(cells, f"{self.path}, line {number}")
                yield raw, None
            else:
                where = f"{self.path}, line {number}"
                yield raw, attempt(self._parse_record, raw, cells, root, where)

    def _read_names(self, cells: list[str], where: str) -> None:
        self._names = [cell.removeprefix(BYTE_ORDER_MARK).strip() for cell in cells]
        columns = self.source.columns
        reject_repeated_columns(self._names, where)
        require_columns(columns, self._names, where)
        if not columns.caption_column and not set(CAPTION_KEYS) & set(self._names):
            raise DataError(f"{where}: there is no column of captions; add one named `caption`")

    def _parse_record(self, raw: str, cells: list[str], root: str, where: str) -> FileRow:
        check_encoding(raw, where)
        values = self._to_values(cells, where)
        sample = parse_row(values, root, where, self.source.columns)
        value = values[find_caption_key(values, self.source, "")]
        confidence = _parse_json_cell(values.get("confidence"))
        return make_file_row(sample, name_row(values, self.source), value, confidence)

    def _to_values(self, cells: list[str], where: str) -> dict[str, Any]:
        if len(cells) != len(self._names):
            raise DataError(
                f"{where}: {len(cells)} cells for {len(self._names)} columns; "
                "put quotes around cells that contain the delimiter"
            )
        return dict(zip(self._names, map(parse_cell, cells), strict=True))

    def _read_cells(self, raw: str) -> list[str]:
        ((_, _, cells),) = self._split(split_lines_as_bytes(raw))
        if isinstance(cells, DataError):
            raise cells
        return cells

    def parse_raw(self, raw: str) -> FileRow:
        """Return what a record says that is not in the file any more."""
        root = image_folder(self.path, self.source)
        return self._parse_record(raw, self._read_cells(raw), root, f"{self.path}, a row")

    def replace_caption(self, raw: str, text: str) -> str:
        """Return a record that is a row, with another caption and nothing else changed."""
        values = self._to_values(self._read_cells(raw), "")
        key = find_caption_key(values, self.source, "")
        start, end = self._find_cells(raw)[self._names.index(key)]
        if isinstance(values[key], list):
            text = json.dumps(text.split("\n"), ensure_ascii=False)
        return raw[:start] + self._quote(text, raw[start : start + 1] == '"') + raw[end:]

    def _quote(self, text: str, was_quoted: bool) -> str:
        if self._quoting == csv.QUOTE_NONE:
            return text
        is_special = any(each in text for each in (self._delimiter, '"', "\n", "\r"))
        return '"{}"'.format(text.replace('"', '""')) if was_quoted or is_special else text

    def _find_cells(self, raw: str) -> list[tuple[int, int]]:
        """Return where each cell of a record begins and ends."""
        spans, start, length = [], 0, len(raw.rstrip(_LINE_ENDS))
        while start <= length:
            end = start
            if self._quoting == csv.QUOTE_MINIMAL and raw[start : start + 1] == '"':
                end = raw.index('"', start + 1)
                while raw[end + 1 : end + 2] == '"':
                    end = raw.index('"', end + 2)
            delimiter = raw.find(self._delimiter, end)
            end = delimiter if delimiter >= 0 else length
            spans.append((start, end))
            start = end + 1
        return spans

    def read_columns(self, position: int) -> dict[str, Any]:
        """Return the columns of a row that describe its caption."""
        values = self._to_values(self._read_cells(self.read_raw(position)), "")
        return {name: _parse_json_cell(values.get(name)) for name in _JSON_COLUMNS}


def split_lines_as_bytes(text: str) -> list[str]:
    """Return the lines of a text with their ends, as `bytes.splitlines` finds them.

    It splits at line feeds and carriage returns only, and `str.splitlines` at others, too.
    """
    lines = text.encode("utf-8", "surrogateescape").splitlines(keepends=True)
    return [line.decode("utf-8", "surrogateescape") for line in lines]


class _Feed:
    """Lines for `csv.reader`, which tell how many of them it has taken."""

    def __init__(self, lines: list[str]) -> None:
        self._lines, self.position = lines, 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self.position == len(self._lines):
            raise StopIteration
        self.position += 1
        return self._lines[self.position - 1]


def _parse_json_cell(cell: object) -> object:
    try:
        return json.loads(cell) if isinstance(cell, str) else cell
    except (ValueError, RecursionError):
        return None
