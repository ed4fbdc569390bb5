"""`Review`: the steps of a person through captions, from any thread."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cutline.errors import ConfigError
from cutline.serving.review.conflicts import StaleRowError, require_confirmation
from cutline.serving.review.replacement import Replacement, ReplacementPlan
from cutline.serving.review.row import Row, State, clean_text
from cutline.serving.review.row_filter import RowFilter
from cutline.serving.review.row_reader import RowReader
from cutline.serving.review.step import Action, Change, Step
from cutline.serving.review.store import CaptionStore, make_change


@dataclass(frozen=True)
class Undone:
    """A step that was undone."""

    step: Step
    rows: Sequence[Row]
    """the rows that are as they were before it"""


class Review(RowReader):
    """The steps of a person through captions. Each is on the disk before a method returns."""

    def __init__(self, store: CaptionStore) -> None:
        """Review the captions of a store."""
        super().__init__(store)
        self._place: dict[str, Any] = store.replay.place

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
            require_confirmation([row], confirm)
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
                require_confirmation([row], confirm)
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
            require_confirmation(plan.rows, confirm)
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
            changes = [change for each in step.changes if (change := self._store.invert(each))]
            self._store.commit("undo", changes, step.number)
            rows = [row for each in changes if (row := self._store.find_row(each.row))]
            self._store.apply(rows)
            return Undone(step, rows)

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
