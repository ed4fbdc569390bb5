"""Tables as text: CSV and TSV, and the caption files of Flickr8k and Flickr30k."""

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

from cutline.config import Columns
from cutline.data.row import ADDRESS_KEYS, PICTURE_KEYS, USUAL, holds_addresses, parse_row, reject_columns, require_columns
from cutline.data.sample import Sample, merge, read_text
from cutline.errors import DataError

TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".token")
_DELIMITERS = ",\t;|"
_FLICKR = re.compile(r"([^\t]+)#\d+\t(.*)")  # name.jpg#0<TAB>caption
_NUMBERED = re.compile(r"\s*(\d+)\s+(.*)")

Row = tuple[int, list[str]]  # the line it begins on, and its cells


def read_table(path: Path, image_root: str = "", columns: Columns = USUAL) -> list[Sample]:
    """Read a table whose first line names its columns, as `read_jsonl` names them; the delimiter is found.

    - Commas, tabs or semicolons between the cells, quotes around cells that hold some (line breaks too). A cell such as
      `["a dog", "a cat"]` is a list.
    - Bars between the cells, no quotes, the last cell taking the rest of the line: Flickr30k's results.csv.
    - Without names: `name.jpg#0<TAB>caption`, Flickr8k.token.txt and Flickr30k's results_20130124.token.

    Several rows of a picture (and prompt) become one sample. Raises DataError naming file and line.
    """
    text = read_text(path)
    first = text.lstrip().partition("\n")[0].rstrip("\r")
    if not first:
        return []
    root = image_root or str(path.parent)
    if _FLICKR.fullmatch(first):
        reject_columns(columns, path)
        return merge(_flickr(text, root, path))
    delimiter = _delimiter(first, path, columns)
    rows = _barred(text, path) if delimiter == "|" else _quoted(text, delimiter, path)
    return merge(_samples(rows, root, path, columns))


def _delimiter(first: str, path: Path, columns: Columns) -> str:
    """The one that gives most columns, the picture's among them. Raises DataError."""
    headers = {delimiter: [cell.strip() for cell in next(csv.reader([first], delimiter=delimiter))] for delimiter in _DELIMITERS}
    best = max(headers, key=lambda delimiter: len(headers[delimiter]))
    wanted = (columns.image,) if columns.image else PICTURE_KEYS
    fitting = [delimiter for delimiter in headers if set(wanted) & set(headers[delimiter])]
    if fitting:
        return max(fitting, key=lambda delimiter: len(headers[delimiter]))
    if any(cell.lower() in ADDRESS_KEYS or cell.startswith(("http://", "https://")) for cell in headers[best]):
        raise holds_addresses(path)
    require_columns(Columns(columns.image), headers[best], f"{path}, line 1")
    there = ", ".join(headers[best])
    raise DataError(f"{path}, line 1: no column is a picture's; there are {there[:200]}; call one file_name, or set image_column")


def _quoted(text: str, delimiter: str, path: Path) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for cells in reader:
            if any(cells):
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}, line {line}: not a row that can be read ({error}); mend its quotes") from None


def _barred(text: str, path: Path) -> Iterator[Row]:
    width = 0
    for line, content in enumerate(text.split("\n"), 1):
        if content.strip():
            cells = [cell.strip() for cell in content.split("|", width - 1)]
            width = width or len(cells)
            if len(cells) == width - 1 and (pair := _NUMBERED.fullmatch(cells[-1])):  # Flickr30k's 2199200615.jpg lacks its second bar
                cells[-1:] = pair.groups()
            yield line, cells


def _samples(rows: Iterator[Row], root: str, path: Path, columns: Columns) -> Iterator[Sample]:
    line, names = next(rows)
    names = [name.strip() for name in names]
    require_columns(columns, names, f"{path}, line {line}")
    for line, cells in rows:
        where = f"{path}, line {line}"
        if len(cells) != len(names):
            raise DataError(f"{where}: {len(cells)} cells for {len(names)} columns; put quotes around cells that hold the delimiter")
        row = {name: _value(cell) if cell[:1] in "[" else cell for name, cell in zip(names, cells, strict=True)}
        yield parse_row(row, root, where, columns)


def _value(cell: str) -> object:
    """None for an empty cell, the list that a cell holds as JSON, or the text as it is."""
    if cell.startswith('["') and cell.endswith('"]'):
        try:
            return json.loads(cell)
        except ValueError:
            return cell
    return cell or None


def _flickr(text: str, root: str, path: Path) -> Iterator[Sample]:
    for line, content in enumerate(text.split("\n"), 1):
        if content.strip():
            if not (found := _FLICKR.fullmatch(content.rstrip("\r"))):
                raise DataError(f"{path}, line {line}: not of the form `name.jpg#0<TAB>caption`; mend or remove it")
            yield parse_row({"file_name": found[1], "caption": found[2]}, root, f"{path}, line {line}")
