"""Parts of a report other than charts: paragraphs, key figures, tables and galleries of images."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from PIL import Image

from cutline.errors import ImageError

THUMBNAIL_SIZE = 384
"""longer side of an image in a gallery, in pixels; larger images are reduced"""
_MAX_PNG_SIZE = 128  # drawings up to this size stay exact; larger images become small JPEGs


@dataclass(frozen=True)
class Card:
    """An image in a gallery, with the text below it."""

    image: Image.Image | str | None
    """the image, its path, or a data URI; None if it is not available"""
    caption: str
    note: str = ""
    correct: bool | None = None
    """shown as a tick (True), a cross (False) or no mark (None)"""


def render_paragraph(text: str) -> str:
    """Return a paragraph of text."""
    return f"<p>{escape(text)}</p>"


def render_key_figures(figures: Sequence[tuple[str, str]]) -> str:
    """Return a few numbers in large type, each with its label: `[("91 %", "correct"), …]`."""
    items = "".join(
        f"<div><dd>{escape(number)}</dd><dt>{escape(label)}</dt></div>" for number, label in figures
    )
    return f'<dl class="figures">{items}</dl>'


def render_table(rows: Sequence[Sequence[object]], header: Sequence[str] = ()) -> str:
    """Return a table with numbers aligned right, and floats rounded to four significant digits."""
    # A header cell is aligned like the first cell below it.
    attributes = [_class_attribute(value) for value in rows[0]] if rows else [""] * len(header)
    head = body = ""
    if header:
        cells = zip(header, attributes, strict=True)
        head = "".join(
            f'<th scope="col"{attribute}>{escape(text)}</th>' for text, attribute in cells
        )
    for row in rows:
        cells_html = (f"<td{_class_attribute(value)}>{_format_cell(value)}</td>" for value in row)
        body += f"<tr>{''.join(cells_html)}</tr>"
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll">{table}</div>'


def format_interval(low: float, high: float) -> str:
    """Return an interval such as `[0.02, 0.08]`, with four significant digits."""
    return f"[{low:.4g}, {high:.4g}]"


def _class_attribute(value: object) -> str:
    return ' class="number"' if isinstance(value, int | float) else ""


def _format_cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    # `type(value)`, because isinstance would also accept bool.
    return f"{value:,d}" if type(value) is int else escape(str(value))


def render_gallery(cards: Sequence[Card]) -> str:
    """Return images side by side, each with its caption, note and mark.

    Raises:
        ImageError: A path is not that of a readable image.
    """
    return f'<div class="gallery">{"".join(map(_render_card, cards))}</div>'


def _render_card(card: Card) -> str:
    caption = escape(card.caption)
    image = mark = note = ""
    if card.image:
        source = escape(make_data_uri(card.image))
        image = f'<img src="{source}" alt="{caption}" loading="lazy">'
    if card.correct is not None:
        name, sign = ("good", "✓") if card.correct else ("bad", "✗")
        mark = f'<span class="mark {name}">{sign}</span>'
    if mark or card.note:
        note = f'<span class="note">{mark}{escape(card.note)}</span>'
    return f"<figure>{image}<figcaption>{caption}{note}</figcaption></figure>"


def make_data_uri(image: Image.Image | str) -> str:
    """Return a small copy of an image, given it, its path or a data URI, as a data URI.

    Raises:
        ImageError: The path is not that of a readable image.
    """
    if isinstance(image, str):
        if image.startswith("data:image/"):
            return image
        image = _open_image(image)
    thumbnail = image.convert("RGB")
    thumbnail.thumbnail((THUMBNAIL_SIZE, THUMBNAIL_SIZE))
    file_format = "PNG" if max(thumbnail.size) <= _MAX_PNG_SIZE else "JPEG"
    data = io.BytesIO()
    thumbnail.save(data, file_format, optimize=True, quality=85)
    encoded = base64.b64encode(data.getvalue()).decode()
    return f"data:image/{file_format.lower()};base64,{encoded}"


def _open_image(path: str) -> Image.Image:
    try:
        image = Image.open(path)
        image.load()
    except OSError as error:
        raise ImageError(
            f"{path}: cannot be read for the report ({error}); check the file"
        ) from None
    return image
