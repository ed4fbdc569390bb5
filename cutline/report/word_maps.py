"""Images whose captions show, word by word, a heat-map over the image."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from cutline.report.thumbnails import make_data_uri

OVERLAY_QUALITY = 80


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
class WordMapRun:
    """A part of a caption: a word with its overlay, or what is between words."""

    text: str
    overlay: str = ""
    """data URI"""


@dataclass(frozen=True)
class WordMapCard:
    """An image with its caption, and an overlay for each word, all encoded."""

    width: int
    height: int
    image: str
    """data URI"""
    caption: str
    runs: Sequence[WordMapRun]
    note: str = ""


@dataclass(frozen=True)
class WordMaps:
    """Images side by side; pointing at a word, or focusing it, shows its map."""

    cards: Sequence[WordMapCard]


def make_word_map_card(
    image: Image.Image, caption: str, words: Sequence[WordOverlay], note: str = ""
) -> WordMapCard:
    """Return a card, which is much smaller than its images.

    Args:
        image: The image.
        caption: Its caption.
        words: The words, in the order of the caption.
        note: Text below the caption.
    """
    runs, position = [], 0
    for word in words:
        runs.append(WordMapRun(caption[position : word.start]))
        runs.append(WordMapRun(caption[word.start : word.end], _encode_overlay(word.overlay)))
        position = word.end
    runs.append(WordMapRun(caption[position:]))
    shown = [run for run in runs if run.text]
    return WordMapCard(*image.size, make_data_uri(image), caption, shown, note)


def _encode_overlay(overlay: Image.Image) -> str:
    data = io.BytesIO()
    overlay.save(data, "WEBP", quality=OVERLAY_QUALITY)  # a fifth of PNG's size
    return f"data:image/webp;base64,{base64.b64encode(data.getvalue()).decode()}"
