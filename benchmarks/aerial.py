"""Measure recipes/aerial.yaml on images of other regions than those that it trains on.

    python benchmarks/aerial.py ucm-captions --seeds 0 1 2 --output docs/benchmarks/aerial.json
    python benchmarks/aerial.py ucm-captions --runs runs/a runs/b --others runs/c runs/d
    python benchmarks/aerial.py ucm-captions --short

A run is trained on block-train.jsonl with each seed, or given by --runs, and its last checkpoint
captions block-val.jsonl: with the recipe's `generation`, with the same beams but without consensus,
and by beam search as is the default. The CIDEr of an image is averaged over the seeds; intervals
and differences are by bootstrap over the images, in pairs. --others are runs of another recipe,
with the `generation` of that one.

Progress goes to stderr, a table to stdout.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from measured_captions import Captions, caption_images, compare_cider, estimate_mean
from results import progress
from rich.console import Console
from rich.table import Table
from trained import TrainingOptions, run_benchmark, train_timed

import cutline
from cutline.config import GenerationConfig
from cutline.data import Sample, open_data

RECIPE = Path(__file__).parents[1] / "recipes" / "aerial.yaml"
RECIPE_SEARCH = "recipe"
WITHOUT_CONSENSUS = "recipe, without consensus"
PLAIN = "recipe, default search"
OTHERS = "other recipe"


@dataclass(frozen=True)
class Options(TrainingOptions):
    """A recipe of aerial images, with several seeds."""

    data: tyro.conf.Positional[str]
    """folder of UCM-Captions with block-train.jsonl and block-val.jsonl"""
    seeds: tuple[int, ...] = (0, 1, 2)
    """seeds of the trainings"""
    runs: tuple[str, ...] = ()
    """run directories of the recipe, instead of trainings"""
    others: tuple[str, ...] = ()
    """run directories of another recipe"""
    resamples: int = 10_000
    """resamples of the images"""

    def shorten(self) -> "Options":
        """Return the options with two seeds, and few resamples."""
        return replace(self, seeds=(0, 1), resamples=100)


def train_seeds(options: Options, folder: Path) -> list[str]:
    """Train with each seed and return the run directories."""
    recipe = cutline.read_recipe(RECIPE)
    data = replace(recipe.data, train=str(Path(options.data) / "block-train.jsonl"))
    optim = recipe.optim
    if options.short:
        data, optim = replace(data, num_workers=0), replace(optim, batch_size=2, max_steps=2)
    runs = [str(folder / f"aerial-{seed}") for seed in options.seeds]
    for run, seed in zip(runs, options.seeds, strict=True):
        train_timed(replace(recipe, data=data, optim=optim, output=run, seed=seed))
    return runs


def caption_with(
    runs: Sequence[str], samples: Sequence[Sample], generation: GenerationConfig | None = None
) -> list[Captions]:
    """Caption the images with the last checkpoints; by default as their own recipes do."""
    captions = []
    for run in runs:
        progress.print(f"captioning with {run}")
        settings = generation or cutline.read_recipe(Path(run) / "recipe.yaml").generation
        path = Path(run) / "last"
        captions.append(caption_images(path, samples, settings, settings.num_captions))
    return captions


def describe(captions: Sequence[Captions], resamples: int) -> dict[str, Any]:
    """Return means over the seeds, CIDEr with each, and its interval over the images."""
    values = [each.describe() for each in captions]
    return {
        **{name: float(np.mean([each[name] for each in values])) for name in values[0]},
        "cider_by_seed": [each["cider"] for each in values],
        **estimate_mean(np.mean([each.cider for each in captions], axis=0), resamples),
    }


def run(options: Options, folder: Path) -> dict[str, Any]:
    """Train, caption and compare."""
    runs = list(options.runs) or train_seeds(options, folder)
    samples = open_data(Path(options.data) / "block-val.jsonl")
    generation = cutline.read_recipe(RECIPE).generation
    plain = GenerationConfig(max_length=generation.max_length)
    settings = {
        RECIPE_SEARCH: generation,
        WITHOUT_CONSENSUS: replace(generation, consensus=False),
        PLAIN: plain,
    }
    captions = {name: caption_with(runs, samples, each) for name, each in settings.items()}
    if options.others:
        captions[OTHERS] = caption_with(options.others, samples)
    cider = {name: [each.cider for each in group] for name, group in captions.items()}
    first, *others = cider
    return {
        "num_images": len(samples),
        "captioners": {name: describe(c, options.resamples) for name, c in captions.items()},
        "differences": {
            name: compare_cider(cider[name], cider[first], options.resamples) for name in others
        },
    }


def show(result: dict[str, Any]) -> None:
    """Print a table of the captioners, and what the recipe gains."""
    table = Table("", "CIDEr", "95 % interval", "by seed", "BLEU-4", "the recipe gains")
    for name, values in result["captioners"].items():
        low, high = values["interval"]
        seeds = ", ".join(f"{cider:.2f}" for cider in values["cider_by_seed"])
        gained = ""
        if gain := result["differences"].get(name):
            lowest, highest = gain["interval"]
            gained = f"{gain['cider']:+.2f} [{lowest:+.2f}, {highest:+.2f}]"
        table.add_row(
            name,
            f"{values['cider']:.2f}",
            f"{low:.2f} to {high:.2f}",
            seeds,
            f"{values['bleu4']:.3f}",
            gained,
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    run_benchmark(tyro.cli(Options, description=__doc__), run, show)
