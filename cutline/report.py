"""Self-contained HTML sheets: one file with images, charts and tables in it, for any browser, light or dark, wide or narrow.

The parts (`figures`, `curve`, `histogram`, `wall`, `table`, `prose`) return HTML in which every text is escaped; `write_report` puts
them on a sheet. The sheet loads nothing and runs nothing: its content security policy forbids both.
"""

import base64
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from cutline.errors import ImageError
from cutline.files import write_text

Point = tuple[float, float]

THUMBNAIL = 384
"""longest side of an image on a wall, in pixels; larger ones are reduced"""
MOST_POINTS = 400
"""points drawn of a curve; of a longer one, means of neighbours are drawn"""
MOST_BARS = 100
"""bars of a histogram; of a wider one, neighbours share a bar"""


@dataclass(frozen=True)
class Card:
    """One image of a wall, with the text under it."""

    image: Image.Image | str | None
    """the image, its path, or a data URI; None where it is not at hand"""
    caption: str
    note: str = ""
    good: bool | None = None
    """a tick, a cross, or neither"""


def write_report(
    path: str | Path, title: str, intro: str, sections: Sequence[tuple[str, str]]
) -> None:
    """Write a sheet to `path`, whole or not at all. `sections` are headings with HTML from the functions of this module."""
    body = "".join(
        f"<section><h2>{escape(heading)}</h2>{content}</section>\n" for heading, content in sections
    )
    write_text(
        path,
        _PAGE.format(
            title=escape(title), intro=escape(intro), body=body, policy=_POLICY, style=_STYLE
        ),
    )


def prose(text: str) -> str:
    """A paragraph."""
    return f"<p>{escape(text)}</p>"


def figures(pairs: Sequence[tuple[str, str]]) -> str:
    """A few numbers in large type, each with what it means: `[("91 %", "true in every word"), …]`."""
    return f'<dl class="figures">{"".join(f"<div><dd>{escape(n)}</dd><dt>{escape(name)}</dt></div>" for n, name in pairs)}</dl>'


def table(rows: Sequence[Sequence[object]], header: Sequence[str] = ()) -> str:
    """Rows of cells; numbers stand to the right, floats with four significant digits."""
    sides = [_side(value) for value in rows[0]] if rows else [""] * len(header)
    head = (
        "".join(
            f'<th scope="col"{side}>{escape(cell)}</th>'
            for cell, side in zip(header, sides, strict=True)
        )
        if header
        else ""
    )
    body = "".join(
        f"<tr>{''.join(f'<td{_side(value)}>{_cell(value)}</td>' for value in row)}</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _side(value: object) -> str:
    return ' class="number"' if isinstance(value, int | float) else ""


def _cell(value: object) -> str:
    return (
        f"{value:.4g}"
        if isinstance(value, float)
        else f"{value:,d}"
        if type(value) is int
        else escape(str(value))
    )


# ------------------------------------------------------------------------------------------------------- images


def wall(cards: Sequence[Card]) -> str:
    """Images side by side, each with its caption, note and verdict. Raises ImageError for a path that is no image."""
    return f'<div class="wall">{"".join(map(_figure, cards))}</div>'


def _figure(card: Card) -> str:
    mark = {
        None: "",
        True: '<span class="mark good">✓</span>',
        False: '<span class="mark bad">✗</span>',
    }[card.good]
    note = f'<span class="note">{mark}{escape(card.note)}</span>' if mark or card.note else ""
    caption = escape(card.caption)
    image = (
        f'<img src="{escape(_data_uri(card.image))}" alt="{caption}" loading="lazy">'
        if card.image
        else ""
    )
    return f"<figure>{image}<figcaption>{caption}{note}</figcaption></figure>"


def _data_uri(image: Image.Image | str) -> str:
    if isinstance(image, str):
        if image.startswith("data:image/"):
            return image
        try:
            image = Image.open(image)
            image.load()
        except (OSError, UnidentifiedImageError) as error:
            raise ImageError(f"cannot read {image} for the report: {error}") from error
    picture = image.convert("RGB")
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    kind = (
        "PNG" if max(picture.size) <= 128 else "JPEG"
    )  # drawings stay exact, photographs stay small
    data = io.BytesIO()
    picture.save(data, kind, optimize=True, quality=85)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(data.getvalue()).decode()}"


# --------------------------------------------------------------------------------------------------------- curves

_WIDTH, _HEIGHT = 720, 384
_LEFT, _RIGHT, _TOP, _BOTTOM = 70.0, 704.0, 88.0, 312.0  # edges of the plot


def curve(
    points: Sequence[Point], title: str, x_label: str, y_label: str, log_x: bool = False
) -> str:
    """An SVG chart of y over x: the points as a faint line, their running mean as a strong one with its last value.

    Points that are not finite are left out. log_x: equal ratios of x are equally far apart; points with x <= 0 are left out.
    """
    finite = sorted(
        (float(x), float(y)) for x, y in points if math.isfinite(x) and math.isfinite(y)
    )
    if log_x:
        finite = [(math.log10(x), y) for x, y in finite if x > 0]
    return _chart(_plot(finite, log_x) if finite else [], title, x_label, y_label)


def histogram(counts: Mapping[int, int], title: str, x_label: str, y_label: str) -> str:
    """An SVG chart with a bar for how often each whole number occurs: `{3: 10, 4: 2}`."""
    return _chart(_bars(counts) if counts else [], title, x_label, y_label)


def _chart(plot: list[str], title: str, x_label: str, y_label: str) -> str:
    texts = [
        _text(0, 26, title, "title"),
        _text(0, 58, y_label, "label"),
        _text(_RIGHT, _HEIGHT - 12, x_label, "label end"),
    ]
    plot = plot or [_text(_LEFT, 160, "nothing to draw", "label")]
    svg = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(texts + plot)}</svg>'
    return f'<div class="chart">{svg}</div>'


def _plot(points: list[Point], log_x: bool) -> list[str]:
    """Grid, lines and last value of one or more points in the order of x; log_x: x is the logarithm to be labelled."""
    raw = _thinned(points)
    xs, ys = [x for x, _ in points], [y for _, y in raw]
    x_ticks, y_ticks = (_log_ticks if log_x else _ticks)(min(xs), max(xs)), _ticks(min(ys), max(ys))
    low, high = (min(xs), max(xs)) if len(set(xs)) > 1 else (x_ticks[0], x_ticks[-1])

    def place(point: Point) -> Point:
        x = _LEFT + (point[0] - low) / (high - low) * (_RIGHT - _LEFT)
        return x, _BOTTOM - (point[1] - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]) * (_BOTTOM - _TOP)

    grid = [_row(place((low, y))[1], y) for y in y_ticks]
    near = 1e-9  # 10 ** -5 is not quite 1e-05
    labels = [
        (x, _number(10**x if log_x else x)) for x in x_ticks if low - near <= x <= high + near
    ]
    grid += [_text(place((x, 0))[0], _BOTTOM + 28, label, "middle") for x, label in labels]
    faint, strong = _path(map(place, raw)), _path(map(place, _smoothed(raw)))
    x, y = place(last := _smoothed(raw)[-1])
    area = f'<path class="area" d="{strong}L{x:.1f} {_BOTTOM}L{place(raw[0])[0]:.1f} {_BOTTOM}Z"/>'
    lines = [area, f'<path class="faint" d="{faint}"/>', f'<path class="strong" d="{strong}"/>']
    return [
        *grid,
        *lines,
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5"/>',
        _text(x, y - 14, _number(last[1]), "last end"),
    ]


def _bars(counts: Mapping[int, int]) -> list[str]:
    """Grid and bars of one or more numbers."""
    low, high = min(counts), max(counts)
    span = math.ceil((high - low + 1) / MOST_BARS)  # numbers per bar
    bars = [0] * math.ceil((high - low + 1) / span)
    for number, count in counts.items():
        bars[(number - low) // span] += count
    y_ticks, width = _ticks(0, max(bars)), (_RIGHT - _LEFT) / len(bars)
    heights = [bar / y_ticks[-1] * (_BOTTOM - _TOP) for bar in bars]
    drawn = [
        f'<rect x="{_LEFT + i * width + width / 10:.1f}" y="{_BOTTOM - h:.1f}" width="{width * 0.8:.1f}" height="{h:.1f}"/>'
        for i, h in enumerate(heights)
    ]
    grid = [_row(_BOTTOM - y / y_ticks[-1] * (_BOTTOM - _TOP), y) for y in y_ticks]
    step = math.ceil(len(bars) / 10)
    names = [
        _text(_LEFT + (i + 0.5) * width, _BOTTOM + 28, _number(low + i * span), "middle")
        for i in range(0, len(bars), step)
    ]
    return [*grid, *names, *drawn]


def _row(y: float, value: float) -> str:
    line = f'<line x1="{_LEFT}" x2="{_RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return line + _text(_LEFT - 12, y + 6, _number(value), "end")


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(text)}</text>'


def _path(points: Iterable[Point]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _number(value: float) -> str:
    return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.6g}"


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers from `low` or less to `high` or more."""
    rough = max((high - low) / 4, 1e-9 * max(abs(low), abs(high))) or 0.25
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((factor * power for factor in (1, 2, 5) if factor * power >= rough), 10 * power)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [i * step for i in range(first, max(last, first + 1) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Logarithms of round numbers from 10 ** `low` or less to 10 ** `high` or more: powers of ten, and where they are few also 2 and 5."""
    factors = (1,) if high - low > 2 else (1, 2, 5)
    return [
        power + math.log10(factor)
        for power in range(math.floor(low), math.ceil(high) + 1)
        for factor in factors
    ]


def _thinned(points: list[Point]) -> list[Point]:
    """Means of neighbours, at most MOST_POINTS of them."""
    stride = math.ceil(len(points) / MOST_POINTS) or 1
    return [_mean(points[i : i + stride]) for i in range(0, len(points), stride)]


def _smoothed(points: list[Point]) -> list[Point]:
    """Each point with the mean of the points around it, a twentieth of them all; the same x."""
    reach = len(points) // 40
    return [
        (x, _mean(points[max(i - reach, 0) : i + reach + 1])[1]) for i, (x, _) in enumerate(points)
    ]


def _mean(points: Sequence[Point]) -> Point:
    return math.fsum(x for x, _ in points) / len(points), math.fsum(y for _, y in points) / len(
        points
    )


# ----------------------------------------------------------------------------------------------------------- page

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --card: #f5f5f3; --ink: #16181d; --soft: #5f6470; --rule: #d9dade;
  --line: #1f5fbf; --good: #17733c; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --paper: #14161a; --card: #1e2127; --ink: #ececea; --soft: #a0a5b0;
  --rule: #343842; --line: #7db2ff; --good: #6fce90; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 2.5rem 1.25rem 3rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
h1, h2, .figures dd, figcaption { font-family: Charter, "Iowan Old Style", Georgia, "Liberation Serif", serif; }
header { border-bottom: 4px double var(--ink); padding-bottom: 1.1rem; }
h1 { font-size: clamp(1.9rem, 6vw, 3.1rem); line-height: 1.1; letter-spacing: -.01em; margin: 0 0 .6rem; }
header p { margin: 0; font-size: 1.1rem; color: var(--soft); max-width: 46rem; }
section { margin-top: 2.4rem; }
h2 { font-size: 1.35rem; margin: 0 0 .9rem; padding-bottom: .3rem; border-bottom: 1px solid var(--rule); }
p { max-width: 46rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: 1.2rem; margin: 0 0 1.2rem; }
.figures div { display: flex; flex-direction: column; border-left: 3px solid var(--line); padding-left: .8rem; }
.figures dd { margin: 0; font-size: 2.1rem; line-height: 1.15; }
.figures dt { order: 1; color: var(--soft); font-size: .9rem; }
.chart { max-width: 46rem; margin: 0 0 1.2rem; }
svg { display: block; width: 100%; height: auto; }
svg text { font-size: 15px; fill: var(--soft); font-variant-numeric: tabular-nums; }
svg text.title { font-size: 18px; font-weight: 600; fill: var(--ink); }
svg text.last { font-weight: 600; fill: var(--line); paint-order: stroke; stroke: var(--paper); stroke-width: 5px; }
svg .end { text-anchor: end; } svg .middle { text-anchor: middle; }
svg line { stroke: var(--rule); } svg circle, svg rect { fill: var(--line); }
svg path { fill: none; stroke: var(--line); stroke-linejoin: round; }
svg .faint { opacity: .35; } svg .strong { stroke-width: 3; } svg .area { fill: var(--line); stroke: none; opacity: .07; }
.wall { display: grid; grid-template-columns: repeat(auto-fill, minmax(10rem, 1fr)); gap: 1rem; }
figure { margin: 0; background: var(--card); border-radius: 6px; overflow: hidden; }
figure img { display: block; width: 100%; aspect-ratio: 1; object-fit: contain; }
figcaption { padding: .6rem .7rem .7rem; font-size: .98rem; line-height: 1.35; overflow-wrap: anywhere; }
.note { display: block; margin-top: .35rem; font: .8rem/1.4 system-ui, sans-serif; color: var(--soft); }
.mark { font-weight: 700; margin-right: .35em; } .good { color: var(--good); } .bad { color: var(--bad); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .4rem 2rem .4rem 0; border-bottom: 1px solid var(--rule); }
th { color: var(--soft); font-weight: 600; font-size: .85rem; } .number { text-align: right; }
@media (max-width: 40rem) {
  body { padding: 1.5rem 1rem 2rem; }
  .wall { grid-template-columns: repeat(2, 1fr); gap: .7rem; }
  svg text { font-size: 25px; } svg text.title { font-size: 28px; }
}
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header><h1>{title}</h1><p>{intro}</p></header>
<main>
{body}</main>
</body>
</html>
"""
