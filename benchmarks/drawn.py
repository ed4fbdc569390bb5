"""Captioners and matchers of drawn scenes: their data and recipes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from results import progress

import cutline
from cutline.config import DataConfig, EvalConfig, MatchTaskConfig, Recipe
from cutline.demo.drawing import Scene, draw_scene
from cutline.demo.grammar import is_correct
from cutline.demo.run import make_demo_recipe
from cutline.demo.scenes import write_scenes


def write_true_scenes(folder: Path, scenes: Sequence[Scene]) -> Path:
    """Draw scenes with true captions."""
    progress.print(f"drawing {len(scenes):,} scenes")
    return write_scenes(folder, scenes)


def caption_recipe(data: Path, output: Path, seed: int, epochs: int) -> Recipe:
    """Return the recipe of the demo for other data."""
    recipe = make_demo_recipe(output, seed, epochs)
    return replace(recipe, output=str(output), data=replace(recipe.data, train=str(data)))


def match_recipe(data: Path, output: Path, seed: int, epochs: int) -> Recipe:
    """Return the recipe of a matcher of the same sizes, from random weights."""
    recipe = caption_recipe(data, output, seed, epochs)
    sizes = replace(recipe.model, prompt=None, label_smoothing=None)
    return replace(recipe, task="match", model=sizes, data=use_one_caption(recipe.data))


def use_one_caption(data: DataConfig) -> DataConfig:
    """Return settings of data by which an epoch has one caption of each image, chosen at random."""
    return replace(data, captions_per_image=1)


def pretrain_recipe(
    data: Path, output: Path, seed: int, epochs: int, match: MatchTaskConfig | None = None
) -> Recipe:
    """Return the recipe of a captioner and a matcher of the same sizes, from random weights."""
    recipe = caption_recipe(data, output, seed, epochs)
    return replace(
        recipe,
        task="pretrain",
        model=replace(recipe.model, prompt=None),
        data=use_one_caption(recipe.data),
        match=match or recipe.match,
    )


def limit_steps(recipe: Recipe, steps: int) -> Recipe:
    """Return a recipe of so many steps, however much data there is; only the end is evaluated."""
    return replace(
        recipe,
        optim=replace(recipe.optim, max_steps=steps),
        eval=EvalConfig(every_epochs=1_000_000),
    )


def judge_captioner(path: Path, scenes: Sequence[Scene]) -> float:
    """Return the fraction of scenes whose caption is true in every word."""
    captioner = cutline.load(path, precision="fp32")
    images = [draw_scene(scene) for scene in scenes]
    captions = captioner.caption(images, batch_size=50, max_length=24, min_length=1)
    texts = [caption.text for caption in captions]
    return sum(map(is_correct, texts, scenes)) / len(scenes)
