"""Tables in text files: CSV and TSV, and the caption files of Flickr8k and Flickr30k."""

import ast
import csv
import io
import json
import re
from pathlib import Path

from cutline.config import Columns, DataSource
from cutline.data.csv_rows import Row, split_csv
from cutline.data.row import (
    IMAGE_KEYS,
    URL_KEYS,
    UrlHandling,
    image_folder,
    no_image_column_error,
    parse_row,
    reject_columns,
    reject_repeated_columns,
    require_columns,
    urls_only_error,
)
from cutline.data.sample import Sample
from cutline.data.text import iter_lines
from cutline.data.tolerant import Tolerant, attempt, raise_errors
from cutline.errors import DataError

TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".token")
_DELIMITERS = ",\t;|"
_FLICKR_LINE = re.compile(r"([^\t]+)#\d+\t(.*)")  # name.jpg#0<TAB>caption
_NUMBERED_CAPTION = re.compile(r"\s*(\d+)\s+(.*)")


def iter_table(path: Path, source: DataSource, urls: UrlHandling) -> Tolerant[Sample]:
    """Yield the rows of a table in one of these formats.

    - The first line names the columns, as `iter_jsonl` recognizes them; cells are separated by
      commas, tabs or semicolons, and quoted if they contain separators or line breaks. Tables with
      tabs may do without quoting. A cell such as `["a dog", "a cat"]` is a list, as JSON or as
      pandas writes it.
    - The first line names the columns; cells are separated by vertical bars, never quoted, and the
      last one contains the rest of the line: results.csv of Flickr30k.
    - Lines of the form `name.jpg#0<TAB>caption`, without column names: Flickr8k.token.txt, and
      results_20130124.token of Flickr30k.

    Args:
        path: The file.
        source: Says where the images are, and which column names differ from the defaults.
        urls: What becomes of addresses.

    Yields:
        A sample for each row, or the error of an invalid one, which names the file and the line.

    Raises:
        DataError: The file cannot be read as a table.
    """
    header = _read_header(path)
    if not header:
        return
    root, columns = image_folder(path, source), source.columns
    if _FLICKR_LINE.fullmatch(header):
        reject_columns(columns, path)
        yield from _parse_flickr(_read_lines(path), root, path)
        return
    delimiter = find_delimiter(header, path, columns, urls)
    if delimiter == "|":
        rows = _split_at_bars(_read_lines(path))
    elif delimiter == "\t":
        rows = _split_at_tabs(path)
    else:
        rows = split_csv(_read_lines(path), delimiter, path)
    names = _read_names(rows, path, columns)
    for row in rows:
        if isinstance(row, DataError):
            yield row
        else:
            yield attempt(_parse_row, row, names, root, path, columns, urls)


def _read_lines(path: Path) -> Tolerant[str]:
    r"""Yield the lines of a table with their ends; if none has "\n", those that end with "\r"."""
    lines = iter_lines(path)
    first = next(lines, "")
    if isinstance(first, str) and "\r" in first and not first.endswith("\n"):
        yield from io.StringIO(first.replace("\r", "\n"), newline="\n")
    elif first:
        yield first
    yield from lines


def _read_header(path: Path) -> str:
    """Return the first line that is not blank, or ""."""
    lines = (line.lstrip() for line in raise_errors(_read_lines(path)))
    return next(filter(None, lines), "").removesuffix("\n").rstrip("\r")


def find_delimiter(header: str, path: Path, columns: Columns, urls: UrlHandling) -> str:
    """Return the delimiter that gives the most columns, one of which must be the image column.

    Args:
        header: The line that names the columns.
        path: The file, for error messages.
        columns: Column names, where they differ from the defaults.
        urls: What becomes of addresses.

    Raises:
        DataError: There is no image column.
    """
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
    image_names = {columns.image_column} if columns.image_column else {*IMAGE_KEYS}
    if urls == "allow" and not columns.image_column:
        image_names.update(URL_KEYS)
    candidates = [delimiter for delimiter in headers if image_names & set(headers[delimiter])]
    if candidates:
        return max(candidates, key=lambda delimiter: len(headers[delimiter]))
    raise _no_image_column(max(headers.values(), key=len), path, columns, urls)


def _no_image_column(
    names: list[str], path: Path, columns: Columns, urls: UrlHandling
) -> DataError:
    has_urls = any(name.startswith(("http://", "https://")) for name in names)
    if has_urls and urls == "allow":
        return DataError(
            f"{path}, line 1: the columns have no names; add a first line with `url` and `caption`"
        )
    if has_urls or any(name.lower() in URL_KEYS for name in names):
        return urls_only_error(path, urls)
    require_columns(Columns(columns.image_column), names, f"{path}, line 1")
    return no_image_column_error(names, f"{path}, line 1", "file_name")


def _split_at_tabs(path: Path) -> Tolerant[Row]:
    """Split rows as quoted TSV, or if that fails, as TSV in which quotes are plain characters."""
    lines = (line for line in _read_lines(path) if isinstance(line, str))
    has_errors = any(isinstance(row, DataError) for row in split_csv(lines, "\t", path))
    quoting = csv.QUOTE_NONE if has_errors else csv.QUOTE_MINIMAL
    return split_csv(_read_lines(path), "\t", path, quoting)


def _split_at_bars(lines: Tolerant[str]) -> Tolerant[Row]:
    num_columns = 0  # unknown until the first line, which split("|", -1) splits at every bar
    for number, line in enumerate(lines, 1):
        if isinstance(line, DataError):
            yield line
        elif line.strip():
            cells = [cell.strip() for cell in line.split("|", num_columns - 1)]
            num_columns = num_columns or len(cells)
            # In Flickr30k, a row of 2199200615.jpg lacks its second bar.
            if len(cells) == num_columns - 1 and (match := _NUMBERED_CAPTION.fullmatch(cells[-1])):
                cells[-1:] = match.groups()
            yield number, cells


def _read_names(rows: Tolerant[Row], path: Path, columns: Columns) -> list[str]:
    """Return the names of the columns, which are the first row."""
    line, header = next(raise_errors(rows))
    names = [name.strip() for name in header]
    reject_repeated_columns(names, f"{path}, line {line}")
    require_columns(columns, names, f"{path}, line {line}")
    return names


def _parse_row(
    row: Row, names: list[str], root: str, path: Path, columns: Columns, urls: UrlHandling
) -> Sample:
    line, cells = row
    where = f"{path}, line {line}"
    if len(cells) != len(names):
        raise DataError(
            f"{where}: {len(cells)} cells for {len(names)} columns; "
            "put quotes around cells that contain the delimiter"
        )
    values = (parse_cell(cell) if not cell or cell[0] == "[" else cell for cell in cells)
    return parse_row(dict(zip(names, values, strict=True)), root, where, columns, urls)


def parse_cell(cell: str) -> object:
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


def _parse_flickr(lines: Tolerant[str], root: str, path: Path) -> Tolerant[Sample]:
    for number, line in enumerate(lines, 1):
        if isinstance(line, DataError):
            yield line
        elif line.strip():
            yield attempt(_parse_flickr_line, line, root, f"{path}, line {number}")


def _parse_flickr_line(line: str, root: str, where: str) -> Sample:
    match = _FLICKR_LINE.fullmatch(line.removesuffix("\n").rstrip("\r"))
    if not match:
        raise DataError(f"{where}: not of the form `name.jpg#0<TAB>caption`; correct or remove it")
    return parse_row({"file_name": match[1], "caption": match[2]}, root, where)
