"""A recipe so small that a run takes a second."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from cutline.config import (
    CaptionConfig,
    DataConfig,
    EvalConfig,
    MemoryConfig,
    ModelSettings,
    OptimConfig,
    Recipe,
    TextConfig,
    VisionConfig,
)

MODEL = CaptionConfig(
    vision=VisionConfig(
        image_size=32, patch_size=16, embed_dim=32, depth=2, num_heads=2, drop_path=0.1
    ),
    text=TextConfig(
        vocab_size=64, embed_dim=32, depth=2, num_heads=2, mlp_dim=64, max_positions=48
    ),
    prompt="a picture of ",
)
SECTIONS = (
    "data",
    "optim",
    "eval",
    "memory",
    "distributed",
    "model",
    "caption",
    "match",
    "scst",
)
NO_DROPOUT = {"text_dropout": 0.0, "text_attn_dropout": 0.0, "vision_drop_path": 0.0}
"""changes that turn off everything random in the model's forward pass"""
CACHED = {
    "optim_freeze": ("vision.*",),
    "data_augment": False,
    "data_cache_embeddings": "embeddings",
}
"""changes that cache the image embeddings of a frozen vision encoder in the current folder"""
CHECKPOINTED = {
    "memory_text_grad_ckpt": True,
    "memory_vit_grad_ckpt": True,
    "memory_vit_ckpt_layer": 1,
    "memory_selective_checkpointing": True,
}
"""changes that recompute activations in all layers, in each way"""
WIDER = {"vision_patch_size": 8, "vision_embed_dim": 64, "text_embed_dim": 64, "text_mlp_dim": 256}
"""changes that make a model that learns to match within seconds"""
MATCH = {"task": "match", "model_prompt": None, "model_label_smoothing": None}
"""changes that train a matcher"""
PRETRAIN = {"task": "pretrain", "model_prompt": None}
"""changes that train a captioner and a matcher together"""
MOMENTUM = {"match_momentum": 0.9, "match_queue_size": 12}
"""changes that add momentum encoders"""


def tiny_recipe(data: Path, output: Path | str, **changes: Any) -> Recipe:
    """Return a recipe that trains `MODEL` on `data`.

    Args:
        data: data file to train and validate on.
        output: run directory.
        changes: values that differ. `optim_lr=…` sets `optim.lr`, and so for every section of the
            recipe; `text_…` and `vision_…` stand for `model.text.…` and `model.vision.…`; other
            names are fields of the recipe itself.
    """
    base = Recipe(
        output=str(output),
        precision="fp32",
        log_every=1,
        tensorboard="off",
        model=ModelSettings.from_config(MODEL),
        data=DataConfig(train=str(data), val=str(data), num_workers=0),
        optim=OptimConfig(batch_size=5, epochs=2, lr=1e-3),
        eval=EvalConfig(every_epochs=1, before_training=False, max_images=4),
        # It changes no number, but takes up to half the time of so small a model: see test_loop.py.
        memory=MemoryConfig(selective_checkpointing=False),
    )
    for name in ("vision", "text"):
        model = changes.get("model", base.model)
        section = replace(getattr(model, name), **pop_prefixed(changes, name))
        changes["model"] = replace(model, **{name: section})
    sections = {
        name: replace(changes.pop(name, getattr(base, name)), **pop_prefixed(changes, name))
        for name in SECTIONS
    }
    # At once, because the recipe checks its sections against each other.
    return replace(base, **sections, **changes)


def pop_prefixed(changes: dict[str, Any], section: str) -> dict[str, Any]:
    """Remove and return the values named `{section}_…`, without the prefix."""
    prefix = f"{section}_"
    names = [name for name in changes if name.startswith(prefix)]
    return {name.removeprefix(prefix): changes.pop(name) for name in names}
