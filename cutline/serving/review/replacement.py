"""`Replacement`: find and replace in all captions, and what it would do."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cutline.errors import ConfigError
from cutline.serving.review.row import Row, clean_text
from cutline.serving.review.text_pattern import TextPattern

MAX_EXAMPLES = 100
"""rows that a preview shows"""


@dataclass(frozen=True)
class Replacement:
    """A text to find and another one to put in its place."""

    pattern: TextPattern
    text: str

    def __post_init__(self) -> None:
        if not self.pattern.text:
            raise ConfigError("name the text to find")

    def plan(self, rows: Iterable[Row]) -> "ReplacementPlan":
        """Return what replacing would do to rows; rejected ones stay."""
        plan = ReplacementPlan([], [], 0)
        for row in rows:
            if row.state == "rejected" or not self.pattern.find(row.text):
                continue
            text = clean_text(self.pattern.replace(row.text, self.text), row.has_lines)
            if not text:
                plan.num_emptied += 1
            elif text != row.text:
                plan.rows.append(row)
                plan.texts.append(text)
        return plan


@dataclass
class ReplacementPlan:
    """What replacing would do."""

    rows: list[Row]
    """those that would change"""
    texts: list[str]
    """what they would contain"""
    num_emptied: int
    """captions that would be empty, and stay as they are"""

    @property
    def own(self) -> list[Row]:
        """Return the rows whose captions are somebody's own."""
        return [row for row in self.rows if row.is_own]

    @property
    def stamp(self) -> str:
        """Return a text that changes when the plan does."""
        digest = hashlib.sha256()
        for row, text in zip(self.rows, self.texts, strict=True):
            digest.update(f"{row.number} {row.version} {text}\0".encode("utf-8", "surrogatepass"))
        return digest.hexdigest()[:16]

    def describe(self, pattern: TextPattern) -> dict[str, Any]:
        """Return what the page shows, in types of JSON."""
        examples = zip(self.rows[:MAX_EXAMPLES], self.texts, strict=False)
        return {
            "count": len(self.rows),
            "own": len(self.own),
            "emptied": self.num_emptied,
            "stamp": self.stamp,
            "examples": [
                {
                    "row": row.number,
                    "name": row.name,
                    "old": row.text,
                    "new": text,
                    "spans": pattern.list_spans(row.text),
                }
                for row, text in examples
            ],
        }
