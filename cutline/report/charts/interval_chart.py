"""Interval charts: values with their confidence intervals, below each other."""

from collections.abc import Sequence
from dataclasses import dataclass

from cutline.report.charts.axis import Axis, make_exact_axis, make_ticks
from cutline.report.charts.plot import RIGHT, TOP, Dot, Label, Path, Plot, make_path

ROW_HEIGHT = 30.0
_LABELS = 110.0
"""width of the names at the left"""
_MARGIN = 115.0
"""half the width of a text on a phone, where it is larger"""


@dataclass(frozen=True)
class IntervalRow:
    """A value with its interval."""

    name: str
    value: float
    low: float
    high: float
    text: str
    """value and interval, as they are shown"""
    is_significant: bool = True
    """whether a test confirms an interval that excludes zero"""

    @property
    def tone(self) -> str:
        """Return "good" if the difference is significant and above zero, "bad" if below, or ""."""
        if not self.is_significant:
            return ""
        return "good" if self.low > 0 else "bad" if self.high < 0 else ""


@dataclass(frozen=True)
class IntervalChart:
    """Differences with their confidence intervals, and a line at zero."""

    title: str
    rows: Sequence[IntervalRow]
    x_label: str

    def plot(self) -> Plot:
        """Return what is drawn."""
        if not self.rows:
            return Plot(self.title, self.x_label, "")
        left, bottom = _LABELS, TOP + 2 * ROW_HEIGHT * len(self.rows) / 1.5
        ticks = make_ticks(
            min(0.0, *(row.low for row in self.rows)), max(0.0, *(row.high for row in self.rows))
        )
        axis = make_exact_axis(ticks[0], ticks[-1], left, RIGHT)
        height = (bottom - TOP) / len(self.rows)
        zero = axis.place(0)
        paths = [Path(make_path([(zero, TOP - 6), (zero, bottom)]), "limit")]
        dots, labels = [], []
        for number, row in enumerate(self.rows):
            y = TOP + (number + 0.6) * height
            paths += self._draw_row(row, axis, y)
            dots.append(Dot(axis.place(row.value), y, row.tone or "unclear"))
            labels.append(Label(left - 12, y + 4, row.name, "end name"))
            middle = min(max(axis.place(row.value), left + _MARGIN), RIGHT - _MARGIN)
            labels.append(Label(middle, y - 10, row.text, "middle"))
        return Plot(
            self.title,
            self.x_label,
            "",
            axis.ticks,
            paths=paths,
            dots=dots,
            labels=labels,
            left=left,
            bottom=bottom,
        )

    def _draw_row(self, row: IntervalRow, axis: Axis, y: float) -> list[Path]:
        css = f"interval {row.tone or 'unclear'}"
        low, high = axis.place(row.low), axis.place(row.high)
        ends = [[(x, y - 5), (x, y + 5)] for x in (low, high)]
        return [Path(make_path(points), css) for points in ([(low, y), (high, y)], *ends)]
