"""Histograms: how often each integer, or each range of a score, occurs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cutline.report.charts.axis import Axis, Tick, make_axis
from cutline.report.charts.labels import LINE
from cutline.report.charts.line_chart import MAX_SERIES
from cutline.report.charts.plot import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    Bar,
    Label,
    LegendEntry,
    Path,
    Plot,
    Readout,
    make_path,
)
from cutline.report.numbers import MINUS, format_percent

MAX_BARS = 80
"""bars of a histogram; over a wider range, each bar covers several integers"""
MIN_RANGES, MAX_RANGES = 10, 50
"""bars of a histogram of ranges, by the number of values"""
MIN_COUNT = 4
"""end of the y axis, at least: its ticks are integers, as counts are"""
MAX_ROOM = 0.5
"""part of the y axis that the names of limits may take"""
_MAX_LABELS, _MAX_CHARACTERS = 10, 36
"""of the x axis, so that they are apart from each other on a phone"""


def find_bin(value: float, unit: float, maximum: float = math.inf) -> int:
    """Return the integer n of the range from n to n + 1 units that contains a value.

    Args:
        value: The value.
        unit: Width of a range.
        maximum: The largest value that there can be, such as 1 for probabilities, which is in the
            last range below it.
    """
    number = math.floor(value / unit + 1e-6)
    return min(number, round(maximum / unit) - 1) if math.isfinite(maximum) else number


@dataclass(frozen=True)
class HistogramChart:
    """Bars for the counts of integers, `{"captions": {3: 10, 4: 2}}`.

    Several series stand beside each other, as shares of their totals.
    """

    title: str
    series: Mapping[str, Mapping[int, int]]
    """counts by integer, by name of the series"""
    x_label: str
    y_label: str
    unit: float = 1
    """what the integers are multiplied by, as in 0.1 for tenths"""
    limits: Mapping[str, float] = field(default_factory=dict)
    """values, in units of the x axis, that are drawn as lines with their names; that of an integer
    is in the middle of its bar, and 30.5 between 30 and 31"""
    are_ranges: bool = False
    """whether an integer n stands for the values from n to n + 1 units, as `find_bin` finds it"""

    def plot(self) -> Plot:
        """Return what is drawn."""
        series = {name: counts for name, counts in self.series.items() if counts}
        if not series:
            return Plot(self.title, self.x_label, self.y_label)
        bins = self._make_bins(list(series.values()))
        heights = [bins.count(counts) for counts in series.values()]
        if len(series) > 1:
            heights = [[count / (sum(counts) or 1) for count in counts] for counts in heights]
        y_axis = self._make_y_axis(heights)
        share = 0.94 if self.are_ranges else 0.8
        bars = []
        for number, counts in enumerate(heights):
            for index, count in enumerate(counts):
                left, width = bins.place(bins.find_edges(index)[0]), bins.measure(index)
                x = left + (0.5 + share * (number / len(series) - 0.5)) * width
                y, color = y_axis.place(count), f"s{number % MAX_SERIES}"
                size = share * width / len(series), BOTTOM - y
                bars.append(Bar(round(x, 1), y, round(size[0], 1), round(size[1], 1), color))
        lines, labels = self._draw_limits(bins)
        legend = [LegendEntry(name, f"s{n % MAX_SERIES}") for n, name in enumerate(series)]
        return Plot(
            self.title,
            self.x_label,
            self.y_label,
            bins.make_ticks(self.unit, self.are_ranges),
            y_axis.ticks,
            lines,
            bars,
            labels=labels,
            readouts=self._make_readouts(bins, dict(zip(series, heights, strict=True))),
            legend=legend if len(series) > 1 else (),
        )

    def _make_y_axis(self, heights: Sequence[Sequence[float]]) -> Axis:
        """Return an axis with room for the names of the limits above the bars."""
        room = LINE * len(self.limits) / (BOTTOM - TOP)
        highest = max(map(max, heights)) / (1 - min(room, MAX_ROOM))
        return make_axis(0, highest, BOTTOM, TOP, MIN_COUNT if len(heights) == 1 else 0)

    def _make_bins(self, counts: Sequence[Mapping[int, int]]) -> "_Bins":
        numbers = [number for each in counts for number in (min(each), max(each))]
        if self.are_ranges:
            return self._make_ranges(counts, numbers)
        numbers += [math.ceil(limit / self.unit - 0.5) for limit in self.limits.values()]
        low, high = min(numbers), max(numbers)
        width = math.ceil((high - low + 1) / MAX_BARS)
        number = math.ceil((high - low + 1) / width)
        return _Bins(low, width, number, low, low + width * number)

    def _make_ranges(self, counts: Sequence[Mapping[int, int]], numbers: Sequence[int]) -> "_Bins":
        limits = [limit / self.unit for limit in self.limits.values()]
        ends = [math.ceil(limit - 1e-6) for limit in limits]
        start = min(*numbers, *(find_bin(limit, 1) for limit in limits))
        stop = max([max(numbers) + 1, *ends])
        edges = [round(limit) for limit in limits if abs(limit - round(limit)) < 1e-6]
        total = max(sum(each.values()) for each in counts)
        width = _round_up(math.ceil((stop - start) / _choose_bars(total)))
        low = start - (start - max(edges, default=0)) % width  # a limit is between two bars
        number = math.ceil((stop - low) / width)
        # No bar passes the largest value, or zero, since there may be no values beyond.
        return _Bins(low, width, number, 0 if low < 0 <= start else low, stop)

    def _draw_limits(self, bins: "_Bins") -> tuple[list[Path], list[Label]]:
        lines, labels = [], []
        for number, (name, value) in enumerate(self.limits.items()):
            x = bins.place(value / self.unit + (0 if self.are_ranges else 0.5))
            end = "end" if x > (LEFT + RIGHT) / 2 else ""
            lines.append(Path(make_path([(x, TOP - 8), (x, BOTTOM)]), "limit"))
            labels.append(Label(x + (-6 if end else 6), TOP + 4 + LINE * number, name, end))
        return lines, labels

    def _make_readouts(
        self, bins: "_Bins", heights: Mapping[str, Sequence[float]]
    ) -> list[Readout]:
        readouts = []
        for index in range(bins.number):
            lines = [f"{self.x_label} {bins.describe(index, self.unit, self.are_ranges)}"]
            for name, counts in heights.items():
                count = counts[index]
                is_share = len(heights) > 1
                text = format_percent(count) if is_share else f"{self.y_label}: {count:,.0f}"
                lines.append(f"{name}: {text}" if is_share else text)
            x = bins.place(sum(bins.find_edges(index)) / 2)
            readouts.append(Readout(x, "\n".join(lines)))
        return readouts


@dataclass(frozen=True)
class _Bins:
    """Ranges of integers of the same width, but for the first and the last."""

    low: int
    width: int
    number: int
    start: int
    """where the first range begins"""
    stop: int
    """where the last range ends"""

    def count(self, counts: Mapping[int, int]) -> list[float]:
        """Return the count of each bin."""
        totals = [0.0] * self.number
        for number, count in counts.items():
            totals[(number - self.low) // self.width] += count
        return totals

    def find_edges(self, index: int) -> tuple[int, int]:
        """Return where a bin begins and ends."""
        low = self.low + index * self.width
        return max(low, self.start), min(low + self.width, self.stop)

    def place(self, number: float) -> float:
        """Return the position of a number; integers are at the left edge of their bars."""
        fraction = (number - self.start) / (self.stop - self.start)
        return round(LEFT + fraction * (RIGHT - LEFT), 1)

    def measure(self, index: int) -> float:
        """Return the width of a bar in pixels."""
        low, high = self.find_edges(index)
        return (high - low) / (self.stop - self.start) * (RIGHT - LEFT)

    def make_ticks(self, unit: float, are_ranges: bool) -> list[Tick]:
        """Return labels of round numbers, in the middle of their bars or at the edges of ranges."""
        shift = 0 if are_ranges else 0.5
        step = _round_up(math.ceil((self.stop - self.start) / _MAX_LABELS))
        while True:
            numbers = range(math.ceil(self.start / step) * step, self.stop + are_ranges, step)
            labels = [_format(number * unit) for number in numbers]
            if len(labels) <= min(_MAX_LABELS, _MAX_CHARACTERS // max(map(len, labels))):
                break
            step = _round_up(step + 1)
        return [
            Tick(self.place(number + shift), label)
            for number, label in zip(numbers, labels, strict=True)
        ]

    def describe(self, index: int, unit: float, are_ranges: bool) -> str:
        """Return the numbers of a bin."""
        first, stop = self.find_edges(index)
        last = stop - (not are_ranges)
        text = _format(first * unit)
        return text if first == last else f"{text} to {_format(last * unit)}"


def _format(value: float) -> str:
    """Return the number of a bar, exactly: 10.02 and 10.04 are different bars."""
    text = f"{abs(value):,.6g}"
    return f"{MINUS}{text}" if value < 0 else text


def _choose_bars(total: int) -> int:
    """Return how many bars show the distribution of so many values: more would show noise."""
    return min(MAX_RANGES, max(MIN_RANGES, math.ceil(2 * math.sqrt(total))))


def _round_up(number: int) -> int:
    """Return the next round number: 1, 2 or 5 times a power of 10."""
    power = int(10 ** (len(str(number)) - 1))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= number)
