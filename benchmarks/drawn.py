"""Captioners and matchers of drawn scenes: their data and recipes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from trained import make_match_recipe

import cutline
from cutline.config import EvalConfig, MatchTaskConfig, Recipe
from cutline.demo.drawing import Scene, draw_scene
from cutline.demo.grammar import is_correct
from cutline.demo.run import make_demo_recipe


def caption_recipe(data: Path, output: Path, seed: int, epochs: int) -> Recipe:
    """Return the recipe of the demo for other data."""
    recipe = make_demo_recipe(output, seed, epochs)
    return replace(recipe, output=str(output), data=replace(recipe.data, train=str(data)))


def match_recipe(data: Path, output: Path, seed: int, epochs: int) -> Recipe:
    """Return the recipe of a matcher of the same sizes, from random weights."""
    return make_match_recipe(caption_recipe(data, output, seed, epochs))


def pretrain_recipe(
    data: Path, output: Path, seed: int, epochs: int, match: MatchTaskConfig | None = None
) -> Recipe:
    """Return the recipe of a captioner and a matcher of the same sizes, from random weights."""
    recipe = caption_recipe(data, output, seed, epochs)
    return replace(
        recipe,
        task="pretrain",
        model=replace(recipe.model, prompt=None),
        data=replace(recipe.data, captions_per_image=1),
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
