"""Limits on one image, and on all images that are decoded at the same time."""

import math
from typing import IO, Any

from PIL import Image
from PIL.TiffImagePlugin import BITSPERSAMPLE, TILELENGTH, TILEWIDTH

from cutline.errors import ImageError, ImageSizeError
from cutline.image.budget import MemoryBudget
from cutline.image.headers import count_jpeg_scans, read_icns_size, read_ico_size
from cutline.image.heif_items import measure_heif_items

MAX_PIXELS = 100_000_000
"""width times height of an image"""
MAX_ICON_PIXELS = 1024 * 1024
"""pixels of an image inside an ICO or ICNS file, which define no larger ones"""
MAX_JPEG_SCANS = 64
"""scans of a JPEG; encoders write about ten, and each takes time for the whole image"""
DECODING_MEMORY = MemoryBudget(1 << 30)
"""memory of all images that this process decodes; an image waits until enough is free"""

_PIXEL_SIZE = 4  # of a decoded image
_BYTES_PER_PIXEL = 2 * _PIXEL_SIZE  # the decoded image, and its copy in RGB
# Formats, and decoders of Pillow, that take more, as measured.
_DECODER_BYTES_PER_PIXEL = {
    "WEBP": 20,
    "AVIF": 16,
    "HEIF": 21,
    "JPEG2000": 25,
    "qoi": 12,
    "fits_gzip": 64,
}
# For each row or column, an image has a pointer, and resizing to 512 pixels takes four bytes each.
# They count only in very narrow images.
_BYTES_PER_LINE = 4 * 512


def check_ico(file: IO[bytes], name: str) -> None:
    """Refuse an ICO file that holds a large image; other files pass.

    Pillow decodes an ICO file when it opens it.

    Raises:
        ImageError: The image inside is too large.
    """
    if size := read_ico_size(file):
        _check_icon(size, name)


def check_image(image: Image.Image, name: str, max_pixels: int) -> int:
    """Refuse an image that takes too much memory or time to decode.

    Returns:
        The bytes that decoding and resizing it take at most.

    Raises:
        ImageError: The image is empty, too large, or a JPEG with too many scans.
    """
    for width, height in (image.size, _tile_size(image)):
        if width * height > max_pixels:
            raise ImageSizeError(
                f"{name}: {width} x {height} pixels are more than the {max_pixels:,} allowed; "
                "scale the image down"
            )
    width, height = image.size
    if width * height == 0:
        raise ImageError(f"{name}: an image of {width} x {height} pixels is empty; remove it")
    if image.format == "ICNS":
        _check_icon(read_icns_size(image), name)
    num_pixels = max(width * height, math.prod(_tile_size(image)), _largest_item(image, name))
    if num_pixels > max_pixels:
        raise ImageSizeError(
            f"{name}: contains an image of {num_pixels:,} pixels, more than the {max_pixels:,} "
            "allowed; save it as JPEG or PNG"
        )
    num_bytes = num_pixels * _bytes_per_pixel(image, name) + max(width, height) * _BYTES_PER_LINE
    if num_bytes > DECODING_MEMORY.size:
        raise ImageSizeError(
            f"{name}: {width} x {height} pixels take {num_bytes / 1e9:.1f} GB to decode, more than "
            f"the {DECODING_MEMORY.size / 1e9:.1f} GB allowed; scale the image down"
        )
    return num_bytes


def _tile_size(image: Any) -> tuple[int, int]:
    """Return the size of the tiles of a TIFF, which may be larger than the image."""
    tags = image.tag_v2 if image.format == "TIFF" else {}
    return tags.get(TILEWIDTH, 0), tags.get(TILELENGTH, 0)


def _largest_item(image: Any, name: str) -> int:
    """Return the pixels of the largest part of a HEIF that is not decoded yet."""
    return measure_heif_items(image.fp, name) if image.format == "HEIF" and image.fp else 0


def _check_icon(size: tuple[int, int], name: str) -> None:
    if math.prod(size) > MAX_ICON_PIXELS:
        raise ImageSizeError(
            f"{name}: an icon of {size[0]} x {size[1]} pixels is larger than the "
            f"{MAX_ICON_PIXELS:,} pixels allowed; save it as PNG"
        )


def _bytes_per_pixel(image: Any, name: str) -> int:
    decoders = [image.format, *(tile[0] for tile in getattr(image, "tile", ()))]
    num_bytes = max(_DECODER_BYTES_PER_PIXEL.get(each, _BYTES_PER_PIXEL) for each in decoders)
    if image.format == "TIFF":  # a strip or tile may be as large as the image
        bits: int = sum(image.tag_v2.get(BITSPERSAMPLE, ()))
        return max(num_bytes, _PIXEL_SIZE + bits // 8)
    if image.format in ("JPEG", "MPO") and image.tile:  # not decoded yet
        num_scans = count_jpeg_scans(image.fp, MAX_JPEG_SCANS)
        if num_scans > MAX_JPEG_SCANS:
            raise ImageError(
                f"{name}: a JPEG of more than {MAX_JPEG_SCANS} scans takes too long to decode; "
                "save it again as JPEG or PNG"
            )
        if num_scans > 1:  # the decoder keeps the coefficients of the image, of 2 bytes
            return max(num_bytes, _PIXEL_SIZE + 2 * len(image.getbands()))
    return num_bytes
