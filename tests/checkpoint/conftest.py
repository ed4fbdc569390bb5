"""Small random captioners and matchers."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import pytest
import torch

from cutline.checkpoint import Checkpoint, compute_weight_shapes
from cutline.config import CaptionConfig, ImageConfig, MatchConfig, TextConfig, VisionConfig
from cutline.tokenizer import Tokenizer

C = TypeVar("C", CaptionConfig, MatchConfig)


@pytest.fixture(scope="session")
def blip() -> Any:
    """Return BLIP in transformers; tests that need it skip where it is absent."""
    return pytest.importorskip("transformers.models.blip")


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    captions = ["a red dog on a green hill", "two dogs by a hill", "a picture of a reddish hill"]
    return Tokenizer.train(captions * 3, vocab_size=60)


@pytest.fixture(scope="session")
def make_checkpoint(tokenizer: Tokenizer) -> Callable[..., Checkpoint]:
    """Return a function that makes a captioner of random weights, all different from each other."""

    def make(config: CaptionConfig | None = None, seed: int = 0) -> Checkpoint:
        config = config or make_small_config(tokenizer)
        config = replace(config, text=replace(config.text, vocab_size=tokenizer.vocab_size))
        return make_random_checkpoint(config, tokenizer, seed)

    return make


@pytest.fixture(scope="session")
def matcher(tokenizer: Tokenizer) -> Checkpoint[MatchConfig]:
    """Return a matcher of random weights, without default settings."""
    config = make_small_config(tokenizer)
    sizes = MatchConfig(config.vision, config.text, config.image, 6, temperature=0.0625)
    return make_random_checkpoint(sizes, tokenizer)


def make_random_checkpoint(config: C, tokenizer: Tokenizer, seed: int = 0) -> Checkpoint[C]:
    """Return a checkpoint with random weights, all different from each other."""
    random = torch.Generator().manual_seed(seed)
    weights = {
        name: torch.randn(shape, generator=random) * 0.1
        for name, shape in compute_weight_shapes(config).items()
    }
    return Checkpoint(config, weights, tokenizer)


def make_small_config(tokenizer: Tokenizer) -> CaptionConfig:
    """Make a configuration of different sizes, without default settings."""
    return CaptionConfig(
        vision=VisionConfig(
            image_size=12,
            patch_size=4,
            embed_dim=24,
            depth=2,
            num_heads=3,
            mlp_ratio=1.5,
            drop_path=0.1,
            layer_norm_eps=1e-5,
        ),
        text=TextConfig(
            vocab_size=tokenizer.vocab_size,
            embed_dim=20,
            depth=3,
            num_heads=5,
            mlp_dim=28,
            max_positions=17,
            dropout=0.2,
            attn_dropout=0.3,
        ),
        image=ImageConfig(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25)),
        prompt="two dogs ",
        label_smoothing=0.05,
    )
