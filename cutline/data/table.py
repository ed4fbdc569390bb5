"""Tables as text: CSV and TSV, and the caption files of Flickr8k and Flickr30k."""

import ast
import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

from cutline.config import Columns
from cutline.data.row import (
    ADDRESS_KEYS,
    DEFAULT_COLUMNS,
    IMAGE_KEYS,
    NAME_IT,
    parse_row,
    reject_columns,
    require_columns,
    urls_only_error,
)
from cutline.data.sample import Sample, merge_rows, read_text
from cutline.errors import DataError

TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".token")
_DELIMITERS = ",\t;|"
_FLICKR = re.compile(r"([^\t]+)#\d+\t(.*)")  # name.jpg#0<TAB>caption
_NUMBERED = re.compile(r"\s*(\d+)\s+(.*)")

Row = tuple[int, list[str]]  # the line it begins on, and its cells


def read_table(
    path: Path, image_root: str = "", columns: Columns = DEFAULT_COLUMNS
) -> list[Sample]:
    """Read a table whose first line names its columns, as `read_jsonl` names them; the delimiter is found.

    - Commas, tabs or semicolons between the cells, quotes around cells that hold some (line breaks too); tabs without quotes, too. A
      cell such as `["a dog", "a cat"]` is a list, as JSON or as pandas writes it.
    - Bars between the cells, no quotes, the last cell taking the rest of the line: Flickr30k's results.csv.
    - Without names: `name.jpg#0<TAB>caption`, Flickr8k.token.txt and Flickr30k's results_20130124.token.

    Several rows of an image (and prompt) become one sample. Raises DataError naming file and line.
    """
    text = read_text(path)
    text = text if "\n" in text else text.replace("\r", "\n")
    first = text.lstrip().partition("\n")[0].rstrip("\r")
    if not first:
        return []
    root = image_root or str(path.parent)
    if _FLICKR.fullmatch(first):
        reject_columns(columns, path)
        return merge_rows(_flickr(text, root, path))
    delimiter = _delimiter(first, path, columns)
    rows = (
        _barred(text, path)
        if delimiter == "|"
        else _tabbed(text, path)
        if delimiter == "\t"
        else _quoted(text, delimiter, path)
    )
    return merge_rows(_samples(rows, root, path, columns))


def _delimiter(first: str, path: Path, columns: Columns) -> str:
    """The one that gives most columns, the image's among them. Raises DataError."""
    try:
        headers = {
            delimiter: [cell.strip() for cell in next(csv.reader([first], delimiter=delimiter))]
            for delimiter in _DELIMITERS
        }
    except csv.Error as error:
        raise DataError(
            f"{path}, line 1: no names of columns that can be read ({error}); give a table whose first line has them"
        ) from None
    best = max(headers, key=lambda delimiter: len(headers[delimiter]))
    wanted = (columns.image_column,) if columns.image_column else IMAGE_KEYS
    fitting = [delimiter for delimiter in headers if set(wanted) & set(headers[delimiter])]
    if fitting:
        return max(fitting, key=lambda delimiter: len(headers[delimiter]))
    if any(
        cell.lower() in ADDRESS_KEYS or cell.startswith(("http://", "https://"))
        for cell in headers[best]
    ):
        raise urls_only_error(path)
    require_columns(Columns(columns.image_column), headers[best], f"{path}, line 1")
    there = ", ".join(headers[best])
    raise DataError(
        f"{path}, line 1: no column is an image's; there are {there[:200]}; call one file_name, or {NAME_IT}"
    )


def _tabbed(text: str, path: Path) -> Iterator[Row]:
    """With quotes around cells, or, where that cannot be, with quotes that are a part of them."""
    try:
        return iter(list(_quoted(text, "\t", path)))
    except DataError:
        return _quoted(text, "\t", path, quotes=False)


def _quoted(text: str, delimiter: str, path: Path, quotes: bool = True) -> Iterator[Row]:
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        strict=True,
        quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE,
    )
    line = 1
    try:
        for cells in reader:
            if any(cells):
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path}, line {line}: not a row that can be read ({error}); mend its quotes"
        ) from None


def _barred(text: str, path: Path) -> Iterator[Row]:
    width = 0
    for line, content in enumerate(text.split("\n"), 1):
        if content.strip():
            cells = [cell.strip() for cell in content.split("|", width - 1)]
            width = width or len(cells)
            if len(cells) == width - 1 and (
                pair := _NUMBERED.fullmatch(cells[-1])
            ):  # Flickr30k's 2199200615.jpg lacks its second bar
                cells[-1:] = pair.groups()
            yield line, cells


def _samples(rows: Iterator[Row], root: str, path: Path, columns: Columns) -> Iterator[Sample]:
    line, names = next(rows)
    names = [name.strip() for name in names]
    require_columns(columns, names, f"{path}, line {line}")
    for line, cells in rows:
        where = f"{path}, line {line}"
        if len(cells) != len(names):
            raise DataError(
                f"{where}: {len(cells)} cells for {len(names)} columns; put quotes around cells that hold the delimiter"
            )
        row = {
            name: _value(cell) if cell[:1] in "[" else cell
            for name, cell in zip(names, cells, strict=True)
        }
        yield parse_row(row, root, where, columns)


def _value(cell: str) -> object:
    """None for an empty cell, the list of texts that a cell holds as JSON or as pandas writes it, or the text as it is."""
    for parse in (json.loads, _parse_repr) if cell.endswith("]") else ():
        try:
            found = parse(cell)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(found, list) and all(isinstance(text, str) for text in found):
            return found
    return cell or None


def _parse_repr(cell: str) -> object:
    """What Python wrote; but `['a' 'b']`, as numpy writes, would be read as `['ab']`, and is None."""
    found = ast.literal_eval(cell)
    return found if "".join(repr(found).split()) == "".join(cell.split()) else None


def _flickr(text: str, root: str, path: Path) -> Iterator[Sample]:
    for line, content in enumerate(text.split("\n"), 1):
        if content.strip():
            if not (found := _FLICKR.fullmatch(content.rstrip("\r"))):
                raise DataError(
                    f"{path}, line {line}: not of the form `name.jpg#0<TAB>caption`; mend or remove it"
                )
            yield parse_row(
                {"file_name": found[1], "caption": found[2]}, root, f"{path}, line {line}"
            )
