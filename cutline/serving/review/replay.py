"""`Replay`: what the lines of a journal add up to."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from cutline.serving.review.row import Base, Row, RowId, State
from cutline.serving.review.step import Change, Step


@dataclass(slots=True)
class KnownRow:
    """What a journal knows of a row."""

    image: str
    text: str
    state: State
    version: int
    base: Base | None = None
    texts: set[str] = field(default_factory=set)
    """all texts that the row has had since somebody else changed it"""
    last_text: str = ""
    """text that the data had before the last step; empty if the row was rejected then"""
    changed_outside: bool = False

    def apply(self, change: Change, reloads: bool) -> None:
        """Let a change be the last one; after a reload, the text is new to the journal."""
        if reloads:
            self.base, self.texts = None, set()
        elif change.raw is not None:
            self.base = Base(change.old, change.raw)
        self.texts |= {change.new} if reloads else {change.old, change.new}
        self.last_text = "" if change.was == "rejected" else change.old
        self.text, self.state, self.version = change.new, change.state, change.version
        self.changed_outside = reloads

    @property
    def data_text(self) -> str:
        """Return the text that the data has after the last step; empty if the row is rejected."""
        return "" if self.state == "rejected" else self.text

    def restore(self, row: Row) -> None:
        """Give a row what is known of it."""
        row.text, row.state, row.version, row.base = self.text, self.state, self.version, self.base
        row.changed_outside = self.changed_outside
        if self.base:
            row.is_own = False


@dataclass
class Replay:
    """What the lines of a journal add up to.

    Attributes:
        rows: What is known of each row that a step has changed.
        undoable: The steps that can be undone, the last one at the end.
        count: The number of the last step.
        order: Numbers of all entries of a captions file, in the order of the file, those of
            rejected rows included; None if no captions file has been seen.
        absent: Numbers of the entries that are not in the file that is there; None if the journal
            does not know this file.
        place: What the page showed when the last review ended.
    """

    rows: dict[RowId, KnownRow] = field(default_factory=dict)
    undoable: list[Step] = field(default_factory=list)
    count: int = 0
    order: list[int] | None = None
    absent: set[int] | None = None
    place: dict[str, Any] = field(default_factory=dict)

    def add(self, step: Step) -> None:
        """Add a step."""
        self.count = step.number
        for change in step.changes:
            known = self.rows.get(change.row)
            if known is None:
                known = KnownRow(change.image, change.old, change.was, change.version - 1)
                self.rows[change.row] = known
            known.apply(change, step.action == "reload")
        if step.action == "undo":
            self.undoable.pop()
        elif step.action != "reload":
            self.undoable.append(step)

    def _add_file(self, values: dict[str, Any], content: str) -> None:
        """Add the mark of a captions file, whose content has a hash."""
        if "order" in values:
            self.order = expand_ranges(values["order"])
        if values["file"] == content:
            self.absent = set(expand_ranges(values["absent"]))


def replay_journal(lines: Iterable[dict[str, Any]], content: str = "") -> Replay:
    """Return what the lines of a journal add up to.

    Args:
        lines: The lines.
        content: Hash of the captions file that is there.
    """
    replay = Replay()
    for values in lines:
        if "step" in values:
            replay.add(Step.from_json(values))
            replay.place = {}
        elif "file" in values:
            replay._add_file(values, content)
        elif "place" in values:
            replay.place = values["place"]
    return replay


def compress_ranges(numbers: Sequence[int]) -> list[list[int]]:
    """Return numbers as ranges: the first of each, and the one after its last."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number:
            ranges[-1][1] += 1
        else:
            ranges.append([number, number + 1])
    return ranges


def expand_ranges(ranges: Sequence[Sequence[int]]) -> list[int]:
    """Return the numbers in ranges."""
    return [number for start, end in ranges for number in range(start, end)]
