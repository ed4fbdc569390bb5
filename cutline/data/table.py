"""Tables in text files: CSV and TSV, and the caption files of Flickr8k and Flickr30k."""

import ast
import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from cutline.config import Columns
from cutline.data.row import (
    DEFAULT_COLUMNS,
    IMAGE_COLUMN_HINT,
    IMAGE_KEYS,
    URL_KEYS,
    parse_row,
    reject_columns,
    reject_repeated_columns,
    require_columns,
    urls_only_error,
)
from cutline.data.sample import Sample, merge_rows
from cutline.data.text import read_text
from cutline.errors import DataError
from cutline.messages import format_text

TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".token")
_DELIMITERS = ",\t;|"
_FLICKR_LINE = re.compile(r"([^\t]+)#\d+\t(.*)")  # name.jpg#0<TAB>caption
_NUMBERED_CAPTION = re.compile(r"\s*(\d+)\s+(.*)")

Row = tuple[int, list[str]]  # number of the first line, and cells


def read_table(
    path: Path, image_root: str = "", columns: Columns = DEFAULT_COLUMNS
) -> list[Sample]:
    """Read a table in one of these formats.

    - The first line names the columns, as `read_jsonl` recognizes them; cells are separated by
      commas, tabs or semicolons, and quoted if they contain separators or line breaks. Tables with
      tabs may do without quoting. A cell such as `["a dog", "a cat"]` is a list, as JSON or as
      pandas writes it.
    - The first line names the columns; cells are separated by vertical bars, never quoted, and the
      last one contains the rest of the line: results.csv of Flickr30k.
    - Lines of the form `name.jpg#0<TAB>caption`, without column names: Flickr8k.token.txt, and
      results_20130124.token of Flickr30k.

    Args:
        path: The file.
        image_root: Folder that image paths are relative to (default: the folder of the file).
        columns: Column names, where they differ from the defaults.

    Returns:
        One sample per image and prompt.

    Raises:
        DataError: The file cannot be read as a table; the message names the file and the line.
    """
    text = read_text(path)
    text = text if "\n" in text else text.replace("\r", "\n")
    header = text.lstrip().partition("\n")[0].rstrip("\r")
    if not header:
        return []
    root = image_root or str(path.parent)
    if _FLICKR_LINE.fullmatch(header):
        reject_columns(columns, path)
        return merge_rows(_parse_flickr(text, root, path))
    delimiter = _find_delimiter(header, path, columns)
    if delimiter == "|":
        rows = _split_at_bars(text)
    elif delimiter == "\t":
        rows = _split_at_tabs(text, path)
    else:
        rows = _parse_csv(text, delimiter, path)
    return merge_rows(_parse_rows(rows, root, path, columns))


def _find_delimiter(header: str, path: Path, columns: Columns) -> str:
    """Return the delimiter that gives the most columns, one of which must be the image column."""
    try:
        headers = {
            delimiter: [cell.strip() for cell in next(csv.reader([header], delimiter=delimiter))]
            for delimiter in _DELIMITERS
        }
    except csv.Error as error:
        raise DataError(
            f"{path}, line 1: the column names cannot be read ({error}); "
            "give a table whose first line contains them"
        ) from None
    image_names = {columns.image_column} if columns.image_column else set(IMAGE_KEYS)
    candidates = [delimiter for delimiter in headers if image_names & set(headers[delimiter])]
    if candidates:
        return max(candidates, key=lambda delimiter: len(headers[delimiter]))
    raise _no_image_column(max(headers.values(), key=len), path, columns)


def _no_image_column(names: list[str], path: Path, columns: Columns) -> DataError:
    if any(name.lower() in URL_KEYS or name.startswith(("http://", "https://")) for name in names):
        return urls_only_error(path)
    require_columns(Columns(columns.image_column), names, f"{path}, line 1")
    return DataError(
        f"{path}, line 1: none of the columns {format_text(', '.join(names))} is recognized as "
        f"the image column; rename the right one to `file_name`, or {IMAGE_COLUMN_HINT}"
    )


def _split_at_tabs(text: str, path: Path) -> Iterator[Row]:
    """Split rows as quoted TSV, or if that fails, as TSV in which quotes are plain characters."""
    try:
        return iter(list(_parse_csv(text, "\t", path)))
    except DataError:
        return _parse_csv(text, "\t", path, quoting=csv.QUOTE_NONE)


def _parse_csv(
    text: str, delimiter: str, path: Path, quoting: int = csv.QUOTE_MINIMAL
) -> Iterator[Row]:
    file = io.StringIO(text, newline="")
    reader = csv.reader(file, delimiter=delimiter, strict=True, quoting=cast(Any, quoting))
    line = 1
    try:
        for cells in reader:
            if any(cells):
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        is_long = "field limit" in str(error) and reader.line_num == line
        hint = "shorten the cell, or write JSON Lines" if is_long else "correct its quotes"
        raise DataError(f"{path}, line {line}: the row cannot be read ({error}); {hint}") from None


def _split_at_bars(text: str) -> Iterator[Row]:
    num_columns = 0  # unknown until the first line, which split("|", -1) splits at every bar
    for line, content in enumerate(text.split("\n"), 1):
        if content.strip():
            cells = [cell.strip() for cell in content.split("|", num_columns - 1)]
            num_columns = num_columns or len(cells)
            # In Flickr30k, a row of 2199200615.jpg lacks its second bar.
            if len(cells) == num_columns - 1 and (match := _NUMBERED_CAPTION.fullmatch(cells[-1])):
                cells[-1:] = match.groups()
            yield line, cells


def _parse_rows(rows: Iterator[Row], root: str, path: Path, columns: Columns) -> Iterator[Sample]:
    line, header = next(rows)
    names = [name.strip() for name in header]
    reject_repeated_columns(names, f"{path}, line {line}")
    require_columns(columns, names, f"{path}, line {line}")
    for line, cells in rows:
        where = f"{path}, line {line}"
        if len(cells) != len(names):
            raise DataError(
                f"{where}: {len(cells)} cells for {len(names)} columns; "
                "put quotes around cells that contain the delimiter"
            )
        values = (_parse_cell(cell) if not cell or cell[0] == "[" else cell for cell in cells)
        yield parse_row(dict(zip(names, values, strict=True)), root, where, columns)


def _parse_cell(cell: str) -> object:
    """Return None for an empty cell, the list in a cell with a list of texts, else the text."""
    parsers = (json.loads, _parse_repr) if cell.endswith("]") else ()
    for parse in parsers:
        try:
            value = parse(cell)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(value, list) and all(isinstance(text, str) for text in value):
            return value
    return cell or None


def _parse_repr(cell: str) -> object:
    """Return the value of a Python literal, or None if Python would write the value otherwise.

    This rejects numpy's `['a' 'b']`, which Python would read as `['ab']`.
    """
    value = ast.literal_eval(cell)
    return value if "".join(repr(value).split()) == "".join(cell.split()) else None


def _parse_flickr(text: str, root: str, path: Path) -> Iterator[Sample]:
    for line, content in enumerate(text.split("\n"), 1):
        if content.strip():
            where = f"{path}, line {line}"
            match = _FLICKR_LINE.fullmatch(content.rstrip("\r"))
            if not match:
                raise DataError(
                    f"{where}: not of the form `name.jpg#0<TAB>caption`; correct or remove it"
                )
            yield parse_row({"file_name": match[1], "caption": match[2]}, root, where)
