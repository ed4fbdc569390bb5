"""A recipe so small that a run takes a second."""

from dataclasses import replace
from pathlib import Path

from cutline.config import (
    CaptionConfig,
    DataConfig,
    EvalConfig,
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


def tiny_recipe(data: Path, output: Path | str, **changes: object) -> Recipe:
    """A recipe; keyword arguments `optim_…`, `data_…` and `eval_…` change a section, others the recipe itself."""
    base = Recipe(
        output=str(output),
        precision="fp32",
        log_every=1,
        tensorboard="off",
        model=MODEL,
        data=DataConfig(train=str(data), val=str(data), num_workers=0),
        optim=OptimConfig(batch_size=5, epochs=2, lr=1e-3),
        eval=EvalConfig(every=1, max_pictures=4),
    )
    for section in ("data", "optim", "eval"):
        inside = {
            name.removeprefix(section + "_"): changes.pop(name)
            for name in list(changes)
            if name.startswith(section + "_")
        }
        changes[section] = replace(getattr(base, section), **inside)
    return replace(base, **changes)
