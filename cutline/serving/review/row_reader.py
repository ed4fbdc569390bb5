"""`RowReader`: what there is to review, from any thread."""

import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

from cutline.errors import DataError
from cutline.serving.review.conflicts import NoRowError
from cutline.serving.review.row import Row
from cutline.serving.review.row_filter import STATES, RowFilter
from cutline.serving.review.store import CaptionStore


class RowReader:
    """What there is to review."""

    def __init__(self, store: CaptionStore) -> None:
        """Read the rows of a store."""
        self._store = store
        self._lock = threading.RLock()

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

    def find_unreviewed(self, numbers: Sequence[int], start: int) -> int:
        """Return the place of the first row from a place on that has not been reviewed, if any."""
        with self._lock:
            rows = self._store.rows
            for place in range(start, len(numbers)):
                row = rows.get(numbers[place])
                if row is not None and row.state == "not reviewed":
                    return place
        return start
