"""Captioners that are small enough for tests, with weights large enough to have an effect."""

from typing import Any

import torch
from torch import Tensor

from cutline.config import CaptionConfig, TextConfig, VisionConfig
from cutline.model import CaptionModel

VOCAB = 31


def make_config(
    vision: dict[str, Any] | None = None, text: dict[str, Any] | None = None, **others: Any
) -> CaptionConfig:
    """Make a configuration of two blocks and two layers, by default without dropout."""
    sizes = {"image_size": 16, "patch_size": 8, "embed_dim": 12, "depth": 2, "num_heads": 3} | (
        vision or {}
    )
    text_sizes = {
        "vocab_size": VOCAB,
        "embed_dim": 16,
        "depth": 2,
        "num_heads": 2,
        "mlp_dim": 24,
        "max_positions": 40,
    }
    text_sizes |= {"dropout": 0.0, "attn_dropout": 0.0} | (text or {})
    return CaptionConfig(vision=VisionConfig(**sizes), text=TextConfig(**text_sizes), **others)


def make_model(
    config: CaptionConfig | None = None, seed: int = 0, std: float = 0.3
) -> CaptionModel:
    """Make a model in evaluation mode. All weights are random, biases and norms too."""
    model = CaptionModel(config or make_config())
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(
                torch.randn(weight.shape, generator=generator) * std
                + (weight.dim() == 1 and "norm" in name)
            )
    return model.eval()


def make_images(count: int, size: int = 16, seed: int = 0) -> Tensor:
    """Make random pixel_values (count, 3, size, size)."""
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def make_texts(lengths: list[int], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Make input_ids and attention_mask (R, T) of random texts, padded on the right."""
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(1, VOCAB, mask.shape, generator=torch.Generator().manual_seed(seed))
    return ids * mask, mask
