"""What benchmarks that train models share: options, timed trainings, and the result."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeVar

from results import make_result, progress, write_result

from cutline.config import InitConfig, ModelSettings, Recipe
from cutline.training import train


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Options of every benchmark that trains models."""

    output: str = ""
    """write the result to this JSON file"""
    folder: str = ""
    """keep data and models in this new folder (default: a temporary one)"""
    short: bool = False
    """little data and few steps: only to test this script"""

    def shorten(self) -> Self:
        """Return the options with the numbers of a short run."""
        return self


Options = TypeVar("Options", bound=TrainingOptions)


@dataclass(frozen=True)
class TrainedModel:
    """A model and how long its training took."""

    path: Path
    minutes: float | None = None
    """None if it was trained before"""


def run_benchmark(
    options: Options,
    measure: Callable[[Options, Path], dict[str, Any]],
    show: Callable[[dict[str, Any]], None],
) -> None:
    """Measure, print the result, and write it if an output is named.

    Args:
        options: The options.
        measure: Returns the result, given the options and a folder for data and models.
        show: Prints the result.
    """
    options = options.shorten() if options.short else options
    with tempfile.TemporaryDirectory() as temporary:
        measured = measure(options, Path(options.folder or temporary))
    result = make_result(options, measured)
    show(result)
    write_result(result, options.output)


def make_match_recipe(recipe: Recipe) -> Recipe:
    """Return the recipe of a matcher: that of a captioner, as far as both have settings."""
    return replace(
        recipe,
        task="match",
        model=replace(recipe.model, prompt=None, label_smoothing=None),
        data=replace(recipe.data, captions_per_image=1),
        optim=replace(recipe.optim, optimizer="adamw"),  # as in the results of docs/matching.md
        caption=Recipe().caption,
        generation=Recipe().generation,
    )


def finetune(recipe: Recipe, start: InitConfig) -> Recipe:
    """Return a recipe that starts from a trained model, whose sizes it takes."""
    return replace(recipe, model=ModelSettings(), init=start)


def train_timed(recipe: Recipe) -> TrainedModel:
    """Train, and measure the time."""
    progress.print(f"training {recipe.output}")
    start = time.perf_counter()
    path = train(recipe)
    minutes = (time.perf_counter() - start) / 60
    progress.print(f"{recipe.output}: {minutes:.1f} minutes")
    return TrainedModel(path, minutes)


def train_after(recipe: Recipe, captioner: TrainedModel) -> TrainedModel:
    """Train from the weights of a captioner, whose training counts towards the time if measured."""
    start = InitConfig(captioner=str(captioner.path))
    model = train_timed(finetune(recipe, start))
    return TrainedModel(model.path, sum(each.minutes or 0.0 for each in (model, captioner)))
