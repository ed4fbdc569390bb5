"""Resize and normalize images exactly as BLIP's code (Li et al., 2022) does."""

import numpy as np
import torch
from PIL import Image

from cutline.config import ImageConfig
from cutline.image.open import ImageSource, open_image


def to_pixels(image: Image.Image, size: int) -> torch.Tensor:
    """Resize an RGB image to a square with Pillow's bicubic filter.

    The image is not cropped, and its aspect ratio is not kept.

    Returns:
        uint8 pixels, (3, size, size).
    """
    resized = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))  # (S, S, 3)
    return torch.from_numpy(np.array(resized.transpose(2, 0, 1), order="C"))


def normalize(pixels: torch.Tensor, config: ImageConfig) -> torch.Tensor:
    """Return (pixel / 255 - mean) / std, bit-identical to BLIP's code.

    Args:
        pixels: uint8, (..., 3, S, S).
        config: Mean and standard deviation by channel.

    Returns:
        `pixel_values`: float32, of the same shape, on the same device.
    """
    mean = torch.tensor(config.mean, device=pixels.device).view(3, 1, 1)
    std = torch.tensor(config.std, device=pixels.device).view(3, 1, 1)
    return pixels.float().div_(255).sub_(mean).div_(std)


def preprocess(image: Image.Image, size: int, config: ImageConfig) -> torch.Tensor:
    """Return the `pixel_values` of one RGB image: float32, (3, size, size)."""
    return normalize(to_pixels(image, size), config)


def open_thumbnail(source: ImageSource, max_size: int) -> Image.Image:
    """Open an image, reduced so that its longer side has at most `max_size` pixels.

    Raises:
        ImageError: The image cannot be read.
    """
    image = open_image(source)
    image = image.copy() if image is source else image  # do not shrink the caller's image
    image.thumbnail((max_size, max_size))
    return image
