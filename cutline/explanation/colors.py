"""Colors of heat-maps, and heat-maps laid over images."""

from math import ceil

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cutline.explanation.explanation import Explanation, HeatMap, WordMap, resize_map

OVERLAY_SIZE = 128
"""side of a transparent overlay, in pixels, which is stretched to the size of the image"""
MAX_ALPHA = 0.8
"""opacity of the maximum of a map"""
SHEET_SIZE = 224
"""longer side of an image on a contact sheet, in pixels"""
_LABEL_HEIGHT = 22
_MARGIN = 6
_MAX_COLUMNS = 6

# Nine of the 256 colors of matplotlib's "inferno" (CC0), which are perceptually uniform, and so are
# those between them, nearly. Lightness rises with the value, so that it reads in gray too.
_INFERNO = np.array(
    [
        (0, 0, 4),
        (31, 12, 72),
        (85, 15, 109),
        (136, 34, 106),
        (186, 54, 85),
        (227, 89, 51),
        (249, 140, 10),
        (249, 201, 50),
        (252, 255, 164),
    ],
    dtype=np.float64,
)


def color_map(values: HeatMap) -> Image.Image:
    """Return values from 0 to 1, (rows, columns), as an RGBA image: 0 is transparent."""
    positions = np.linspace(0, 1, len(_INFERNO))
    channels = [np.interp(values, positions, _INFERNO[:, channel]) for channel in range(3)]
    pixels = np.stack([*channels, 255 * MAX_ALPHA * values], axis=-1)
    return Image.fromarray((pixels + 0.5).astype(np.uint8))


def make_overlay(word: WordMap, size: int = OVERLAY_SIZE) -> Image.Image:
    """Return the map of a word as a square RGBA image, whose maximum has the brightest color."""
    values = resize_map(word.map, (size, size))
    peak = float(values.max())
    return color_map(values / np.float32(peak) if peak > 0 else values)


def draw_overlay(image: Image.Image, word: WordMap) -> Image.Image:
    """Return an RGB image with the map of a word over it."""
    overlay = make_overlay(word).resize(image.size, Image.Resampling.BILINEAR)
    return Image.alpha_composite(image.convert("RGBA"), overlay).convert("RGB")


def draw_sheet(image: Image.Image, explanation: Explanation) -> Image.Image:
    """Return the image with the map of each word of its caption, side by side, and their words."""
    small = image.copy()
    small.thumbnail((SHEET_SIZE, SHEET_SIZE), Image.Resampling.LANCZOS)
    if max(small.size) < SHEET_SIZE:  # an image of a few pixels would hardly be seen
        scale = SHEET_SIZE / max(small.size)
        width, height = (max(1, round(side * scale)) for side in small.size)
        small = small.resize((width, height), Image.Resampling.NEAREST)
    tiles = [(small, "")] + [(draw_overlay(small, word), word.text) for word in explanation.words]
    font = ImageFont.load_default(15)
    columns = min(len(tiles), _MAX_COLUMNS)
    tile_width = max(small.width, *(ceil(font.getlength(text)) for _, text in tiles))
    width, height = tile_width + _MARGIN, small.height + _LABEL_HEIGHT + _MARGIN
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (columns * width + _MARGIN, rows * height + _MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (tile, text) in enumerate(tiles):
        left, top = _MARGIN + number % columns * width, _MARGIN + number // columns * height
        sheet.paste(tile, (left, top))
        draw.text((left, top + tile.height + 2), text, "black", font)
    return sheet
