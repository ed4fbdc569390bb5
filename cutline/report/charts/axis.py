"""Axes of charts: their range, round ticks, and positions on the plot."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cutline.report.numbers import format_number, format_scientific

MIN_SPAN = 0.2
"""range of an axis relative to its largest value, at least: a narrower one would show noise as if
it were a trend"""

SCIENTIFIC = 0.01
"""largest value of an axis below which its labels are such as 5e-4"""


@dataclass(frozen=True)
class Tick:
    """A label of an axis."""

    position: float
    label: str


@dataclass(frozen=True)
class Axis:
    """A range of values, which is mapped to pixels."""

    low: float
    high: float
    start: float
    """position of `low`, in pixels"""
    stop: float
    """position of `high`"""
    values: Sequence[float]
    """values of the ticks"""
    is_log: bool = False
    """whether the values are logarithms to base 10"""

    def place(self, value: float) -> float:
        """Return the position of a value."""
        fraction = (value - self.low) / (self.high - self.low)
        return round(self.start + fraction * (self.stop - self.start), 1)

    @property
    def ticks(self) -> list[Tick]:
        """Return the ticks within the range."""
        margin = 1e-9 * (self.high - self.low)  # 10 ** -5 differs from 1e-05 in the last digit
        inside = (v for v in self.values if self.low - margin <= v <= self.high + margin)
        return [Tick(self.place(value), self._format(value)) for value in inside]

    def _format(self, value: float) -> str:
        if self.is_log:
            return format_number(10**value)
        is_tiny = 0 < max(abs(self.low), abs(self.high)) < SCIENTIFIC
        return format_scientific(value) if is_tiny else format_number(value)


def make_axis(low: float, high: float, start: float, stop: float, min_span: float = 0) -> Axis:
    """Return an axis with round ends that covers a range, or more if the range is narrow."""
    ticks = make_ticks(*widen_range(low, high, min_span))
    return Axis(ticks[0], ticks[-1], start, stop, ticks)


def make_exact_axis(
    low: float, high: float, start: float, stop: float, is_log: bool = False
) -> Axis:
    """Return an axis that ends at the first and last value, such as the steps of a run."""
    ticks = make_log_ticks(low, high) if is_log else make_ticks(low, high)
    if low == high:
        low, high = ticks[0], ticks[-1]
    return Axis(low, high, start, stop, ticks, is_log)


def widen_range(low: float, high: float, min_span: float = 0) -> tuple[float, float]:
    """Return a range around another one of at least MIN_SPAN of its largest value, and `min_span`.

    A range of values of one sign does not pass zero.
    """
    missing = max(MIN_SPAN * max(abs(low), abs(high)), min_span) - (high - low)
    if missing <= 0:
        return low, high
    wider_low, wider_high = low - missing / 2, high + missing / 2
    if low >= 0 > wider_low:
        return 0.0, wider_high - wider_low
    if high <= 0 < wider_high:
        return wider_low - wider_high, 0.0
    return wider_low, wider_high


def make_ticks(low: float, high: float) -> list[float]:
    """Return about six round numbers that cover the range from `low` to `high`."""
    # A fifth of the range; if it is empty, a small step relative to the values. It is rounded up
    # to 1, 2, 5 or 10 times a power of 10.
    rough_step = max((high - low) / 5, 1e-9 * max(abs(low), abs(high))) or 0.2
    power = 10.0 ** math.floor(math.log10(rough_step))
    step = next(
        (factor * power for factor in (1, 2, 5) if factor * power >= rough_step), 10 * power
    )
    first, last = math.floor(low / step), math.ceil(high / step)
    return [i * step for i in range(first, max(last, first + 1) + 1)]


def make_log_ticks(low: float, high: float) -> list[float]:
    """Return logarithms of round numbers that cover the range from 10**low to 10**high.

    They are powers of 10, and in a short range also 2 and 5 times these.
    """
    factors = (1,) if high - low > 2 else (1, 2, 5)
    powers = range(math.floor(low), math.ceil(high) + 1)
    return [power + math.log10(factor) for power in powers for factor in factors]
