"""`RowFilter`: which rows the page shows, and in which order."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from cutline.errors import ConfigError
from cutline.serving.review.row import Row, State
from cutline.serving.review.text_pattern import TextPattern

RowOrder: TypeAlias = Literal["data", "confidence"]
STATES = get_args(State)


@dataclass(frozen=True)
class RowFilter:
    """Which rows the page shows, and in which order."""

    states: tuple[State, ...] = ()
    """empty for all"""
    below: float | None = None
    """confidence that rows must have less of; rows without one are left out"""
    pattern: TextPattern = field(default_factory=lambda: TextPattern(""))
    """what captions must contain"""
    is_empty: bool = False
    """whether to show only images without caption"""
    changed_outside: bool = False
    """whether to show only rows that somebody has changed outside of the review"""
    order: RowOrder = "data"
    """`confidence`: the least confident first, those without at the end"""

    def __post_init__(self) -> None:
        if unknown := set(self.states) - set(STATES):
            raise ConfigError(f"there is no state {', '.join(sorted(unknown))}")
        if self.below is not None and not 0 <= self.below <= 1:
            raise ConfigError(f"below must be a confidence from 0 to 1, not {self.below}")
        if self.order not in get_args(RowOrder):
            raise ConfigError(f"order must be data or confidence, not {self.order}")

    def select(self, rows: Iterable[Row]) -> list[int]:
        """Return the numbers of the rows to show, in their order."""
        chosen = [row for row in rows if self.matches(row)]
        if self.order == "confidence":
            chosen.sort(key=lambda row: 2.0 if row.confidence is None else row.confidence)
        return [row.number for row in chosen]

    def matches(self, row: Row) -> bool:
        """Return whether to show a row."""
        if self.states and row.state not in self.states:
            return False
        if self.below is not None and (row.confidence is None or row.confidence >= self.below):
            return False
        if (self.is_empty and row.text) or (self.changed_outside and not row.changed_outside):
            return False
        return not self.pattern.text or self.pattern.find(row.text)
