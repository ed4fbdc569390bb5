"""Steps that are refused: for an older version of a row, or without a confirmation."""

from collections.abc import Sequence

from cutline.errors import CutlineError
from cutline.serving.review.row import Row


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


def require_confirmation(rows: Sequence[Row], confirm: bool) -> None:
    """Raise OwnCaptionError if captions of somebody else would be replaced without a question."""
    own = [row for row in rows if row.is_own and row.text]
    if own and not confirm:
        raise OwnCaptionError(own)
