"""`CaptionStore`: where the captions under review are kept."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from cutline.errors import DataError
from cutline.serving.review.journal import Journal
from cutline.serving.review.replay import Replay
from cutline.serving.review.row import Raw, Row, RowId, State
from cutline.serving.review.step import Action, Change, Step


class CaptionStore(ABC):
    """Where the captions under review are kept: a captions file, or text files beside images.

    Attributes:
        name: Name of the captions file or folder.
        journal: To which steps are appended.
        replay: What the journal says.
        rows: All rows in order by their numbers, those that are rejected included.
        errors: Of what cannot be read, and is left as it is.
    """

    name: str
    journal: Journal
    replay: Replay
    rows: dict[int, Row]
    errors: Sequence[DataError]

    def commit(self, action: Action, changes: Sequence[Change], undoes: int = 0) -> Step:
        """Append a step to the journal, and let the rows have what it changes.

        Raises:
            DataError: The journal cannot be written; nothing has been changed.
        """
        step = Step(self.replay.count + 1, action, changes, undoes)
        self.journal.append(step.to_json())
        self.replay.add(step)
        for change in changes:
            if row := self.find_row(change.row):
                self.replay.rows[change.row].restore(row)
        return step

    def invert(self, change: Change) -> Change | None:
        """Return the change that undoes another; None if the row has changed since."""
        row = self.find_row(change.row)
        if row is None or (row.text, row.state) != (change.new, change.state):
            return None
        return make_change(row, change.was, change.old)

    def reload(self, texts: Mapping[int, str]) -> None:
        """Let rows have texts that somebody else has given them, by their numbers."""
        rows = [(self.rows[number], text) for number, text in texts.items()]
        self.commit("reload", [make_change(row, "not reviewed", text) for row, text in rows])
        for row, _ in rows:
            row.is_own = True

    @abstractmethod
    def find_row(self, id: RowId) -> Row | None:
        """Return the row with an id."""

    @abstractmethod
    def read_raw(self, row: Row) -> Raw:
        """Return what a row is made of, before its first change."""

    @abstractmethod
    def read_columns(self, row: Row) -> dict[str, Any]:
        """Return columns that describe the caption of a row as it was read, such as `words`."""

    @abstractmethod
    def refresh(self, rows: Sequence[Row]) -> None:
        """Let rows that somebody else has changed have the new texts, before a step."""

    @abstractmethod
    def apply(self, rows: Sequence[Row]) -> None:
        """Write what can be written at once of rows that a step has changed.

        Raises:
            DataError: It cannot be written.
        """

    @abstractmethod
    def bring_up_to_date(self) -> bool:
        """Write all that the journal says and the data does not.

        Returns:
            Whether rows must be read again, with `refresh`, before they are used.

        Raises:
            DataError: It cannot be written.
        """

    @abstractmethod
    def describe(self) -> str:
        """Return what has been written where, in a few words."""

    @abstractmethod
    def close(self) -> None:
        """Let others use the data."""


def make_change(row: Row, state: State, text: str, raw: Raw | None = None) -> Change:
    """Return the change that gives a row a state and a text."""
    return Change(row.id, row.name, row.version + 1, row.text, text, row.state, state, raw)
