"""`ReviewSession`: a review as its page sees it: rows in views, images, and a captioner."""

import itertools
import secrets
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from cutline.bulk.record import SCORE_DIGITS
from cutline.serving.review.conflicts import NoRowError
from cutline.serving.review.review import Review
from cutline.serving.review.row import Row
from cutline.serving.review.row_filter import RowFilter
from cutline.serving.review.thumbnails import Thumbnails

MAX_VIEWS = 32
"""views that are remembered, of several tabs"""


@dataclass
class ReviewSession:
    """A review as its page sees it.

    Attributes:
        review: The review.
        name: Name of the data.
        can_caption: Whether there is a captioner.
        key: The secret that is in the address.
    """

    review: Review
    name: str
    can_caption: bool = False
    key: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    thumbnails: Thumbnails = field(default_factory=Thumbnails)

    def __post_init__(self) -> None:
        self._views: OrderedDict[int, list[int]] = OrderedDict()
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def open_view(self, row_filter: RowFilter) -> tuple[int, list[int]]:
        """Return a number for the rows that a filter chooses now, and the rows.

        A view stays as it is while its rows are changed.
        """
        numbers = self.review.select(row_filter)
        with self._lock:
            view = next(self._numbers)
            self._views[view] = numbers
            while len(self._views) > MAX_VIEWS:
                self._views.popitem(last=False)
        return view, numbers

    def find_view(self, view: int) -> Sequence[int]:
        """Return the numbers of the rows of a view.

        Raises:
            NoRowError: It is not remembered any more.
        """
        with self._lock:
            if view not in self._views:
                raise NoRowError("this list is too old; load it again")
            self._views.move_to_end(view)
            return self._views[view]

    def describe_row(self, number: int) -> dict[str, Any]:
        """Return all that the page shows of a row, in types of JSON."""
        columns = self.review.read_columns(number)
        row = self.review.find(number)
        return row.describe() | {
            "words": [] if row.is_replaced else check_words(row, columns.get("words")),
            "alternatives": check_alternatives(row, columns.get("alternatives")),
            "file": PurePath(row.name).name or f"row {number + 1}",
        }


def check_words(row: Row, words: object) -> list[dict[str, Any]]:
    """Return the words of a caption with their confidence, if they are those of its text."""
    listed = []
    for word in words if isinstance(words, list) else []:
        try:
            start, end, confidence = word["start"], word["end"], float(word["confidence"])
            if row.text[start:end] != word["text"] or not 0 <= confidence <= 1:
                return []
        except (TypeError, KeyError, ValueError):
            return []
        listed.append({"text": word["text"], "start": start, "end": end, "confidence": confidence})
    return listed


def check_alternatives(row: Row, alternatives: object) -> list[dict[str, Any]]:
    """Return other captions that the data has for an image."""
    listed = []
    for each in alternatives if isinstance(alternatives, list) else []:
        text = each.get("caption") if isinstance(each, dict) else None
        if isinstance(text, str) and text.strip() and text != row.text:
            confidence = each.get("confidence")
            is_number = isinstance(confidence, float)
            confidence = round(confidence, SCORE_DIGITS) if is_number else None
            listed.append({"text": text, "confidence": confidence})
    return listed
