"""Draw speed against CIDEr as an SVG file without scripts or fonts, for light and dark pages."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from cutline.report.charts import LineChart, Marker, Plot, Series

STYLE = """
text { font: 12px system-ui, sans-serif; fill: #57606a }
.title { font-size: 15px; font-weight: 600; fill: #24292f }
.page { fill: #ffffff }
.grid { stroke: #d8dee4 }
.line { fill: none; stroke-width: 2 }
.line.s0 { stroke: #1f6feb } .line.s1 { stroke: #9a6700 }
.leader { fill: none; stroke: #8c959f }
circle { fill: #57606a } circle.s0 { fill: #1f6feb } circle.s1 { fill: #9a6700 }
.end { text-anchor: end } .middle { text-anchor: middle }
@media (prefers-color-scheme: dark) {
  text { fill: #8d96a0 }
  .title { fill: #e6edf3 }
  .page { fill: #0d1117 }
  .grid { stroke: #30363d }
  .line.s0 { stroke: #388bfd } .line.s1 { stroke: #d29922 }
  circle.s0 { fill: #388bfd } circle.s1 { fill: #d29922 }
}
"""
HEADING, FOOTER = 56, 24
"""heights above and below the plot"""


def draw_merge_chart(rows: Sequence[Mapping[str, Any]]) -> str:
    """Draw the settings that `measure_quality` returns: with merged tokens, and smaller images."""
    size = rows[0]["image_size"]
    merged = [row for row in rows if row["image_size"] == size]
    smaller = [rows[0], *(row for row in rows if row["image_size"] < size)]
    chart = LineChart(
        "CIDEr by speed, with merged tokens and with smaller images",
        [
            Series("merged tokens per block", list(map(_place, merged)), has_dots=True),
            Series("image size in pixels", list(map(_place, smaller)), has_dots=True),
        ],
        "images per second",
        "CIDEr",
        [Marker(*_place(row), str(row["merge_tokens"])) for row in merged]
        + [Marker(*_place(row), f"{row['image_size']} px") for row in smaller[1:]],
    )
    return _draw(chart.plot())


def _place(row: Mapping[str, Any]) -> tuple[float, float]:
    return row["images_per_s"], row["cider"]


def _draw(plot: Plot) -> str:
    width, height = plot.width, plot.height + HEADING + FOOTER
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:.0f}" '
        f'width="{width}" height="{height:.0f}" role="img">',
        f"<title>{escape(plot.title)}</title><style>{STYLE}</style>",
        f'<rect class="page" width="{width}" height="{height:.0f}"/>',
        _text(12, 24, plot.title, "title"),
        f'<g transform="translate(0 {HEADING})">',
    ]
    return "\n".join([*head, *_draw_legend(plot), *_draw_parts(plot), "</g>", "</svg>\n"])


def _draw_legend(plot: Plot) -> Iterator[str]:
    for number, entry in enumerate(plot.legend):
        x = 12 + 220 * number
        yield f'<path class="line {entry.css}" d="M{x} -12L{x + 24} -12"/>'
        yield _text(x + 30, -8, entry.name)


def _draw_parts(plot: Plot) -> Iterator[str]:
    for tick in plot.y_ticks:
        y = tick.position
        yield f'<path class="grid" d="M{plot.left} {y:.1f}L{plot.right} {y:.1f}"/>'
        yield _text(plot.left - 8, y + 4, tick.label, "end")
    for tick in plot.x_ticks:
        yield _text(tick.position, plot.bottom + 20, tick.label, "middle")
    yield _text((plot.left + plot.right) / 2, plot.bottom + 42, plot.x_label, "middle")
    yield _text(plot.left - 8, plot.top - 6, plot.y_label, "end")
    for path in plot.paths:
        yield f'<path class="{path.css}" d="{path.d}"/>'
    for dot in plot.dots:
        yield f'<circle class="{dot.css}" cx="{dot.x:.1f}" cy="{dot.y:.1f}" r="3.5"/>'
    for label in plot.labels:
        yield _text(label.x, label.y, label.text, label.css)


def _text(x: float, y: float, text: str, css: str = "") -> str:
    return f'<text class="{css}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'
