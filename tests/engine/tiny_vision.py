"""A vision encoder small enough to compile in a test, with weights large enough to matter."""

import torch
from torch import Tensor

from cutline.config import VisionConfig
from cutline.model.vision import VisionTransformer

CONFIG = VisionConfig(image_size=16, patch_size=8, embed_dim=12, depth=1, num_heads=3)


def make_vision(seed: int = 0) -> VisionTransformer:
    """Make an encoder of one block; all weights are random, so that a missing one is noticed."""
    vision = VisionTransformer(CONFIG)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in vision.named_parameters():
            is_norm = weight.dim() == 1 and "norm" in name
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3 + is_norm)
    return vision.eval()


def make_pixels(count: int, size: int = 16, seed: int = 0) -> Tensor:
    """Make pixel_values (count, 3, size, size)."""
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))
