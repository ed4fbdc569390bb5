"""An encoder small enough to be compiled in a test, with weights large enough to matter."""

import torch
from torch import Tensor

from cutline.config import VisionConfig
from cutline.model.vision import VisionTransformer

CONFIG = VisionConfig(image_size=16, patch_size=8, embed_dim=12, depth=1, num_heads=3)


def tiny_vision(seed: int = 0) -> VisionTransformer:
    """One block, in evaluation mode; every weight is drawn, so that none can be left out unnoticed."""
    vision = VisionTransformer(CONFIG)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in vision.named_parameters():
            weight.copy_(
                torch.randn(weight.shape, generator=generator) * 0.3
                + (weight.dim() == 1 and "norm" in name)
            )
    return vision.eval()


def pictures(count: int, size: int = 16, seed: int = 0) -> Tensor:
    """pixel_values (count, 3, size, size)."""
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))
