"""What the page of a review sends."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from cutline.serving.review.replacement import Replacement
from cutline.serving.review.row import State
from cutline.serving.review.row_filter import RowFilter, RowOrder
from cutline.serving.review.text_pattern import TextPattern

MAX_TEXT = 100_000
"""characters of a caption"""


class ReviewBody(BaseModel):
    """What a request may hold; anything else is an error."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)


class FilterBody(ReviewBody):
    """Which rows are shown."""

    states: list[State] = Field(default=[], max_length=4)
    below: float | None = None
    text: str = Field(default="", max_length=MAX_TEXT)
    whole_words: bool = False
    match_case: bool = False
    is_empty: bool = False
    changed_outside: bool = False
    order: RowOrder = "data"

    def make_filter(self) -> RowFilter:
        """Return the filter. Raises ConfigError."""
        pattern = TextPattern(self.text, self.whole_words, self.match_case)
        return RowFilter(
            tuple(self.states),
            self.below,
            pattern,
            self.is_empty,
            self.changed_outside,
            self.order,
        )


class StepBody(ReviewBody):
    """A step, and the version of the row for which it is made."""

    version: int
    confirm: bool = False


class EditBody(StepBody):
    """Another caption."""

    text: str = Field(max_length=MAX_TEXT)


class ReplacementBody(ReviewBody):
    """What is found and replaced, and in which rows."""

    find: str = Field(max_length=MAX_TEXT)
    replace: str = Field(default="", max_length=MAX_TEXT)
    whole_words: bool = False
    match_case: bool = False
    filter: FilterBody = FilterBody()
    stamp: str = ""
    confirm: bool = False

    def make_replacement(self) -> Replacement:
        """Return the replacement. Raises ConfigError."""
        return Replacement(TextPattern(self.find, self.whole_words, self.match_case), self.replace)


class PlaceBody(ReviewBody):
    """What the page shows."""

    row: int
    filter: FilterBody = FilterBody()

    def to_place(self) -> dict[str, Any]:
        """Return what is remembered, in types of JSON."""
        return self.model_dump()


class TextBody(ReviewBody):
    """A caption to explain."""

    text: str = Field(min_length=1, max_length=MAX_TEXT)
