"""`Histogram`: how often each integer occurs."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Histogram:
    """How often each integer occurs."""

    counts: Mapping[int, int]
    """integer → number of occurrences, in ascending order"""

    @classmethod
    def from_values(cls, values: Iterable[int]) -> "Histogram":
        """Count `values`."""
        return cls(dict(sorted(Counter(values).items())))

    @property
    def minimum(self) -> int:
        """Return the smallest value, or 0 if there are none."""
        return min(self.counts, default=0)

    @property
    def maximum(self) -> int:
        """Return the largest value, or 0 if there are none."""
        return max(self.counts, default=0)

    @property
    def count(self) -> int:
        """Return the number of values."""
        return sum(self.counts.values())

    @property
    def sum(self) -> int:
        """Return the sum of the values."""
        return sum(value * count for value, count in self.counts.items())

    @property
    def mean(self) -> float:
        """Return the mean of the values, or 0 if there are none."""
        return self.sum / max(1, self.count)
