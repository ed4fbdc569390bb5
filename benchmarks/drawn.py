"""Captioners and matchers of drawn scenes: their data and recipes, and how long training took."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

import cutline
from cutline.config import EvalConfig, InitConfig, MatchTaskConfig, ModelSettings, Recipe
from cutline.demo.drawing import Scene, draw_scene
from cutline.demo.grammar import is_correct
from cutline.demo.mistakes import describe_scene_both_ways
from cutline.demo.run import make_demo_recipe
from cutline.demo.scenes import write_scenes
from cutline.training import train

progress = Console(stderr=True, highlight=False, markup=False)


@dataclass(frozen=True)
class TrainedModel:
    """A model and how long its training took."""

    path: Path
    minutes: float


def write_true_scenes(folder: Path, scenes: Sequence[Scene]) -> Path:
    """Draw scenes with true captions: each relation is said in both ways."""
    progress.print(f"drawing {len(scenes):,} scenes")
    return write_scenes(folder, scenes, captions_of=describe_scene_both_ways)


def caption_recipe(data: Path, output: Path, seed: int, epochs: int) -> Recipe:
    """Return the recipe of the demo for other data."""
    recipe = make_demo_recipe(output, seed, epochs)
    return replace(recipe, output=str(output), data=replace(recipe.data, train=str(data)))


def match_recipe(
    data: Path, output: Path, seed: int, epochs: int, captioner: str | Path = ""
) -> Recipe:
    """Return the recipe of a matcher of the same sizes.

    Args:
        data: The training data.
        output: The run directory.
        seed: Seed of the run.
        epochs: Epochs.
        captioner: The captioner to start from (default: random weights).
    """
    recipe = caption_recipe(data, output, seed, epochs)
    sizes = replace(recipe.model, prompt=None, label_smoothing=None)
    return replace(
        recipe,
        task="match",
        model=ModelSettings() if captioner else sizes,
        init=InitConfig(captioner=str(captioner)) if captioner else recipe.init,
    )


def pretrain_recipe(
    data: Path, output: Path, seed: int, epochs: int, match: MatchTaskConfig | None = None
) -> Recipe:
    """Return the recipe of a captioner and a matcher of the same sizes, from random weights."""
    recipe = caption_recipe(data, output, seed, epochs)
    return replace(
        recipe,
        task="pretrain",
        model=replace(recipe.model, prompt=None),
        match=match or recipe.match,
    )


def finetune(recipe: Recipe, captioner: Path) -> Recipe:
    """Return a recipe that starts from a captioner."""
    return replace(recipe, model=ModelSettings(), init=InitConfig(captioner=str(captioner)))


def limit_steps(recipe: Recipe, steps: int) -> Recipe:
    """Return a recipe of so many steps, however much data there is; only the end is evaluated."""
    return replace(
        recipe,
        optim=replace(recipe.optim, max_steps=steps),
        eval=EvalConfig(every_epochs=1_000_000),
    )


def train_timed(recipe: Recipe) -> TrainedModel:
    """Train, and measure the time."""
    progress.print(f"training {recipe.output}")
    start = time.perf_counter()
    path = train(recipe)
    minutes = (time.perf_counter() - start) / 60
    progress.print(f"{recipe.output}: {minutes:.1f} minutes")
    return TrainedModel(path, minutes)


def judge_captioner(path: Path, scenes: Sequence[Scene]) -> float:
    """Return the fraction of scenes whose caption is true in every word."""
    captioner = cutline.load(path, precision="fp32")
    images = [draw_scene(scene) for scene in scenes]
    captions = captioner.caption(images, batch_size=50, max_length=24, min_length=1)
    texts = [caption.text for caption in captions]
    return sum(map(is_correct, texts, scenes)) / len(scenes)
