"""A data set and a recipe so small that a run takes a second."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cutline.config import CaptionConfig, DataConfig, EvalConfig, OptimConfig, Recipe, TextConfig, VisionConfig
from cutline.data.scenes import make_scenes, write_scenes

MODEL = CaptionConfig(
    vision=VisionConfig(image_size=32, patch_size=16, embed_dim=32, depth=2, num_heads=2, drop_path=0.1),
    text=TextConfig(vocab_size=64, embed_dim=32, depth=2, num_heads=2, mlp_dim=64, max_positions=48),
    prompt="a picture of ",
)


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty drawn scenes with captions."""
    return write_scenes(tmp_path_factory.mktemp("scenes"), make_scenes(20, seed=3), size=32)


@pytest.fixture
def recipe(scenes: Path, tmp_path: Path) -> Callable[..., Recipe]:
    """Builds a recipe; keyword arguments `optim_…`, `data_…` and `eval_…` change a section, others the recipe itself."""

    def build(**changes: object) -> Recipe:
        base = Recipe(
            output=str(tmp_path / "run"),
            precision="fp32",
            log_every=1,
            model=MODEL,
            data=DataConfig(train=str(scenes), val=str(scenes), num_workers=0),
            optim=OptimConfig(batch_size=5, epochs=2, lr=1e-3),
            eval=EvalConfig(every=1, max_pictures=4),
        )
        for section in ("data", "optim", "eval"):
            inside = {name.removeprefix(section + "_"): changes.pop(name) for name in list(changes) if name.startswith(section + "_")}
            base = replace(base, **{section: replace(getattr(base, section), **inside)})
        return replace(base, **changes)

    return build
