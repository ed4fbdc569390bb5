"""Damaged images of every format that Pillow writes are opened or refused, within limits."""

import io
import random
import struct
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pillow_heif
import pytest
from fuzz_process import Limits, check_cases
from PIL import ExifTags, Image

from cutline.image import open_image, to_pixels
from cutline.image.open import silence_pillow

LIMITS = Limits(memory=1 << 30, seconds=60)
NUM_CASES = 1000
SHORT = range(30)
"""cases of the short form"""

_PLAIN = ("1", "L", "P", "RGB")
_FORMATS = {
    "AVIF": ("L", "RGB", "RGBA"),
    "BLP": ("P",),
    "BMP": ("1", "L", "P", "RGB", "RGBA"),
    "DDS": ("L", "LA", "RGB", "RGBA"),
    "DIB": _PLAIN,
    "GIF": _PLAIN,
    "HEIF": ("L", "LA", "RGB", "RGBA"),
    "ICNS": ("RGB", "RGBA"),
    "ICO": ("L", "RGB", "RGBA"),
    "IM": (*_PLAIN, "LA", "RGBA", "CMYK", "YCbCr", "I", "I;16", "F"),
    "JPEG": ("L", "RGB", "CMYK"),
    "JPEG2000": ("L", "LA", "RGB", "RGBA", "I;16"),
    "MPO": ("L", "RGB", "CMYK"),
    "MSP": ("1",),
    "PCX": _PLAIN,
    "PNG": (*_PLAIN, "LA", "RGBA", "I;16"),
    "PPM": ("1", "L", "RGB", "I;16", "F"),
    "QOI": ("RGB", "RGBA"),
    "SGI": ("L", "RGB", "RGBA"),
    "SPIDER": ("F",),
    "TGA": ("1", "L", "LA", "P", "RGB", "RGBA"),
    "TIFF": (*_PLAIN, "LA", "RGBA", "PA", "CMYK", "LAB", "YCbCr", "I", "I;16", "F"),
    "WEBP": ("RGB", "RGBA"),
    "XBM": ("1",),
}
_OPTIONS: dict[str, list[dict[str, object]]] = {
    "DDS": [{}, {"pixel_format": "DXT1"}, {"pixel_format": "DXT5"}],
    "GIF": [{"save_all": True}, {"interlace": 1}],
    "HEIF": [{}, {"save_all": True}, {"tile_size": 64}, {"chroma": 444}],
    "ICO": [{}, {"bitmap_format": "bmp"}],
    "JPEG": [{}, {"progressive": True}, {"restart_marker_rows": 1}],
    "JPEG2000": [{}, {"tile_size": (16, 16)}, {"no_jp2": True}],
    "MPO": [{"save_all": True}, {"progressive": True}],
    "PNG": [{}, {"save_all": True}, {"icc_profile": bytes(500)}],
    "TGA": [{}, {"compression": "tga_rle"}],
    "TIFF": [
        *({"compression": name} for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits")),
        *({"compression": name} for name in ("jpeg", "group4", "zstd", "lzma")),
        *({}, {"save_all": True}, {"tile": (16, 16)}),
    ],
    "WEBP": [{}, {"lossless": True}, {"save_all": True}],
}
_SIZES = (0, 1, 2, 255, 16_383, 16_384, 65_535, 1 << 20, (1 << 31) - 1, (1 << 32) - 1)
_SIDE = 37


@cache
def _make_image(mode: str) -> Image.Image:
    noise = Image.effect_noise((_SIDE, _SIDE), 80)
    if mode.startswith("I") or mode == "F":
        return noise.convert("I" if mode == "I;16" else mode).convert(mode)
    image = Image.merge("RGB", [noise, noise.rotate(90), noise.rotate(180)])
    if mode == "LAB":
        return Image.merge("LAB", image.split())
    if mode in ("LA", "PA"):
        image = image.convert(mode[0])
        image.putalpha(noise)
        return image
    return image.convert(mode)


def _save_heif(image: Image.Image, file: io.BytesIO, _: str, **options: object) -> None:
    if "tile_size" in options:
        image = image.resize((130, 128))
    images = pillow_heif.from_pillow(image)
    for other in options.pop("append_images", ()):
        images.add_from_pillow(other)
    images.save(file, **options)


def _write_image(random: random.Random) -> bytes:
    name = random.choice([*_FORMATS])
    options = dict(random.choice(_OPTIONS.get(name, [{}])))
    image = _make_image(random.choice(_FORMATS[name]))
    if options.get("save_all"):
        options["append_images"] = [image.rotate(45), image.rotate(90)]
    if name in ("JPEG", "PNG", "TIFF", "WEBP", "AVIF", "HEIF") and random.random() < 0.3:
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = random.randrange(10)
        options["exif"] = exif
    file = io.BytesIO()
    file.name = "image"
    try:
        with silence_pillow():  # about formats that later versions do not write
            save = _save_heif if name == "HEIF" else Image.Image.save
            save(image, file, name, **options)
    except (
        OSError,
        ValueError,
        KeyError,
        RuntimeError,
    ):  # not with these options, or not in this mode
        file = io.BytesIO()
        _make_image("RGB").save(file, "PNG")
    return file.getvalue()


def _flip(data: bytearray, random: random.Random) -> None:
    header = random.random() < 0.5  # where damage matters most
    for _ in range(random.choice([1, 1, 3, 10])):
        end = min(len(data), 128) if header else len(data)
        data[random.randrange(end)] = random.choice([0, 0xFF, random.randrange(256)])


def _truncate(data: bytearray, random: random.Random) -> None:
    del data[random.randrange(1, len(data)) :]


def _extend(data: bytearray, random: random.Random) -> None:
    data.extend(random.choice([bytes(1000), random.randbytes(1000), bytes(data)]))


def _repeat(data: bytearray, random: random.Random) -> None:
    start = random.randrange(len(data))
    piece = data[start : start + random.choice([4, 16, 100, 1000])]
    data[start:start] = piece * random.choice([1, 2, 100])


def _remove(data: bytearray, random: random.Random) -> None:
    start = random.randrange(1, len(data))
    del data[start : start + random.choice([1, 4, 100])]


def _splice(data: bytearray, random: random.Random) -> None:
    other = _write_image(random)
    data[random.randrange(1, len(data)) :] = other[random.randrange(len(other)) :]


def _resize(data: bytearray, random: random.Random) -> None:
    """Replace a width or height, wherever it may be."""
    code = random.choice(["<H", ">H", "<I", ">I"])
    old = struct.pack(code, _SIDE)
    places = [n for n in range(len(data)) if data.startswith(old, n)]
    if places:
        start = random.choice(places[:4])
        size = random.choice(_SIZES) % (1 << 8 * len(old))
        data[start : start + len(old)] = struct.pack(code, size)


def _correct_checksums(data: bytearray, _: random.Random) -> None:
    """Make the chunks of a PNG pass, so that what is inside of them is read."""
    start = 8
    while data.startswith(b"\x89PNG") and start + 12 <= len(data):
        end = start + 8 + int.from_bytes(data[start : start + 4], "big")
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[start + 4 : end]))
        start = end + 4


_MUTATIONS: list[Callable[[bytearray, random.Random], None]] = [
    *(_flip, _flip, _truncate, _extend, _repeat, _remove, _splice, _resize, _resize),
]


def make_damaged(seed: int) -> bytes:
    """Return a damaged image."""
    rng = random.Random(seed)
    data = bytearray(_write_image(rng))
    for mutate in rng.choices(_MUTATIONS, k=rng.choice([1, 1, 2, 4])):
        mutate(data, rng)
    if rng.random() < 0.5:
        _correct_checksums(data, rng)
    return bytes(data)


def run_case(seed: int, folder: Path) -> None:
    path = folder / "image"
    path.write_bytes(make_damaged(seed))
    to_pixels(open_image(path), 32)


@pytest.mark.slow
def test_damaged_images_are_opened_or_refused():
    outcomes = check_cases(__file__, SHORT, LIMITS)
    assert 0 < sum(not outcome.message for outcome in outcomes) < len(SHORT)  # both happen


@pytest.mark.slow
def test_many_damaged_images_are_opened_or_refused():
    check_cases(__file__, range(NUM_CASES), LIMITS)
