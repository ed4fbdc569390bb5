"""Small models of transformers' BLIP with random weights, in folders."""

from pathlib import Path
from typing import Any

import torch

from cutline.tokenizer import Tokenizer

VISION = {
    "hidden_size": 24,
    "intermediate_size": 36,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "image_size": 12,
    "patch_size": 4,
}
TEXT = {
    "hidden_size": 40,
    "intermediate_size": 28,
    "num_hidden_layers": 3,
    "max_position_embeddings": 17,
}


def make_blip_model(architecture: Any, config: Any) -> Any:
    """Make a model in transformers, in evaluation mode, whose weights are all random."""
    model = architecture(config).eval()
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=random) * 0.2)
    return model


def save_blip_model(folder: Path, model: Any, tokenizer: Tokenizer) -> Path:
    """Save a model and its tokenizer as transformers does, and return the folder."""
    model.save_pretrained(folder)
    tokenizer.save(folder / "tokenizer.json")
    return folder
