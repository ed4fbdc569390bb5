"""What is drawn of a chart: positions in pixels, which the template turns into SVG."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cutline.report.charts.axis import Tick

Point = tuple[float, float]

WIDTH, HEIGHT = 640, 276
LEFT, RIGHT, TOP, BOTTOM = 60.0, 614.0, 18.0, 244.0
"""edges of the plot within the chart, in pixels"""


@dataclass(frozen=True)
class Path:
    """A line."""

    d: str
    """as the attribute of that name in SVG"""
    css: str
    """classes of the style sheet"""


@dataclass(frozen=True)
class Bar:
    """A rectangle."""

    x: float
    y: float
    width: float
    height: float
    css: str = ""


@dataclass(frozen=True)
class Dot:
    """A circle."""

    x: float
    y: float
    css: str = ""


@dataclass(frozen=True)
class Label:
    """A text."""

    x: float
    y: float
    text: str
    css: str = ""


@dataclass(frozen=True)
class Readout:
    """What a chart tells when the pointer is near a position."""

    x: float
    text: str
    """lines, separated by line breaks"""


@dataclass(frozen=True)
class LegendEntry:
    """A name of what a color or a kind of line shows."""

    name: str
    css: str


@dataclass(frozen=True)
class Plot:
    """Everything that is drawn of a chart."""

    title: str
    x_label: str
    y_label: str
    x_ticks: Sequence[Tick] = ()
    y_ticks: Sequence[Tick] = ()
    paths: Sequence[Path] = ()
    bars: Sequence[Bar] = ()
    dots: Sequence[Dot] = ()
    labels: Sequence[Label] = ()
    readouts: Sequence[Readout] = ()
    legend: Sequence[LegendEntry] = ()
    left: float = LEFT
    bottom: float = BOTTOM

    width, right, top = WIDTH, RIGHT, TOP

    @property
    def height(self) -> float:
        """Return the height of the chart."""
        return self.bottom + HEIGHT - BOTTOM

    @property
    def is_empty(self) -> bool:
        """Return whether there is nothing to draw."""
        return not (self.paths or self.bars or self.dots)

    @property
    def readout_rows(self) -> list[list[object]]:
        """Return the readouts as the script of the page reads them."""
        return [[round(readout.x, 1), readout.text] for readout in self.readouts]


def make_path(points: Iterable[Point]) -> str:
    """Return the attribute of a line through some points."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
