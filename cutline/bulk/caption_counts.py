"""How long the captions of a collection are, and how sure the captioner was."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cutline.bulk.record import Record
from cutline.config import OutputConfig
from cutline.report import find_bin

BAR_WIDTH = 0.01
"""of the histograms of scores, which join bars if there are few captions"""
SCORES = {"confidence": 1.0, "match": 1.0, "score": math.inf}
"""columns of captions that are counted, with their largest value"""


@dataclass
class CaptionCounts:
    """Counts of the captions of a collection."""

    num_captions: int = 0
    num_not_accepted: int = 0
    """of these, captions of too little confidence"""
    num_words: int = 0
    lengths: Counter[int] = field(default_factory=Counter)
    """how many captions have a number of words"""
    scores: dict[str, Counter[int]] = field(default_factory=dict)
    """how many captions have a score, in widths of a bar, by the name of the score"""
    sums: Counter[str] = field(default_factory=Counter)
    """of each score"""

    def add(self, row: Mapping[str, Any]) -> None:
        """Count a caption, given its columns."""
        self.num_captions += 1
        length = len(row["caption"].split())
        self.num_words += length
        self.lengths[length] += 1
        for name, maximum in SCORES.items():
            if name in row:
                counts = self.scores.setdefault(name, Counter())
                counts[find_bin(row[name], BAR_WIDTH, maximum)] += 1
                self.sums[name] += row[name]

    def average(self, name: str) -> float:
        """Return the mean of a score."""
        return self.sums[name] / self.scores[name].total()


def count_records(records: Iterable[Record], outputs: OutputConfig) -> CaptionCounts:
    """Count the captions of records, of which those of failures have none.

    Args:
        records: The records.
        outputs: Which captions are accepted.
    """
    counts = CaptionCounts()
    for record in records:
        if not record.kind:
            counts.add(record.row)
            counts.num_not_accepted += not outputs.accepts(record.row.get("confidence", 1.0))
    return counts
