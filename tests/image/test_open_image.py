"""Unusual and broken images are opened, or refused in one sentence, without warnings."""

import contextlib
import gc
import io
import os
import struct
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_folder import GoldenFolder
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from cutline.errors import ImageError
from cutline.image import open_image
from cutline.image.open import silence_pillow

WHITE = (255, 255, 255)
MODES = [
    *("1", "L", "P", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "HSV", "LAB"),
    *("I", "F", "LA", "La", "PA", "I;16", "I;16L", "I;16B"),
]


def noise(width: int = 12, height: int = 8) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def encode(image: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, bits: int, color: int, rows: bytes, extra: bytes = b"") -> bytes:
    """Write a PNG that Pillow cannot write."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + extra
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def tiff(bits: int, rows: bytes, width: int) -> bytes:
    """Write a gray TIFF of one line."""
    tags = [
        (256, width),
        (257, 1),
        (258, bits),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, 1),
        (279, len(rows)),
    ]
    rows += b"\0" * (len(rows) % 2)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return (
        b"II*\0"
        + struct.pack("<I", 8 + len(rows))
        + rows
        + struct.pack("<H", len(tags))
        + entries
        + b"\0\0\0\0"
    )


def open_error(source: object, **options: int) -> str:
    with pytest.raises(ImageError) as caught:
        open_image(source, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert not message.endswith(".")
    return message


# ------------------------------------------------------------------- sources, modes and orientation


def test_all_kinds_of_sources_give_the_same_image(tmp_path: Path) -> None:
    image = noise()
    image.save(tmp_path / "ümläut 图.png")
    path = tmp_path / "ümläut 图.png"
    for source in (
        path,
        str(path),
        path.read_bytes(),
        image,
        np.array(image),
        np.array(image)[::-1][::-1],
    ):
        opened = open_image(source)
        assert opened.mode == "RGB"
        assert opened.tobytes() == image.tobytes()


def test_an_rgb_image_is_not_copied() -> None:
    image = noise()
    assert open_image(image) is image


def test_a_file_is_decoded_as_the_reference_does(golden_folder: GoldenFolder) -> None:
    for path in sorted((golden_folder.path / "images").iterdir()):
        assert open_image(path).tobytes() == Image.open(path).convert("RGB").tobytes()


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_of_pillow_is_converted_to_rgb(mode: str) -> None:
    opened = open_image(Image.new(mode, (5, 4)))
    assert (opened.mode, opened.size) == ("RGB", (5, 4))


@pytest.mark.parametrize("mode", ["RGBX", "CMYK", "YCbCr", "HSV", "LAB"])
def test_colors_of_other_color_spaces_are_kept(mode: str) -> None:
    opened = open_image(Image.new("RGB", (4, 4), (200, 40, 90)).convert(mode))
    np.testing.assert_allclose(opened.getpixel((1, 1)), (200, 40, 90), atol=4)


def test_colors_of_a_cmyk_jpeg_are_kept() -> None:
    opened = open_image(encode(Image.new("RGB", (16, 16), (200, 40, 90)).convert("CMYK"), "JPEG"))
    np.testing.assert_allclose(opened.getpixel((8, 8)), (200, 40, 90), atol=4)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(format: str, orientation: int) -> None:
    upright = Image.new("RGB", (48, 32), "white")
    upright.paste("red", (0, 0, 24, 16))
    inverse = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,  # the inverse of the EXIF rotation
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(inverse[orientation]) if orientation in inverse else upright
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95, "subsampling": 0}}
    data = encode(stored, format, exif=exif, **options.get(format, {}))
    lazy = Image.open(io.BytesIO(data))
    for source in (data, lazy, lazy, open_image(data)):
        opened = open_image(source)
        assert opened.size == (48, 32)
        np.testing.assert_allclose(np.asarray(opened, int), np.asarray(upright, int), atol=12)


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12",
        b"\0" * 40,
    ],
)
def test_images_with_corrupt_exif_are_opened(exif: bytes) -> None:
    assert open_image(encode(noise(), "JPEG", exif=exif)).size == (12, 8)
    assert open_image(encode(noise(), "PNG", exif=exif)).size == (12, 8)


# ------------------------------------------------------------------------------------- transparency


def test_alpha_is_composited_on_white() -> None:
    image = Image.new("RGBA", (3, 1))
    for x, alpha in enumerate((0, 128, 255)):
        image.putpixel((x, 0), (100, 0, 200, alpha))
    opened = open_image(encode(image, "PNG"))
    assert [opened.getpixel((x, 0)) for x in range(3)] == [WHITE, (177, 127, 227), (100, 0, 200)]


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF"])
def test_transparent_pixels_are_white_whatever_their_color(format: str) -> None:
    data = encode(Image.new("RGBA", (9, 9), (250, 10, 10, 0)), format)
    assert open_image(data).getcolors() == [(81, WHITE)]


def test_gray_with_alpha_is_composited_on_white() -> None:
    for alpha, color in ((0, WHITE), (255, (40, 40, 40))):
        data = encode(Image.new("LA", (2, 2), (40, alpha)), "PNG")
        assert open_image(data).getcolors() == [(4, color)]


@pytest.mark.parametrize("transparency", [1, b"\xff\x00"], ids=["one entry", "alpha of each entry"])
def test_palettes_with_transparency_are_composited_on_white(transparency: int | bytes) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 0, 0])
    image.putpixel((1, 0), 1)
    for data in (
        encode(image, "PNG", transparency=transparency),
        encode(image, "GIF", transparency=1),
    ):
        opened = open_image(data)
        assert [opened.getpixel((x, 0)) for x in (0, 1)] == [(10, 20, 30), WHITE]


def test_a_palette_with_an_alpha_channel_is_composited_on_white() -> None:
    image = noise().convert("P")
    image.putalpha(0)
    assert image.mode == "PA"
    assert open_image(image).getcolors() == [(96, WHITE)]


@pytest.mark.parametrize(
    "data",
    [
        png(1, 1, 8, 0, b"\0\x28", chunk(b"tRNS", struct.pack(">H", 40))),
        png(1, 1, 8, 2, b"\0\x0a\x14\x1e", chunk(b"tRNS", struct.pack(">HHH", 10, 20, 30))),
        png(8, 1, 1, 0, b"\0\x00", chunk(b"tRNS", struct.pack(">H", 0))),
    ],
    ids=["gray", "rgb", "1-bit"],
)
def test_the_transparent_color_of_a_png_becomes_white(data: bytes) -> None:
    assert open_image(data).getpixel((0, 0)) == WHITE


# --------------------------------------------------------------------------------- deep gray levels


def test_16_bit_gray_is_scaled_and_not_clipped() -> None:
    levels = np.array([[0, 257, 25700, 32768, 65535]], dtype=np.uint16)
    for source in (
        Image.fromarray(levels),
        encode(Image.fromarray(levels), "PNG"),
        encode(Image.fromarray(levels), "TIFF"),
    ):
        assert [open_image(source).getpixel((x, 0))[0] for x in range(5)] == [0, 1, 100, 128, 255]


def test_a_dark_16_bit_image_stays_dark() -> None:
    dark = Image.fromarray(np.full((2, 2), 200, dtype=np.uint16))
    assert open_image(dark).getextrema() == ((1, 1),) * 3


def test_12_bit_tiff_is_scaled_by_its_own_white() -> None:
    opened = open_image(tiff(12, b"\xff\xf0\x00", 2))
    assert [opened.getpixel((x, 0)) for x in (0, 1)] == [WHITE, (0, 0, 0)]


@pytest.mark.parametrize("kind", [np.int32, np.float32])
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 1], [0, 255]),
        ([0, 128, 255], [0, 128, 255]),
        ([0, 25700, 65535], [0, 100, 255]),
        ([-100, 0, 155], [0, 100, 255]),
        ([1_000_000, 3_000_000], [0, 255]),
        ([-7, -7], [0, 0]),
        ([9_000_000, 9_000_000], [0, 0]),
    ],
)
def test_32_bit_and_float_gray_are_scaled_by_their_range(
    kind: type, values: list[int], expected: list[int]
) -> None:
    opened = open_image(Image.fromarray(np.array([values], dtype=kind)))
    assert [opened.getpixel((x, 0))[0] for x in range(len(values))] == expected


def test_nan_and_infinite_values_are_black() -> None:
    values = np.array([[np.nan, np.inf, -np.inf, 0.5, 1.0]], dtype=np.float32)
    opened = open_image(Image.fromarray(values))
    assert [opened.getpixel((x, 0))[0] for x in range(5)] == [0, 0, 0, 128, 255]


# ------------------------------------------------------------------------------------------- frames


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_is_taken(format: str) -> None:
    frames = [Image.new("RGB", (20, 10), color) for color in ("red", "lime", "blue")]
    options = {"lossless": True} if format == "WEBP" else {}
    data = encode(frames[0], format, save_all=True, append_images=frames[1:], **options)
    assert Image.open(io.BytesIO(data)).n_frames == 3
    assert open_image(data).getcolors() == [(200, (255, 0, 0))]


# ------------------------------------------------------------------------------------------- errors


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    assert (
        open_error(tmp_path / "no.jpg") == f"{tmp_path / 'no.jpg'}: no such image; check the path"
    )
    assert open_error(str(tmp_path)) == f"{tmp_path}: a folder, not an image; give the images in it"
    assert "cannot be opened" in open_error("x" * 5000)
    assert "truncated or corrupt" in open_error("a\0b")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_names_of_several_lines_are_shown_on_one(tmp_path: Path) -> None:
    path = tmp_path / "a\n\x1b.jpg"
    path.touch()
    for image, name in ((path, r"a\n\x1b.jpg"), (tmp_path / "\ud800", r"\ud800")):
        with pytest.raises(ImageError) as caught:
            open_image(image)
        assert str(caught.value).startswith(f"{tmp_path}/{name}: ")


@pytest.mark.parametrize(
    "data",
    [
        b"hello",
        b"\0" * 100,
        b"%PDF-1.4\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"\xff\xd8",
        b"GIF89a",
    ],
)
def test_other_files_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "not an image.jpg"
    path.write_bytes(data)
    message = "not an image that can be read; save it as JPEG or PNG, or remove it"
    assert open_error(path) == f"{path}: {message}"
    assert open_error(data) == f"an image given as bytes: {message}"


def test_empty_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.jpg"
    path.touch()
    message = "the file is empty; copy it again or remove it"
    assert open_error(path) == f"{path}: {message}"
    assert open_error(b"") == f"an image given as bytes: {message}"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_truncated_images_are_refused(tmp_path: Path, format: str) -> None:
    data = encode(noise(60, 40), format)
    path = tmp_path / "half.img"
    path.write_bytes(data[: len(data) // 2])
    assert open_error(path).startswith(f"{path}: ")


def test_an_opened_image_that_is_truncated_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "half.jpg"
    path.write_bytes(encode(noise(200, 200), "JPEG")[:3000])
    with Image.open(path) as image:
        assert open_error(image).startswith(f"{path}: truncated or corrupt (")
    with Image.open(io.BytesIO(path.read_bytes())) as image:
        assert open_error(image).startswith("an image given as PIL.Image: truncated or corrupt (")


def test_the_error_of_a_truncated_image_has_the_reason_and_a_fix() -> None:
    data = encode(noise(200, 200), "JPEG")
    message = open_error(data[: len(data) // 2])
    reason = "truncated or corrupt (image file is truncated"
    assert message.startswith(f"an image given as bytes: {reason}")
    assert message.endswith("; copy it again or remove it")


def test_postscript_is_not_run() -> None:
    drawing = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n"
    message = "a PostScript drawing, not an image; save it as JPEG or PNG"
    assert open_error(drawing) == f"an image given as bytes: {message}"


def test_images_with_too_many_pixels_are_refused_before_decoding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    message = "12000 x 12000 pixels are more than the 100,000,000 allowed; scale the image down"
    assert open_error(png(12_000, 12_000, 8, 2, b"")) == f"an image given as bytes: {message}"
    message = "more than the 100,000,000 pixels allowed; scale the image down"
    assert open_error(png(60_000, 60_000, 8, 2, b"")) == f"an image given as bytes: {message}"
    message = open_error(png(13, 1, 8, 2, b""), max_pixels=12)
    assert "13 x 1 pixels are more than the 12 allowed" in message


def test_max_pixels_is_limited_by_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(noise(10, 10), "PNG")
    assert open_image(data, max_pixels=100).size == (10, 10)
    assert "pixels are more" in open_error(data, max_pixels=99)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60)  # Pillow warns above its limit
    assert open_image(data).size == (10, 10)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    assert "more than the 80 pixels allowed" in open_error(data)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((3, 4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 3)),
    ],
)
def test_arrays_of_another_shape_or_type_are_refused(array: np.ndarray) -> None:
    message = open_error(array)
    assert message.startswith("an image given as an array must be uint8 of shape (H, W, 3)")
    assert str(array.shape) in message
    assert str(array.dtype) in message


def test_other_objects_are_refused() -> None:
    for source in (None, 3, ["a.jpg"], io.BytesIO(b"")):
        assert type(source).__name__ in open_error(source)


def test_an_image_without_pixels_is_refused() -> None:
    message = "an image of 0 x 4 pixels is empty; remove it"
    assert open_error(Image.new("RGB", (0, 4))) == f"an image given as PIL.Image: {message}"


@settings(max_examples=150, deadline=None)
@given(
    format=st.sampled_from(
        ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "ICO", "TGA", "JPEG2000"]
    ),
    cut=st.integers(0, 400),
    changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6),
)
def test_damaged_files_are_opened_or_refused(
    format: str, cut: int, changes: list[tuple[int, int]]
) -> None:
    data = bytearray(encode(noise(), format))
    for index, value in changes:
        data[index % len(data)] = value
    with contextlib.suppress(ImageError):  # no other error
        assert open_image(bytes(data[: len(data) - cut]), max_pixels=1_000_000).mode == "RGB"


# ----------------------------------------------------------------------------------------- warnings


def test_other_warnings_are_not_silenced_and_filters_are_restored() -> None:
    before = list(warnings.filters)
    with silence_pillow():
        with silence_pillow(), pytest.warns(UserWarning, match="not Pillow's"):
            warnings.warn("not Pillow's", UserWarning, stacklevel=1)
        assert warnings.filters[0] not in before
    assert warnings.filters == before


def test_warnings_are_silenced_in_concurrent_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60)  # Pillow warns about each image
    data, before, failures = encode(noise(10, 10), "PNG"), list(warnings.filters), []

    def work() -> None:
        try:
            for _ in range(40):
                open_image(data)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert warnings.filters == before


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "TIFF"])
def test_concurrent_threads_open_the_same_unloaded_image(format: str) -> None:
    data, expected = encode(noise(600, 400), format), None
    for _ in range(5):
        with Image.open(io.BytesIO(data)) as image, ThreadPoolExecutor(8) as threads:
            opened = list(threads.map(open_image, [image] * 40))
        expected = expected or opened[0].tobytes()
        assert all(copy.tobytes() == expected for copy in opened)


def test_an_image_that_takes_long_holds_up_no_other() -> None:
    started, release = threading.Event(), threading.Event()
    with Image.open(io.BytesIO(encode(noise(), "PNG"))) as slow, ThreadPoolExecutor(1) as threads:
        load = slow.load

        def load_late() -> Any:
            started.set()
            assert release.wait(10)
            return load()

        slow.load = load_late  # type: ignore[method-assign]
        opening = threads.submit(open_image, slow)
        assert started.wait(10)
        for image in [noise() for _ in range(200)]:
            open_image(image)
        assert not opening.done()
        release.set()
        assert opening.result().size == slow.size


def test_image_files_are_closed(tmp_path: Path) -> None:
    noise().save(tmp_path / "a.tif")
    (tmp_path / "b.jpg").write_bytes(encode(noise(), "JPEG")[:200])
    open_image(tmp_path / "a.tif")
    open_error(tmp_path / "b.jpg")
    gc.collect()  # warns about files that are open, and warnings are errors


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes")
def test_pipes_and_devices_are_refused_without_reading_them(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to("/dev/zero")
    for path in (tmp_path / "pipe.png", tmp_path / "link.png", "/dev/zero"):
        with pytest.raises(ImageError, match="a pipe or a device, not an image file"):
            open_image(path)
