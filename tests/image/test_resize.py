"""Pixels equal those of BLIP's code, bit for bit; thumbnails."""

from pathlib import Path

import numpy as np
import pytest
import torch
from golden_folder import GoldenFolder
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cutline.config import ImageConfig
from cutline.errors import ImageError
from cutline.image import normalize, open_image, open_thumbnail, preprocess, to_pixels


@pytest.mark.parametrize("interpolated", [False, True])
def test_pixel_values_equal_the_reference(golden_folder: GoldenFolder, interpolated: bool) -> None:
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
def test_to_pixels_resizes_the_entire_image_to_a_square(
    width: int, height: int, size: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    pixels = to_pixels(image, size)
    assert pixels.dtype == torch.uint8
    assert pixels.shape == (3, size, size)
    assert pixels.is_contiguous()
    for channel, plane in enumerate(image.resize((size, size), Image.Resampling.BICUBIC).split()):
        assert pixels[channel].numpy().tobytes() == plane.tobytes()


def test_pixels_do_not_share_memory_with_the_image() -> None:
    image = Image.new("RGB", (8, 8), "red")
    to_pixels(image, 8).zero_()
    assert image.getpixel((0, 0)) == (255, 0, 0)


def test_normalize_uses_its_config_and_leaves_its_input_unchanged() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).expand(2, 3, 4, 256).contiguous()
    config = ImageConfig(mean=(0.5, 0.25, 0.0), std=(0.5, 1.0, 2.0))
    values = normalize(pixels, config)
    assert values.dtype == torch.float32
    gray = torch.arange(256) / 255
    for channel, (mean, std) in enumerate(zip(config.mean, config.std, strict=True)):
        torch.testing.assert_close(values[0, channel, 0], (gray - mean) / std)
    assert pixels[1, 2, 3, 255] == 255


@pytest.mark.parametrize(
    ("size", "expected"),
    [((1000, 500), (100, 50)), ((30, 200), (15, 100)), ((40, 30), (40, 30))],
)
def test_the_longer_side_of_a_thumbnail_is_limited(
    tmp_path: Path, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    image = Image.new("RGB", size, "red")
    image.save(tmp_path / "a.png")
    assert open_thumbnail(tmp_path / "a.png", 100).size == expected
    assert open_thumbnail(image, 100).size == expected
    assert image.size == size


def test_a_missing_image_has_no_thumbnail() -> None:
    with pytest.raises(ImageError, match="no such image"):
        open_thumbnail("/gone.png", 100)
