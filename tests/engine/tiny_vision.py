"""A vision encoder small enough to compile in a test, with weights large enough to matter."""

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from cutline.config import VisionConfig
from cutline.model.vision import VisionTransformer

CONFIG = VisionConfig(image_size=16, patch_size=8, embed_dim=12, depth=1, num_heads=3)


def make_vision(seed: int = 0, merge_tokens: int = 0) -> VisionTransformer:
    """Make an encoder of one block; all weights are random, so that a missing one is noticed."""
    vision = VisionTransformer(CONFIG, merge_tokens)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in vision.named_parameters():
            is_norm = weight.dim() == 1 and "norm" in name
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3 + is_norm)
    return vision.eval()


def make_pixels(count: int, size: int = 16, seed: int = 0) -> Tensor:
    """Make pixel_values (count, 3, size, size)."""
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def encode(vision: nn.Module, seed: int, dtype: torch.dtype) -> Tensor:
    """Encode three images that depend on `seed`."""
    out: Tensor = vision(make_pixels(3, seed=seed).to(dtype))
    return out


def count_wrong_results(vision: nn.Module, dtype: torch.dtype, count: int = 400) -> int:
    """Encode batches of images in six threads, and count results that are not those of one."""
    expected = [encode(vision, seed, dtype).clone() for seed in range(40)]
    with ThreadPoolExecutor(6) as pool:
        results = pool.map(lambda i: encode(vision, i % 40, dtype), range(count))
        return sum(not torch.equal(out, expected[i % 40]) for i, out in enumerate(results))
