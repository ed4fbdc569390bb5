"""Convert images of every mode to RGB, in tiles, so that no copy of a whole image is made."""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.TiffImagePlugin import BITSPERSAMPLE

TILE_PIXELS = 1 << 18
"""pixels that are converted at once: float64 values of a tile take 2 MB"""

_Values: TypeAlias = npt.NDArray[Any]


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image to RGB.

    Transparent pixels are composited on white. Gray values of 16 or 32 bits are scaled to 8.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        scale = _make_scale(image)
        return _convert_tiles(image, lambda tile: Image.fromarray(scale(np.asarray(tile))))
    if image.has_transparency_data:
        return _convert_tiles(image, _flatten)
    return image if image.mode == "RGB" else image.convert("RGB")


def _convert_tiles(
    image: Image.Image, convert: Callable[[Image.Image], Image.Image]
) -> Image.Image:
    rgb = Image.new("RGB", image.size)
    for box in _tile_boxes(image.size):
        rgb.paste(convert(image.crop(box)), box)
    return rgb


def _tile_boxes(size: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    """Yield boxes of at most TILE_PIXELS that cover an image: bands of rows, unless it is wide."""
    width, height = size
    columns = min(width, TILE_PIXELS)
    rows = TILE_PIXELS // columns
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            yield left, top, min(left + columns, width), min(top + rows, height)


def _flatten(image: Image.Image) -> Image.Image:
    """Composite a transparent image on white."""
    image = image.convert("LA") if image.mode == "La" else image
    image = image.convert("RGBA")
    background = Image.new("RGB", image.size, "white")
    background.paste(image, mask=image.getchannel("A"))
    return background


def _make_scale(image: Image.Image) -> Callable[[_Values], _Values]:
    """Return a function that scales gray values of an image to 8 bits, so that white becomes 255.

    32-bit and float formats do not define white: then it is the first of 1, 255 and 65535 that no
    value exceeds. If there is none, or some values are negative, the range of the values is
    stretched to 0..255.
    """
    black, white = 0.0, _white_level(image)
    if white is None:
        low, high = _value_range(image)
        if low >= 0:
            white = next((maximum for maximum in (1.0, 255.0, 65535.0) if high <= maximum), None)
        if white is None:
            black, white = low, high
    scale = 255 / (white - black) if white > black else 0.0
    return lambda gray: np.rint((_finite(gray) - black) * scale).clip(0, 255).astype(np.uint8)


def _white_level(image: Image.Image) -> float | None:
    """Return the value of white if the format defines it: 16 bits, or 12 in some TIFF files."""
    if not image.mode.startswith("I;16"):
        return None
    bits = getattr(image, "tag_v2", {}).get(BITSPERSAMPLE, (16,))
    return float(2 ** bits[0] - 1)


def _value_range(image: Image.Image) -> tuple[float, float]:
    tiles = (_finite(np.asarray(image.crop(box))) for box in _tile_boxes(image.size))
    ranges = [(float(tile.min()), float(tile.max())) for tile in tiles]
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def _finite(gray: _Values) -> npt.NDArray[np.float64]:
    """Return gray values as float64, with 0 for NaN and infinity."""
    with np.errstate(invalid="ignore"):  # signaling NaN
        values = gray.astype(np.float64)
    return values if gray.dtype.kind in "iu" else np.nan_to_num(values, nan=0, posinf=0, neginf=0)
