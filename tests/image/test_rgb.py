"""Conversion in tiles gives exactly the pixels of a conversion of the whole image."""

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from cutline.image import rgb

MODES = [
    *("1", "L", "P", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "HSV", "LAB"),
    *("I", "F", "LA", "La", "PA", "I;16", "I;16L", "I;16B"),
]
DEEP = {"I": "<i4", "F": "<f4", "I;16": "<u2", "I;16L": "<u2", "I;16B": ">u2"}


def make_image(mode: str, size: tuple[int, int], seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    image = Image.new(mode, size)
    data = bytearray(rng.integers(0, 256, len(image.tobytes()), dtype=np.uint8))
    if mode == "F":
        values = rng.normal(0, 10.0 ** rng.integers(-3, 7), size[0] * size[1]) + rng.normal()
        values[rng.random(len(values)) < 0.05] = rng.choice([np.nan, np.inf, -np.inf])
        data = bytearray(values.astype("<f4").tobytes())
    elif mode == "I" and seed % 2:
        data = bytearray(rng.integers(0, 70_000, size[0] * size[1], dtype="<i4").tobytes())
    image.frombytes(bytes(data))
    if mode in ("P", "PA"):
        image.putpalette(rng.integers(0, 256, 768, dtype=np.uint8).tobytes())
    transparent = {"P": bytes(rng.integers(0, 256, 256, dtype=np.uint8)), "L": 7, "RGB": (1, 2, 3)}
    if mode in transparent and seed % 2:
        image.info["transparency"] = transparent[mode]
    return image


def convert_whole(image: Image.Image) -> Image.Image:
    """Convert an image at once, in the plainest way."""
    if image.mode in DEEP:
        white = 65535.0 if image.mode.startswith("I;16") else None
        gray = np.frombuffer(image.tobytes(), DEEP[image.mode]).reshape(image.size[::-1])
        return Image.fromarray(to_8_bits(gray, white)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("LA") if image.mode == "La" else image
        image = image.convert("RGBA")
        background = Image.new("RGB", image.size, "white")
        background.paste(image, mask=image.getchannel("A"))
        return background
    return image.convert("RGB")


def to_8_bits(gray: np.ndarray, white: float | None) -> np.ndarray:
    values = np.nan_to_num(gray.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    black, low, high = 0.0, float(values.min()), float(values.max())
    if white is None and low >= 0:
        white = next((maximum for maximum in (1.0, 255.0, 65535.0) if high <= maximum), None)
    if white is None:
        black, white = low, high
    scale = 255 / (white - black) if white > black else 0.0
    return np.rint((values - black) * scale).clip(0, 255).astype(np.uint8)


@settings(max_examples=300, deadline=None)
@given(
    mode=st.sampled_from(MODES),
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    tile_pixels=st.integers(1, 200),
    seed=st.integers(0, 1000),
)
@example(mode="I;16", width=700, height=600, tile_pixels=rgb.TILE_PIXELS, seed=0)
@example(mode="RGBA", width=rgb.TILE_PIXELS + 1, height=2, tile_pixels=rgb.TILE_PIXELS, seed=0)
@example(mode="F", width=1, height=rgb.TILE_PIXELS + 1, tile_pixels=rgb.TILE_PIXELS, seed=0)
def test_tiles_give_the_pixels_of_the_whole(
    mode: str, width: int, height: int, tile_pixels: int, seed: int
) -> None:
    image = make_image(mode, (width, height), seed)
    expected = convert_whole(image)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rgb, "TILE_PIXELS", tile_pixels)
        converted: Any = rgb.to_rgb(image)
    assert (converted.mode, converted.size) == ("RGB", (width, height))
    assert converted.tobytes() == expected.tobytes()


def test_signaling_nan_is_0_without_a_warning() -> None:
    values = np.array([0x7F800001, 0x3F800000, 0xFF800001, 0], "<u4")  # 1.0 is the second
    image = Image.frombytes("F", (4, 1), values.tobytes())
    assert np.asarray(rgb.to_rgb(image))[0, :, 0].tolist() == [0, 255, 0, 0]
