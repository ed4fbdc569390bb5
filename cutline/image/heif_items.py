"""Find out how large the images inside of a HEIF file are, without decoding them.

A photo may have parts that are larger than it is, such as the tiles of a grid, which may be one
tile many times, or its transparency. The boxes are those of ISO 14496-12 and ISO 23008-12.
"""

import struct
from collections.abc import Iterator
from typing import IO, NamedTuple

from cutline.errors import ImageError

_FULL = 4  # bytes of version and flags, with which the content of some boxes begins


class _Box(NamedTuple):
    kind: bytes
    content: bytes

    @property
    def version(self) -> int:
        return self.content[0]


def measure_heif_items(file: IO[bytes], name: str) -> int:
    """Return the pixels of the largest image in a HEIF file, its grids put together.

    Raises:
        ImageError: It contains an overlay. A damaged file raises other errors.
    """
    return max((_measure_items(content, name) for content in _read_meta(file)), default=0)


def _read_meta(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the content of each box `meta` of a file."""
    start = 0
    while True:
        file.seek(start)
        header = file.read(16)
        if len(header) < 8:
            return
        size, kind = struct.unpack(">I4s", header[:8])
        length = 8
        if size == 1:
            size, length = struct.unpack(">8xQ", header)[0], 16
        if kind == b"meta":
            file.seek(start + length)
            yield file.read(size - length if size else -1)
        if size < length:  # up to the end of the file, or damaged
            return
        start += size


def _measure_items(meta: bytes, name: str) -> int:
    boxes = {box.kind: box for box in _split_boxes(meta[_FULL:])}
    kinds = dict(_read_kinds(boxes[b"iinf"])) if b"iinf" in boxes else {}
    if b"iovl" in kinds.values():
        raise ImageError(
            f"{name}: a HEIF overlay, which may be of any size; save it as JPEG or PNG"
        )
    areas = _read_areas(boxes[b"iprp"].content) if b"iprp" in boxes else {}
    largest = max(areas.values(), default=0)
    for item, parts in _read_parts(boxes[b"iref"]) if b"iref" in boxes else ():
        if kinds.get(item) == b"grid":
            largest = max(largest, sum(areas.get(part, 0) for part in parts))
    return largest


def _split_boxes(data: bytes) -> Iterator[_Box]:
    start = 0
    while start + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, start)
        length = 8
        if size == 1:
            size, length = struct.unpack_from(">Q", data, start + 8)[0], 16
        size = size or len(data) - start
        if size < length:
            raise ValueError("a box without an end")
        yield _Box(kind, data[start + length : start + size])
        start += size


def _read_kinds(box: _Box) -> Iterator[tuple[int, bytes]]:
    """Yield number and kind of each item."""
    for entry in _split_boxes(box.content[_FULL + (4 if box.version else 2) :]):
        if entry.version >= 2:
            layout = ">H2x4s" if entry.version == 2 else ">I2x4s"
            yield struct.unpack_from(layout, entry.content, _FULL)


def _read_areas(properties: bytes) -> dict[int, int]:
    """Return the declared width times height of each item."""
    boxes = list(_split_boxes(properties))
    sizes = [
        struct.unpack_from(">II", each.content, _FULL) if each.kind == b"ispe" else (0, 0)
        for box in boxes
        if box.kind == b"ipco"
        for each in _split_boxes(box.content)
    ]
    areas: dict[int, int] = {}
    for box in boxes:
        for item, index in _read_associations(box) if box.kind == b"ipma" else ():
            width, height = sizes[index - 1] if 0 < index <= len(sizes) else (0, 0)
            areas[item] = max(areas.get(item, 0), width * height)
    return areas


def _read_associations(box: _Box) -> Iterator[tuple[int, int]]:
    """Yield items and the number of each of their properties, from 1."""
    number, index = (">I" if box.version else ">H"), (">H" if box.content[3] & 1 else ">B")
    (count,) = struct.unpack_from(">I", box.content, _FULL)
    start = _FULL + 4
    for _ in range(count):
        item, num_properties = struct.unpack_from(f"{number}B", box.content, start)
        start += struct.calcsize(number) + 1
        for _ in range(num_properties):
            (value,) = struct.unpack_from(index, box.content, start)
            start += struct.calcsize(index)
            yield item, value & (0x7FFF if index == ">H" else 0x7F)


def _read_parts(box: _Box) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yield items that are made from others, and those."""
    number = "I" if box.version else "H"
    for reference in _split_boxes(box.content[_FULL:]):
        if reference.kind == b"dimg":
            item, count = struct.unpack_from(f">{number}H", reference.content)
            offset = struct.calcsize(f">{number}H")
            yield item, struct.unpack_from(f">{count}{number}", reference.content, offset)
