"""Blocks of a report that are neither charts nor images: text, key figures, tables, problems."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from cutline.report.numbers import find_decimals, format_value_of_column

MAX_LINE = 18
"""characters of a text in a table that is not divided into lines"""
Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    is_lead: bool = False
    """whether it is what the page has to say, in larger type"""


@dataclass(frozen=True)
class Figures:
    """A few numbers in large type, each with its label: `(("91 %", "correct"), …)`."""

    figures: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Cell:
    """A cell of a table, as it is shown and as it is sorted."""

    text: str
    is_number: bool
    key: float | str

    @property
    def is_short(self) -> bool:
        """Return whether the text stays on one line, such as `BLEU-4` or an interval."""
        return len(self.text) <= MAX_LINE


@dataclass(frozen=True)
class Table:
    """A table whose columns readers can sort.

    Numbers are aligned right, and floats of a column have the same number of decimals.
    """

    rows: Sequence[Sequence[object]]
    """cells: text, integers, floats, or None for an empty cell"""
    header: Sequence[str]
    signed: Collection[str] = ()
    """columns of differences, whose numbers get a sign"""
    percent: Collection[str] = ()
    """columns of fractions that are shown as percentages"""
    caption: str = ""
    """text above the table"""

    @property
    def cells(self) -> list[list[Cell]]:
        """Return the cells by row."""
        columns = [
            self._format_column(name, [row[index] for row in self.rows])
            for index, name in enumerate(self.header)
        ]
        return [list(row) for row in zip(*columns, strict=True)]

    @property
    def is_number(self) -> list[bool]:
        """Return for each column whether it has numbers."""
        return [any(cell.is_number for cell in column) for column in zip(*self.cells, strict=True)]

    def _format_column(self, name: str, values: Sequence[object]) -> list[Cell]:
        is_signed, is_percent = name in self.signed, name in self.percent
        decimals = find_decimals(
            [value for value in values if isinstance(value, float)], is_percent
        )
        return [
            Cell(
                format_value_of_column(value, decimals, is_signed, is_percent),
                is_number(value),
                _make_key(value),
            )
            for value in values
        ]


def is_number(value: object) -> bool:
    """Return whether a value is an integer or a float."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _make_key(value: object) -> float | str:
    if is_number(value):
        number = float(value)  # type: ignore[arg-type]
        return number if math.isfinite(number) else ""
    return "" if value is None else str(value)


@dataclass(frozen=True)
class Problem:
    """A finding: what is wrong, where, and what to do."""

    severity: Severity
    title: str
    """what is wrong, such as `2 images cannot be read`"""
    advice: str
    """what to do"""
    rows: Sequence[tuple[str, str]] = ()
    """images, or whatever else has the problem, each with what is wrong with it"""
    images: Sequence[object] = ()
    """a few of the images, as `Card.image`"""
    tag: str = ""
    """the tag of the images in a gallery of the page, which a button then shows"""
    num_rows: int = 0
    """number of all rows, if only some of them are given"""
    groups: Sequence[Sequence[object]] = ()
    """a few groups of images that belong together, such as copies, shown side by side"""

    @property
    def num_omitted(self) -> int:
        """Return the number of rows that are not given."""
        return max(0, self.num_rows - len(self.rows))


@dataclass(frozen=True)
class Problems:
    """A list of findings, in the order of their severity."""

    problems: Sequence[Problem]

    @property
    def ordered(self) -> list[Problem]:
        """Return errors first, then warnings, then notes."""
        order = {"error": 0, "warning": 1, "note": 2}
        return sorted(self.problems, key=lambda problem: order[problem.severity])
