"""Split lines of CSV into rows, and go on after a row that is not CSV."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias, cast

from cutline.data.tolerant import Tolerant
from cutline.errors import DataError

MAX_REPEATED_CHARACTERS = 64 << 20
"""characters of a file that are read again after rows that are not CSV"""

Row: TypeAlias = tuple[int, list[str]]
"""number of the first line, and cells"""


def split_csv(
    lines: Tolerant[str], delimiter: str, path: Path, quoting: int = csv.QUOTE_MINIMAL
) -> Tolerant[Row]:
    """Yield the rows that are not blank.

    After a row that is not CSV, such as one whose quotes do not end, reading goes on with the
    second of its lines.

    Args:
        lines: The lines with their ends, and the errors of those that cannot be decoded.
        delimiter: The character between cells.
        path: The file, for error messages.
        quoting: As `csv.reader` takes it.

    Yields:
        The rows and errors.
    """
    source = _Lines(lines)
    reader = csv.reader(source, delimiter=delimiter, strict=True, quoting=cast(Any, quoting))
    while True:
        source.row.clear()
        line = source.number + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except DataError as error:  # a line that cannot be decoded
            yield error
            if source.row:
                yield _row_error(path, line, "unexpected end of data", "correct its quotes")
                source.go_back()
        except csv.Error as error:
            is_long = "field limit" in str(error) and len(source.row) == 1
            hint = "shorten the cell, or write JSON Lines" if is_long else "correct its quotes"
            yield _row_error(path, line, error, hint)
            source.go_back()
        else:
            if any(cells):
                yield line, cells


def _row_error(path: Path, line: int, reason: object, hint: str) -> DataError:
    return DataError(f"{path}, line {line}: the row cannot be read ({reason}); {hint}")


class _Lines:
    """Lines for `csv.reader`, which can go back to the second line of a row."""

    def __init__(self, lines: Tolerant[str]) -> None:
        self.lines = _split_at_returns(lines)
        self.number = 0
        """number of the line read last"""
        self.row: list[str] = []
        """lines of the current row that have been read"""
        self.repeated: list[str] = []
        """lines to be read again, the next one last"""
        self.budget = MAX_REPEATED_CHARACTERS

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self.repeated.pop() if self.repeated else next(self.lines)
        self.number += 1
        if isinstance(line, DataError):
            raise line
        self.row.append(line)
        return line

    def go_back(self) -> None:
        """Read all but the first line of the row again, unless much has been read again already."""
        lines = self.row[1:]
        self.budget -= sum(map(len, lines))
        if self.budget >= 0:
            self.number -= len(lines)
            self.repeated += reversed(lines)


def _split_at_returns(lines: Tolerant[str]) -> Tolerant[str]:
    r"""Split lines at "\r", too, as `csv.reader` expects."""
    for line in lines:
        if isinstance(line, str) and "\r" in line:
            yield from io.StringIO(line, newline="")
        else:
            yield line
