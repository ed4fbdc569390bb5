"""What is sent of an image is, once opened, the image that a captioner would see."""

import base64
import os
import threading
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answers import Ask
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from web_server import WebServer

from cutline.client.images import encode_input, list_images, name_input
from cutline.errors import ImageError
from cutline.image import open_image

MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I", "F")


def send_and_open(image: Any) -> Image.Image:
    """Open an image as a server does that has received it."""
    return open_image(base64.b64decode(encode_input(image, "image")["data"]))


def make_image(mode: str, width: int, height: int) -> Image.Image:
    values = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    image = Image.fromarray(values)
    if mode in ("LA", "PA"):
        return image.convert("RGBA").convert(mode)
    if mode == "LAB":
        return Image.merge("LAB", image.split())
    return image.convert("L").convert(mode) if mode in ("I", "F") else image.convert(mode)


@given(st.sampled_from(MODES), st.integers(1, 9), st.integers(1, 9))
def test_images_of_every_mode_arrive_unchanged(mode: str, width: int, height: int) -> None:
    image = make_image(mode, width, height)
    assert image.mode == mode
    expected = open_image(image.copy())
    sent = send_and_open(image)
    assert sent.size == expected.size
    assert sent.tobytes() == expected.tobytes()


def test_16_bits_arrive_unchanged() -> None:
    image = Image.fromarray(np.arange(0, 65536, 1024, np.uint16).reshape(8, 8))
    assert send_and_open(image).tobytes() == open_image(image).tobytes()


@pytest.mark.parametrize("file_format", ["JPEG", "TIFF", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_arrives(file_format: str, orientation: int) -> None:
    file, exif = BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    make_image("RGB", 4, 6).save(file, file_format, exif=exif)
    image = Image.open(BytesIO(file.getvalue()))
    expected = open_image(file.getvalue())
    assert send_and_open(image).tobytes() == expected.tobytes()
    assert send_and_open(image).size == expected.size


def test_files_bytes_and_arrays(tmp_path: Path) -> None:
    image = make_image("RGB", 5, 4)
    path = tmp_path / "a.png"
    image.save(path)
    for source in (path, str(path), path.read_bytes(), np.asarray(image), image):
        assert send_and_open(source).tobytes() == image.tobytes()
    assert base64.b64decode(encode_input(path, "")["data"]) == path.read_bytes()


def test_one_image_or_several() -> None:
    array = np.zeros((2, 3, 3), np.uint8)
    assert [each.shape for each in list_images(array)] == [(2, 3, 3)]  # type: ignore[union-attr]
    assert [each.shape for each in list_images(array[None])] == [(2, 3, 3)]  # type: ignore
    assert list_images(b"ab") == [b"ab"]
    assert list_images("ab") == ["ab"]
    assert list_images((b"a", "b")) == [b"a", "b"]


def test_one_image_is_loaded_by_one_thread_at_a_time(tmp_path: Path) -> None:
    make_image("RGB", 600, 600).save(tmp_path / "a.png")
    image = Image.open(tmp_path / "a.png")
    sent = []
    threads = [
        threading.Thread(target=lambda: sent.append(encode_input(image, ""))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sent) == 8
    assert all(each == sent[0] for each in sent)


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        ("missing.jpg", r"^missing\.jpg: cannot be read \(No such file or directory\)"),
        (".", r"^\.: cannot be read \(Is a directory\)"),
        ("a\0b", r"^a\\x00b: cannot be read \("),
        (os.devnull, "a pipe or a device"),
        (3, "^image 0: an image must be a path, bytes.*, not int"),
        (np.zeros((2, 2)), r"^image 0 must be uint8 of shape \(H, W, 3\)"),
        (np.zeros((2, 0, 3), np.uint8), r"^image 0 must be uint8"),
    ],
)
def test_images_that_cannot_be_read(
    image: Any, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImageError, match=problem):
        encode_input(image, name_input(image, 0))


def test_a_truncated_image(server: WebServer, ask: Ask, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    make_image("RGB", 50, 50).save(path)
    path.write_bytes(path.read_bytes()[:1000])
    with Image.open(path) as image, pytest.raises(ImageError, match=r"^image 0: cannot be read"):
        ask(server, "caption", image)
    assert server.requests == []
