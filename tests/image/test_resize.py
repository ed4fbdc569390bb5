"""Pixels are the reference's, bit for bit."""

import numpy as np
import pytest
import torch
from golden_folder import GoldenFolder
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cutline.config import ImageConfig
from cutline.image import normalize, open_image, preprocess, to_pixels


@pytest.mark.parametrize("interpolated", [False, True])
def test_pixel_values_equal_the_reference_s(
    golden_folder: GoldenFolder, interpolated: bool
) -> None:
    name = golden_folder.interpolated if interpolated else "expected"
    expected = golden_folder.read_tensors(name)["pixel_values"]
    size = expected.shape[-1]
    images = [
        open_image(golden_folder.path / "images" / image)
        for image in golden_folder.read_json(name)["images"]
    ]
    assert torch.equal(
        torch.stack([preprocess(image, size, ImageConfig()) for image in images]), expected
    )
    batch = torch.stack([to_pixels(image, size) for image in images])
    assert torch.equal(normalize(batch, ImageConfig()), expected)


@settings(max_examples=30, deadline=None)
@given(
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    size=st.integers(1, 30),
    seed=st.integers(0, 9),
)
def test_to_pixels_is_the_whole_picture_in_a_square(
    width: int, height: int, size: int, seed: int
) -> None:
    image = Image.fromarray(
        np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    )
    pixels = to_pixels(image, size)
    assert pixels.dtype == torch.uint8
    assert pixels.shape == (3, size, size)
    assert pixels.is_contiguous()
    for channel, plane in enumerate(image.resize((size, size), Image.Resampling.BICUBIC).split()):
        assert pixels[channel].numpy().tobytes() == plane.tobytes()


def test_the_picture_s_own_memory_is_not_shared() -> None:
    image = Image.new("RGB", (8, 8), "red")
    to_pixels(image, 8).zero_()
    assert image.getpixel((0, 0)) == (255, 0, 0)


def test_normalize_follows_its_config_and_spares_its_input() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).expand(2, 3, 4, 256).contiguous()
    config = ImageConfig(mean=(0.5, 0.25, 0.0), std=(0.5, 1.0, 2.0))
    values = normalize(pixels, config)
    assert values.dtype == torch.float32
    grey = torch.arange(256) / 255
    for channel, (mean, std) in enumerate(zip(config.mean, config.std, strict=True)):
        torch.testing.assert_close(values[0, channel, 0], (grey - mean) / std)
    assert pixels[1, 2, 3, 255] == 255
