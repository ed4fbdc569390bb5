"""Reliability diagrams: how often predictions of some probability are right."""

from collections.abc import Sequence
from dataclasses import dataclass

from cutline.report.charts.axis import Axis
from cutline.report.charts.plot import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    Dot,
    LegendEntry,
    Path,
    Plot,
    Point,
    Readout,
    make_path,
)
from cutline.report.numbers import format_percent

_TICKS = [tick / 5 for tick in range(6)]


@dataclass(frozen=True)
class ReliabilityDiagram:
    """Points on the diagonal are calibrated; below it, less is right than predicted."""

    title: str
    before: Sequence[Point]
    """pairs (probability, share that is right)"""
    after: Sequence[Point]
    """those after calibration"""
    x_label: str
    y_label: str

    def plot(self) -> Plot:
        """Return what is drawn."""
        x_axis, y_axis = Axis(0, 1, LEFT, RIGHT, _TICKS), Axis(0, 1, BOTTOM, TOP, _TICKS)

        def place(points: Sequence[Point]) -> list[Point]:
            return [(x_axis.place(x), y_axis.place(y)) for x, y in points]

        series = {"before": self.before, "after": self.after}
        paths = [Path(make_path(place([(0, 0), (1, 1)])), "diagonal")]
        dots, readouts = [], []
        for number, (name, points) in enumerate(series.items()):
            if points:
                paths.append(Path(make_path(place(points)), f"line s{1 - number}"))
            dots += [Dot(x, y, f"s{1 - number}") for x, y in place(points)]
            readouts += [
                Readout(
                    x_axis.place(x),
                    f"{name}: {self.x_label} {format_percent(x)}\n"
                    f"{self.y_label} {format_percent(y)}",
                )
                for x, y in points
            ]
        legend = [
            LegendEntry("before calibration", "s1"),
            LegendEntry("after calibration", "s0"),
            LegendEntry("calibrated", "diagonal"),
        ]
        return Plot(
            self.title,
            self.x_label,
            self.y_label,
            x_axis.ticks,
            y_axis.ticks,
            paths,
            dots=dots,
            readouts=sorted(readouts, key=lambda readout: readout.x),
            legend=legend,
        )
