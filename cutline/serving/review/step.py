"""`Step`: what a person did in a review, as a line of the journal."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, TypeAlias, cast

from cutline.serving.review.row import Raw, RowId, State

Action: TypeAlias = Literal["accept", "edit", "reject", "replace", "reload", "undo"]


@dataclass(frozen=True, slots=True)
class Change:
    """What a step changes in a row."""

    row: RowId
    image: str
    """name of the image"""
    version: int
    """of the row after the step"""
    old: str
    """text before the step, also of a rejected row"""
    new: str
    was: State
    """state before the step"""
    state: State
    raw: Raw | None = None
    """what the row was made of before, if this is the first step that replaces something of it"""

    @property
    def replaces(self) -> bool:
        """Return whether the step changes what the data contains."""
        return self.old != self.new or "rejected" in (self.was, self.state)

    def to_json(self) -> dict[str, Any]:
        """Return the values to write."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class Step:
    """Something that changes rows: a single one, or several at once."""

    number: int
    """counted from 1"""
    action: Action
    changes: Sequence[Change]
    undoes: int = 0
    """number of the step that this one undoes"""

    def to_json(self) -> dict[str, Any]:
        """Return the values to write."""
        values: dict[str, Any] = {"step": self.number, "action": self.action}
        if self.undoes:
            values["undoes"] = self.undoes
        return values | {"changes": [change.to_json() for change in self.changes]}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Read a step from the values of a line."""
        changes = [Change(**change) for change in values["changes"]]
        action = cast(Action, values["action"])
        return cls(values["step"], action, changes, values.get("undoes", 0))
