"""Images become tensors as in the reference: resized whole to a square, divided by 255, normalised."""

import numpy as np
import torch
from PIL import Image

from cutline.config import ImageConfig


def to_pixels(image: Image.Image, size: int) -> torch.Tensor:
    """Resize an RGB image to uint8 (3, S, S) with Pillow's bicubic filter; no crop, the aspect ratio is not kept."""
    resized = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))  # (S, S, 3)
    return torch.from_numpy(np.array(resized.transpose(2, 0, 1), order="C"))


def normalize(pixels: torch.Tensor, config: ImageConfig) -> torch.Tensor:
    """Turn uint8 pixels (..., 3, S, S) into float32 `pixel_values` of the same shape, on the same device.

    (pixel / 255 - mean) / std, in the reference's order of rounding, so that values are equal bit for bit.
    """
    mean = torch.tensor(config.mean, device=pixels.device).view(3, 1, 1)
    std = torch.tensor(config.std, device=pixels.device).view(3, 1, 1)
    return pixels.float().div_(255).sub_(mean).div_(std)


def preprocess(image: Image.Image, size: int, config: ImageConfig) -> torch.Tensor:
    """`pixel_values` (3, S, S), float32, of one RGB image."""
    return normalize(to_pixels(image, size), config)
