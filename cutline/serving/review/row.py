"""`Row`: a caption under review."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from cutline.files import ImageRef

State: TypeAlias = Literal["not reviewed", "accepted", "edited", "rejected"]
RowId: TypeAlias = int | str
"""number of an entry in a captions file, or path of an image within a folder"""
Raw: TypeAlias = str | dict[str, str]
"""what a row was made of: a line of a captions file, or the content of text files by name"""


@dataclass(frozen=True, slots=True)
class Base:
    """A row before its first change."""

    text: str
    raw: Raw


@dataclass(slots=True)
class Row:
    """An image and its caption, or its captions, one on each line.

    A rejected row keeps its text, which is in no file any more.
    """

    number: int
    """by which the page knows it, as long as the review is open"""
    id: RowId
    """by which the journal knows it"""
    name: str
    """the image as the data names it"""
    image: str | bytes | ImageRef
    text: str
    """empty if there is no caption"""
    state: State = "not reviewed"
    version: int = 1
    """grows with every change"""
    has_lines: bool = False
    """whether there may be several captions, one on each line"""
    confidence: float | None = None
    base: Base | None = None
    """None if nothing of the row has been replaced"""
    is_own: bool = True
    """whether the caption is somebody's own: cutline did not write it, and nobody has agreed to
    replace it"""
    changed_outside: bool = False
    """whether the text is another one than the review left, because someone has changed it"""

    @property
    def is_replaced(self) -> bool:
        """Return whether the text is another one than before the review."""
        return self.base is not None and self.base.text != self.text

    def describe(self) -> dict[str, Any]:
        """Return what the page shows in a list, in types of JSON."""
        return {
            "row": self.number,
            "name": self.name,
            "text": self.text,
            "state": self.state,
            "version": self.version,
            "confidence": self.confidence,
            "is_own": self.is_own and bool(self.text),
            "has_lines": self.has_lines,
            "changed_outside": self.changed_outside,
            "original": self.base.text if self.base and self.is_replaced else None,
        }


def clean_text(text: str, has_lines: bool) -> str:
    """Return a caption without superfluous whitespace, or several, one on each line."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    return ("\n" if has_lines else " ").join(filter(None, lines))
