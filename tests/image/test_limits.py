"""Small files that would take much memory or time are refused, or decoded within the limits."""

import ctypes
import io
import struct
import sys
import threading
import zlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from cutline.errors import ImageError
from cutline.image import hold_image, limits, open_image
from cutline.image.budget import MemoryBudget
from cutline.image.headers import count_jpeg_scans
from cutline.image.libtiff import name_libtiff_errors

ROTATED = Image.Exif()
ROTATED[ExifTags.Base.Orientation] = 6


def encode(image: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def png(width: int, height: int, bits: int = 8, color: int = 6) -> bytes:
    """Write a black PNG: about 1/1000 of the pixels' size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    channels = {0: 1, 2: 3, 4: 2, 6: 4}[color]
    row = bytes(1 + width * channels * bits // 8)
    stream = zlib.compressobj(1)
    rows = b"".join(stream.compress(row) for _ in range(height)) + stream.flush()
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def ico(frame: bytes) -> bytes:
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 0, 0, 0, 0, 1, 32, len(frame), 22) + frame


def icns(frame: bytes) -> bytes:
    block = b"ic10" + struct.pack(">I", len(frame) + 8) + frame
    return b"icns" + struct.pack(">I", len(block) + 8) + block


def jpeg_with_scans(count: int, **options: object) -> bytes:
    """Write a progressive JPEG, and repeat its last scan."""
    data = encode(Image.new("RGB", (64, 64)), "JPEG", progressive=True, **options)[:-2]
    scan = data[data.rindex(b"\xff\xda") :]
    return data + scan * (count - 10) + b"\xff\xd9"  # ten are there


def open_error(source: object) -> str:
    with pytest.raises(ImageError) as caught:
        open_image(source)
    return str(caught.value)


# ------------------------------------------------------------------------------------------- memory


def peak_memory() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


BOMBS = {
    "16-bit": lambda width, height: png(width, height, 16, 0),
    "RGBA": png,
    "LA, 16-bit": lambda width, height: png(width, height, 16, 4),
    "palette": lambda *size: encode(Image.new("P", size), "PNG", transparency=0),
    "color": lambda *size: encode(Image.new("RGB", size), "PNG", transparency=(0, 0, 0)),
    "rotated": lambda *size: encode(Image.new("RGBA", size), "PNG", exif=ROTATED),
    "float": lambda *size: encode(Image.new("F", size), "TIFF", compression="tiff_lzw"),
    "32-bit": lambda *size: encode(Image.new("I", size), "TIFF", compression="tiff_lzw"),
    "CMYK": lambda *size: encode(Image.new("CMYK", size), "JPEG"),
}
"""name → function that writes a file of a width and height"""


@pytest.mark.skipif(sys.platform != "linux", reason="measured through Linux's /proc")
@pytest.mark.parametrize(
    "size", [(3000, 2000), pytest.param((10_000, 9990), marks=pytest.mark.slow)], ids=str
)
@pytest.mark.parametrize("bomb", BOMBS)
def test_an_image_takes_at_most_8_bytes_per_pixel(bomb: str, size: tuple[int, int]) -> None:
    data = BOMBS[bomb](*size)
    open_image(BOMBS[bomb](8, 8))
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_memory()
    assert sorted(open_image(data).size) == sorted(size)
    assert peak_memory() - before < 8 * size[0] * size[1] + 20_000_000  # and a tile


def test_an_image_that_takes_more_than_the_budget_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = encode(Image.new("RGB", (100, 100)), "WEBP")
    monkeypatch.setattr(limits, "DECODING_MEMORY", MemoryBudget(300_000))
    message = "100 x 100 pixels take 0.0 GB to decode, more than the 0.0 GB allowed; "
    assert open_error(data) == f"an image given as bytes: {message}scale the image down"


def test_a_very_narrow_image_is_refused() -> None:
    # Its rows have pointers, and to resize it takes 384 pixels for each of them.
    assert "2000000 pixels take 4.1 GB to decode" in open_error(png(1, 2_000_000))


def test_a_tiff_with_tiles_larger_than_the_image_is_refused() -> None:
    tags = {256: 16, 257: 16, 258: 8, 259: 8, 262: 1, 277: 1, 322: 12_000, 323: 12_000}
    tags |= {324: 8, 325: 4}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    data = b"II*\0" + struct.pack("<I4xH", 12, len(tags)) + entries + bytes(4)
    assert "12000 x 12000 pixels are more than" in open_error(data)


def test_threads_share_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    budget = MemoryBudget(1_000_000)
    monkeypatch.setattr("cutline.image.open.DECODING_MEMORY", budget)
    opened = threading.Event()

    def work() -> None:
        open_image(png(200, 200))
        opened.set()

    thread = threading.Thread(target=work)
    with hold_image(png(200, 200)):  # 320,000 bytes, and 409,600 for its rows
        thread.start()
        assert not opened.wait(0.1)
    thread.join()
    assert opened.is_set()


# -------------------------------------------------------------------------------------- JPEG scans


def test_a_jpeg_with_many_scans_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scans.jpg"
    for data in (jpeg_with_scans(65), jpeg_with_scans(65, comment=b"\xff\xd9\xff\xda" * 9)):
        path.write_bytes(data)
        message = "a JPEG of more than 64 scans takes too long to decode"
        assert open_error(path) == f"{path}: {message}; save it again as JPEG or PNG"
    assert open_image(jpeg_with_scans(64)).size == (64, 64)


def test_an_mpo_with_many_scans_is_refused() -> None:
    image = Image.new("RGB", (64, 64))
    data = encode(image, "MPO", save_all=True, append_images=[image], progressive=True)
    start = data.index(b"\xff\xda")
    scan = data[start : data.index(b"\xff\xc4", start)]
    assert "scans" in open_error(data[:start] + scan * 70 + data[start:])


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
def test_scans_are_counted_within_the_image_alone(options: dict[str, object]) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8))
    data = encode(noise, "JPEG", quality=95, exif=b"Exif\0\0" + b"\xff\xda" * 99, **options)
    num_scans = 10 if "progressive" in options else 1
    assert count_jpeg_scans(io.BytesIO(data + b"\xff\xda" * 99), 64) == num_scans


def test_counting_the_scans_of_any_bytes_ends() -> None:
    data = jpeg_with_scans(20)
    for end in range(len(data)):
        assert count_jpeg_scans(io.BytesIO(data[:end]), 64) <= 20
    assert count_jpeg_scans(io.BytesIO(b"\xff\xda\0\0" * 99), 64) == 65


# -------------------------------------------------------------------------- images inside of others


@pytest.mark.parametrize("pack", [ico, icns])
def test_a_large_image_inside_an_icon_is_not_decoded(
    pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "icon"
    path.write_bytes(pack(png(1200, 1000)))
    Image.init()  # a plugin of Pillow decodes an image of its own when it is imported
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    message = "an icon of 1200 x 1000 pixels is larger than the 1,048,576 pixels allowed"
    assert open_error(path) == f"{path}: {message}; save it as PNG"


def test_a_large_bitmap_inside_an_icon_is_not_decoded() -> None:
    bitmap = encode(Image.new("1", (2000, 2000)), "DIB")
    assert "an icon of 2000 x 2000 pixels" in open_error(ico(bitmap))


@pytest.mark.parametrize("pack", [ico, icns])
def test_icons_are_opened(pack) -> None:
    assert open_image(pack(png(1024, 1024))).size == (1024, 1024)
    for format in ("ICO", "ICNS"):
        opened = open_image(encode(Image.new("RGB", (64, 64), "red"), format))
        assert opened.getpixel((0, 0)) == (255, 0, 0)


def test_formats_that_hold_images_of_unknown_size_are_refused() -> None:
    data = encode(Image.new("P", (8, 8)), "BLP")
    assert open_error(data) == (
        "an image given as bytes: a BLP texture, which may hold an image of any size; "
        "save it as JPEG or PNG"
    )


# ----------------------------------------------------------------------------------------- libtiff


def test_the_errors_of_libtiff_are_part_of_the_message(tmp_path: Path, capfd) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8))
    data = bytearray(encode(noise, "TIFF", compression="tiff_adobe_deflate"))
    data[200:300] = bytes(100)
    path = tmp_path / "a.tif"
    path.write_bytes(data)
    assert f"{path}: truncated or corrupt (ZIPDecode: Decoding error at scan" in open_error(path)
    assert capfd.readouterr().err == ""


def test_the_errors_of_libtiff_are_logged_with_the_name_of_the_file(caplog) -> None:
    library = ctypes.CDLL(find_spec("PIL._imaging").origin)
    with name_libtiff_errors("a.tif"):
        for line in range(9):
            library.TIFFError(b"Fax3", b"Bad code at line %d", line)
    library.TIFFError(None, b"Bad tag")  # in an image that the caller opens
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [
        *(f"a.tif: Fax3: Bad code at line {n}" for n in range(3)),
        "libtiff: Bad tag",
    ]
