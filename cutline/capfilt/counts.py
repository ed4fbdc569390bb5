"""How many texts were kept and dropped, by origin, and how their scores are distributed."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cutline.bulk.record import Record
from cutline.capfilt.job import WEB
from cutline.report import find_bin

BAR_WIDTHS = {"itm": 0.01, "itc": 0.01, "ratio": 0.1}
"""of the histogram of each score, which joins bars if there are few texts"""
LARGEST = {"itm": 1.0, "itc": 1.0, "ratio": math.inf}
"""value of each score"""


@dataclass
class TextCounts:
    """What became of the texts of a collection."""

    num_images: int = 0
    num_empty: int = 0
    """images of which no text was kept"""
    kept: Counter[str] = field(default_factory=Counter)
    """by origin"""
    dropped: Counter[str] = field(default_factory=Counter)
    scores: dict[tuple[str, str], Counter[int]] = field(default_factory=dict)
    """how many texts of an origin have a score, in widths of a bar: by origin, and name of the
    score"""

    @property
    def score_names(self) -> list[str]:
        """Return the names of the scores that the texts have."""
        return list(dict.fromkeys(name for _, name in self.scores))

    @property
    def origins(self) -> list[str]:
        """Return the origins, web first."""
        return sorted({*self.kept, *self.dropped}, key=lambda origin: (origin != WEB, origin))

    def total(self, origin: str) -> int:
        """Return the number of texts of an origin."""
        return self.kept[origin] + self.dropped[origin]

    def noise(self, origin: str) -> float:
        """Return the share of the texts of an origin that was dropped."""
        return self.dropped[origin] / max(1, self.total(origin))

    def describe(self) -> str:
        """Return how many texts were kept, in a few words."""
        names = {origin: f"{origin} texts" for origin in self.origins}
        if list(names) == [WEB]:
            names[WEB] = "texts"
        parts = [
            f"{self.kept[origin]:,} of {self.total(origin):,} {name}"
            for origin, name in names.items()
        ]
        kept = " and ".join(parts) or "no texts"
        return f"kept {kept}, of {self.num_images - self.num_empty:,} images"

    def add(self, record: Record) -> None:
        """Count the texts of an image."""
        self.num_images += 1
        self.num_empty += record.is_empty
        for counts, texts in ((self.kept, record.kept), (self.dropped, record.dropped)):
            for text in texts:
                origin = text.get("origin", WEB)
                counts[origin] += 1
                self._add_scores(origin, text)

    def _add_scores(self, origin: str, text: Mapping[str, Any]) -> None:
        for name in find_scores(text):
            counts = self.scores.setdefault((origin, name), Counter())
            counts[find_bin(text[name], BAR_WIDTHS[name], LARGEST[name])] += 1


def find_scores(text: Mapping[str, Any]) -> list[str]:
    """Return the names of the scores that a text has."""
    return [name for name in BAR_WIDTHS if name in text]


def count_texts(records: Iterable[Record]) -> TextCounts:
    """Count the texts of records, of which those of failures have none."""
    counts = TextCounts()
    for record in records:
        if not record.kind:
            counts.add(record)
    return counts
