"""Images whose captions show, word by word, a heat-map over the image."""

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from PIL import Image

from cutline.report.elements import make_data_uri


@dataclass(frozen=True)
class WordOverlay:
    """A word of a caption, and what is laid over the image for it."""

    start: int
    """where the word begins in the caption"""
    end: int
    """where it ends"""
    overlay: Image.Image
    """transparent image of any size, which is stretched to that of the image"""


@dataclass(frozen=True)
class WordMapCard:
    """An image with its caption, and an overlay for each word."""

    image: Image.Image
    caption: str
    words: Sequence[WordOverlay]
    """in the order of the caption"""
    note: str = ""


def render_word_maps(cards: Iterable[str]) -> str:
    """Return images side by side, given the result of `render_word_map_card` for each."""
    return f'<div class="word-maps">{"".join(cards)}</div>'


def render_word_map_card(card: WordMapCard) -> str:
    """Return an image with its caption; pointing at a word, or focusing it, shows its map.

    It works with a mouse, a keyboard (Tab) and a touch screen, by CSS alone.
    """
    width, height = card.image.size
    source = escape(make_data_uri(card.image))
    caption, position = "", 0
    for word in card.words:
        caption += escape(card.caption[position : word.start])
        caption += _render_word(card.caption[word.start : word.end], word.overlay)
        position = word.end
    caption += escape(card.caption[position:])
    note = f'<span class="note">{escape(card.note)}</span>' if card.note else ""
    return (
        f'<figure style="--ratio:{width / height:.4g}">'
        f'<img src="{source}" alt="{escape(card.caption)}" loading="lazy">'
        f"<figcaption>{caption}{note}</figcaption></figure>"
    )


def _render_word(text: str, overlay: Image.Image) -> str:
    data = io.BytesIO()
    overlay.save(data, "PNG", optimize=True)
    source = f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
    return f'<span class="word" tabindex="0">{escape(text)}<img src="{source}" alt=""></span>'
