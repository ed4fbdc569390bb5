"""`Review`: the steps of a person through captions, from any thread."""

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cutline.errors import ConfigError, CutlineError, DataError
from cutline.serving.review.replacement import Replacement, ReplacementPlan
from cutline.serving.review.row import Row, State, clean_text
from cutline.serving.review.row_filter import STATES, RowFilter
from cutline.serving.review.step import Action, Change, Step
from cutline.serving.review.store import CaptionStore, make_change


class NoRowError(CutlineError):
    """A row that does not exist."""


class StaleRowError(CutlineError):
    """A step that is made for an older version of a row.

    Attributes:
        rows: The rows as they are now.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        super().__init__("changed since it was shown, in another tab or outside of this review")
        self.rows = rows


class OwnCaptionError(CutlineError):
    """A step that would replace captions of somebody else, and is not confirmed.

    Attributes:
        rows: Their rows.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        what = "this caption was" if len(rows) == 1 else f"{len(rows):,} captions were"
        super().__init__(f"{what} not written by cutline; confirm to replace")
        self.rows = rows


@dataclass(frozen=True)
class Undone:
    """A step that was undone."""

    step: Step
    rows: Sequence[Row]
    """the rows that are as they were before it"""


class Review:
    """The steps of a person through captions. Each is on the disk before a method returns."""

    def __init__(self, store: CaptionStore) -> None:
        """Review the captions of a store."""
        self._store = store
        self._lock = threading.RLock()
        self._first_step = store.replay.count
        self._place: dict[str, Any] = store.replay.place

    # What there is

    def select(self, row_filter: RowFilter) -> list[int]:
        """Return the numbers of rows that a filter chooses, in its order."""
        with self._lock:
            return row_filter.select(self._store.rows.values())

    def describe_rows(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """Return what the page shows of rows; those that do not exist any more are left out."""
        with self._lock:
            rows = self._store.rows
            return [rows[number].describe() for number in numbers if number in rows]

    def find(self, number: int) -> Row:
        """Return a row.

        Raises:
            NoRowError: It does not exist.
        """
        row = self._store.rows.get(number)
        if row is None:
            raise NoRowError("there is no such row any more; load the page again")
        return row

    def read_columns(self, number: int) -> dict[str, Any]:
        """Return columns that describe the caption of a row as it was read, such as `words`."""
        with self._lock:
            return self._store.read_columns(self.find(number))

    def count_states(self) -> dict[str, int]:
        """Return the number of rows in each state."""
        with self._lock:
            count = Counter(row.state for row in self._store.rows.values())
            return {state: count[state] for state in STATES}

    @property
    def errors(self) -> Sequence[DataError]:
        """Return the errors of what cannot be read, and is left as it is."""
        return self._store.errors

    @property
    def can_undo(self) -> bool:
        """Return whether there is a step to undo."""
        return bool(self._store.replay.undoable)

    @property
    def num_steps(self) -> int:
        """Return the number of steps since the review was opened."""
        return self._store.replay.count - self._first_step

    def find_unreviewed(self, numbers: Sequence[int], start: int) -> int:
        """Return the place of the first row from a place on that has not been reviewed, if any."""
        with self._lock:
            rows = self._store.rows
            for place in range(start, len(numbers)):
                row = rows.get(numbers[place])
                if row is not None and row.state == "not reviewed":
                    return place
        return start

    # Steps

    def accept(self, number: int, version: int) -> Row:
        """Accept the caption of a row, or bring a rejected one back.

        Raises:
            StaleRowError: The row has another version.
            ConfigError: It has no caption.
            DataError: The step cannot be written.
        """
        with self._lock:
            row = self._find_version(number, version)
            if not row.text:
                raise ConfigError("this image has no caption to accept; write one")
            return self._change(row, "accept", "accepted", row.text)

    def edit(self, number: int, version: int, text: str, confirm: bool = False) -> Row:
        """Replace the caption of a row; the same text again means to accept it.

        Raises:
            StaleRowError: The row has another version.
            OwnCaptionError: The caption is somebody's own, and the step is not confirmed.
            ConfigError: The new caption is empty.
            DataError: The step cannot be written.
        """
        with self._lock:
            row = self._find_version(number, version)
            text = clean_text(text, row.has_lines)
            if not text:
                raise ConfigError("the caption is empty; reject it instead")
            if text == row.text:
                return self._change(row, "accept", "accepted", text)
            _require_confirmation([row], confirm)
            return self._change(row, "edit", "edited", text)

    def reject(self, number: int, version: int, confirm: bool = False) -> Row:
        """Take the caption of a row out of the data; the journal keeps it.

        Raises:
            StaleRowError: The row has another version.
            OwnCaptionError: The caption is somebody's own, and the step is not confirmed.
            DataError: The step cannot be written.
        """
        with self._lock:
            row = self._find_version(number, version)
            if row.state != "rejected":
                _require_confirmation([row], confirm)
            return self._change(row, "reject", "rejected", row.text)

    def plan_replacement(self, replacement: Replacement, row_filter: RowFilter) -> ReplacementPlan:
        """Return what replacing would do to the rows that a filter chooses."""
        with self._lock:
            numbers = row_filter.select(self._store.rows.values())
            return replacement.plan(self._store.rows[number] for number in numbers)

    def replace(
        self, replacement: Replacement, row_filter: RowFilter, stamp: str, confirm: bool = False
    ) -> list[Row]:
        """Replace a text in all rows that a filter chooses, as one step.

        Rows that have not been reviewed stay so.

        Args:
            replacement: What is replaced.
            row_filter: Where.
            stamp: That of the plan that was shown.
            confirm: Whether captions that are somebody's own are replaced, too.

        Returns:
            The rows that were changed.

        Raises:
            StaleRowError: The plan is another one now.
            OwnCaptionError: There are captions that are somebody's own.
            DataError: The step cannot be written.
        """
        with self._lock:
            plan = self.plan_replacement(replacement, row_filter)
            self._store.refresh(plan.rows)
            plan = self.plan_replacement(replacement, row_filter)
            if plan.stamp != stamp:
                raise StaleRowError(plan.rows)
            _require_confirmation(plan.rows, confirm)
            changes = [
                self._make_change(row, row.state if row.state == "not reviewed" else "edited", text)
                for row, text in zip(plan.rows, plan.texts, strict=True)
            ]
            if changes:
                self._store.commit("replace", changes)
                self._store.apply(plan.rows)
            return plan.rows

    def undo(self) -> Undone | None:
        """Undo the last step that has not been undone, also one of an earlier review.

        Rows that somebody has changed outside of the review since then stay as they are.

        Returns:
            The step; None if there is none.

        Raises:
            DataError: It cannot be written.
        """
        with self._lock:
            if not self._store.replay.undoable:
                return None
            step = self._store.replay.undoable[-1]
            rows = [row for each in step.changes if (row := self._store.find_row(each.row))]
            self._store.refresh(rows)
            changes = [change for each in step.changes if (change := self._invert(each))]
            self._store.commit("undo", changes, step.number)
            rows = [row for each in changes if (row := self._store.find_row(each.row))]
            self._store.apply(rows)
            return Undone(step, rows)

    def _invert(self, change: Change) -> Change | None:
        row = self._store.find_row(change.row)
        if row is None or (row.text, row.state) != (change.new, change.state):
            return None
        return make_change(row, change.was, change.old)

    def _find_version(self, number: int, version: int) -> Row:
        self._store.refresh([self.find(number)])
        row = self.find(number)
        if row.version != version:
            raise StaleRowError([row])
        return row

    def _change(self, row: Row, action: Action, state: State, text: str) -> Row:
        if (row.state, row.text) != (state, text):
            self._store.commit(action, [self._make_change(row, state, text)])
            self._store.apply([row])
        return row

    def _make_change(self, row: Row, state: State, text: str) -> Change:
        change = make_change(row, state, text)
        if change.replaces and row.base is None:
            return make_change(row, state, text, self._store.read_raw(row))
        return change

    # Where one stopped

    def set_place(self, place: dict[str, Any]) -> None:
        """Remember what the page shows, for the next review."""
        with self._lock:
            self._place = place

    def find_place(self) -> dict[str, Any]:
        """Return what the page showed last, or else the row of the last step."""
        with self._lock:
            if self._place or not self._store.replay.undoable:
                return self._place
            row = self._store.find_row(self._store.replay.undoable[-1].changes[-1].row)
            return {"row": row.number} if row else {}

    def save(self) -> str:
        """Write what has to be written, and return where it is.

        Raises:
            DataError: It cannot be written; the next review will do it.
        """
        with self._lock:
            if self._write():
                self._store.refresh([])
            return self._store.describe()

    def _write(self) -> bool:
        if self._place and self._place != self._store.replay.place:
            self._store.journal.append({"place": self._place})
            self._store.replay.place = self._place
        return self._store.bring_up_to_date()

    def close(self) -> str:
        """Write what has to be written, and let others use the data.

        Returns:
            Where the captions are.

        Raises:
            DataError: Something cannot be written; the next review will do it.
        """
        with self._lock:
            try:
                self._write()
                return self._store.describe()
            finally:
                self._store.close()


def _require_confirmation(rows: Sequence[Row], confirm: bool) -> None:
    """Raise OwnCaptionError if captions of somebody else would be replaced without a question."""
    own = [row for row in rows if row.is_own and row.text]
    if own and not confirm:
        raise OwnCaptionError(own)
