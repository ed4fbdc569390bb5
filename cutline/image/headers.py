"""Read from image files what Pillow does not tell before it decodes them."""

import re
from contextlib import suppress
from io import BytesIO
from typing import IO, Any

from PIL import IcoImagePlugin, Image, UnidentifiedImageError

_ICO_MAGIC = b"\0\0\1\0"
_ICON_FORMATS = ("PNG", "DIB", "JPEG2000")  # of the images inside ICO and ICNS files
_HEADER_SIZE = 1 << 20  # bytes in which the header of such an image ends
# The start of a JPEG segment: neither data (FF 00), nor padding (FF FF), nor one without a length.
_SEGMENT = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
_SEGMENT_START = 10  # bytes of a segment that are looked at
_START_OF_FRAME = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}  # a subset of _START_OF_FRAME
_END_OF_IMAGE, _START_OF_SCAN = 0xD9, 0xDA
_BLOCK_SIZE = 1 << 12  # bytes of a JPEG that are read at once


def read_ico_size(file: IO[bytes]) -> tuple[int, int] | None:
    """Return the size of the image that Pillow decodes when it opens an ICO file.

    Returns:
        Width and height; None if it is not an ICO file.
    """
    is_ico = file.read(len(_ICO_MAGIC)) == _ICO_MAGIC
    file.seek(0)
    return _read_size(file, IcoImagePlugin.IcoFile(file).entry[0].offset) if is_ico else None


def read_icns_size(image: Any) -> tuple[int, int]:
    """Return the size of the image that Pillow decodes when it loads an ICNS file.

    Returns:
        Width and height.
    """
    for code, _ in image.icns.SIZES[image.best_size]:
        if code in image.icns.dct:
            with suppress(UnidentifiedImageError):  # pixels without a header
                return _read_size(image.fp, image.icns.dct[code][0])
    width, height = image.size
    return width, height


def _read_size(file: IO[bytes], offset: int) -> tuple[int, int]:
    file.seek(offset)
    with Image.open(BytesIO(file.read(_HEADER_SIZE)), formats=_ICON_FORMATS) as image:
        return image.size


def count_jpeg_scans(file: IO[bytes], max_scans: int) -> int:
    """Return the number of scans of the first image in a JPEG file, at most `max_scans` + 1."""
    num_scans = position = num_components = 0
    progressive = False
    while num_scans <= max_scans:
        file.seek(position)
        block = file.read(_BLOCK_SIZE + _SEGMENT_START)
        match = _SEGMENT.search(block, 0, _BLOCK_SIZE + 1)
        if match is None and len(block) > _BLOCK_SIZE:  # inside a scan
            position += _BLOCK_SIZE
            continue
        segment = block[match.start() + 1 :] if match else b""
        if match is None or len(segment) < _SEGMENT_START - 1 or segment[0] == _END_OF_IMAGE:
            break
        if segment[0] in _START_OF_FRAME:
            num_components, progressive = segment[8], segment[0] in _PROGRESSIVE
        elif segment[0] == _START_OF_SCAN:
            num_scans += 1
            if segment[3] == num_components and not progressive:
                break  # it contains the whole image
        position += match.end() + max(2, int.from_bytes(segment[1:3], "big"))
    return num_scans
