"""Measure what self-critical sequence training gains over more training with cross-entropy.

    python benchmarks/scst.py ucm-captions --captioners runs/aerial-{0,1,2}/last --minutes 4.5 \
        --output docs/benchmarks/scst.json --report scst.html
    python benchmarks/scst.py ucm-captions --short

Both start from the same captioner, one for each seed, and train on block-train.jsonl for the same
minutes: one with recipes/aerial-scst.yaml, the control with recipes/aerial.yaml, at half of its
learning rates and with a warm-up of 10 steps, as SCST. The control takes more steps in that time: a
pilot run of each measures how many, and later runs use the speed of the last one. The order changes
from seed to seed. The minutes of the result are those of the steps, without evaluation.

The last checkpoints caption block-val.jsonl: by beam search, as the recipe does, and by consensus,
as recipes/aerial.yaml does. The scores of an image are averaged over the seeds, and images are
resampled in pairs for the interval of the difference. A fragment is a caption without an end token,
or one whose last word is one of `FRAGMENT_ENDS`.

`--report` names an HTML page with the best captions of both, by beam search, for each image.
Progress goes to stderr, tables to stdout.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from measured_captions import Captions, caption_images, compare_cider, write_gallery
from results import progress
from rich.console import Console
from rich.table import Table
from trained import TrainingOptions, finetune, run_benchmark, train_timed

import cutline
from cutline.config import EvalConfig, GenerationConfig, InitConfig, Recipe
from cutline.data import Sample, open_data
from cutline.training import read_log

FOLDER = Path(__file__).parents[1] / "recipes"
RECIPES = {
    "scst": cutline.read_recipe(FOLDER / "aerial-scst.yaml"),
    "control": cutline.read_recipe(FOLDER / "aerial.yaml"),
}
SEARCHES = {
    "beam search": RECIPES["scst"].generation,
    "consensus": RECIPES["control"].generation,
}
START = "start"
NEVER = EvalConfig(every_epochs=1_000_000, before_training=False, max_images=8)
"""only the last checkpoint is measured"""


@dataclass(frozen=True)
class Options(TrainingOptions):
    """Self-critical sequence training against more training with cross-entropy."""

    data: tyro.conf.Positional[str]
    """folder of UCM-Captions with block-train.jsonl and block-val.jsonl"""
    captioners: tuple[str, ...] = ("runs/aerial/last",) * 3
    """captioners that both start from, one for each seed"""
    seeds: tuple[int, ...] = (0, 1, 2)
    """seeds of the trainings"""
    minutes: float = 10.0
    """minutes of each training"""
    pilot_steps: int = 10
    """steps of the pilot runs"""
    control_lr: float = 0.5
    """learning rates of the control, relative to recipes/aerial.yaml"""
    num_captions: int = 3
    """captions of each image on the page, best first"""
    resamples: int = 10_000
    """resamples of the images"""
    report: str = ""
    """write a page with the captions of the first seed to this HTML file"""

    def shorten(self) -> "Options":
        """Return the options with two seeds, a few steps each, and few resamples."""
        few = replace(self, seeds=self.seeds[:2], captioners=self.captioners[:2])
        return replace(few, minutes=0.01, pilot_steps=1, resamples=100)


def make_recipe(options: Options, arm: str, captioner: str) -> Recipe:
    """Return the recipe of SCST or of the control, without steps and output."""
    recipe, init = RECIPES[arm], InitConfig(captioner=captioner)
    data = replace(recipe.data, train=str(Path(options.data) / "block-train.jsonl"), num_workers=0)
    optim = replace(recipe.optim, warmup_steps=0 if options.short else 10)
    if arm == "control":
        recipe = finetune(recipe, init)
        lr, muon_lr = (options.control_lr * rate for rate in (optim.lr, optim.muon_lr))
        optim = replace(optim, lr=lr, muon_lr=muon_lr)
    if options.short:
        optim = replace(optim, batch_size=2)
    return replace(recipe, data=data, optim=optim, init=init, eval=NEVER, log_every=1)


@dataclass(frozen=True)
class Training:
    """A finished training."""

    checkpoint: Path
    """the last checkpoint"""
    steps: int
    minutes: float
    """minutes of the steps"""

    @property
    def steps_per_minute(self) -> float:
        """Return the speed."""
        return self.steps / self.minutes


def train_steps(recipe: Recipe, output: Path, seed: int, steps: int) -> Training:
    """Train for `steps` optimizer steps."""
    optim = replace(recipe.optim, max_steps=steps)
    train_timed(replace(recipe, output=str(output), seed=seed, optim=optim))
    images = recipe.optim.batch_size * recipe.optim.grad_accum_steps
    speeds = [
        line["pictures_per_second"] for line in read_log(output / "log.jsonl") if "lr" in line
    ]
    return Training(output / "last", steps, sum(images / speed for speed in speeds) / 60)


def train_arms(options: Options, folder: Path) -> dict[str, list[Training]]:
    """Train both with each seed, in changing order, for equally many minutes."""
    last = {
        arm: train_steps(
            make_recipe(options, arm, options.captioners[0]),
            folder / f"{arm}-pilot",
            options.seeds[0],
            options.pilot_steps,
        )
        for arm in RECIPES
    }
    trainings: dict[str, list[Training]] = {arm: [] for arm in RECIPES}
    for number, (seed, captioner) in enumerate(zip(options.seeds, options.captioners, strict=True)):
        for arm in RECIPES if number % 2 == 0 else reversed(RECIPES):
            steps = max(1, round(options.minutes * last[arm].steps_per_minute))
            recipe = make_recipe(options, arm, captioner)
            last[arm] = train_steps(recipe, folder / f"{arm}-{seed}", seed, steps)
            trainings[arm].append(last[arm])
    return trainings


def run(options: Options, folder: Path) -> dict[str, Any]:
    """Train, caption and compare."""
    trainings = train_arms(options, folder)
    paths = {arm: [str(each.checkpoint) for each in trainings[arm]] for arm in RECIPES}
    groups = {START: list(options.captioners), **paths}
    samples = open_data(Path(options.data) / "block-val.jsonl")
    captions = {
        search: {
            name: caption_with(options, group, samples, generation)
            for name, group in groups.items()
        }
        for search, generation in SEARCHES.items()
    }
    if options.report:
        firsts = {arm: next(iter(captions.values()))[arm][0] for arm in RECIPES}
        write_gallery(options.report, samples, firsts, options.data)
    costs = {
        arm: {
            "minutes": [training.minutes for training in trainings[arm]],
            "steps": [training.steps for training in trainings[arm]],
        }
        for arm in RECIPES
    }
    searches = {name: compare(options, groups) for name, groups in captions.items()}
    return {"trainings": costs, "searches": searches}


def caption_with(
    options: Options, paths: list[str], samples: list[Sample], generation: GenerationConfig
) -> list[Captions]:
    """Caption the images with each captioner."""
    captions = []
    for path in paths:
        progress.print(f"captioning with {path}")
        captions.append(caption_images(Path(path), samples, generation, options.num_captions))
    return captions


def compare(options: Options, captions: dict[str, list[Captions]]) -> dict[str, Any]:
    """Return means over the seeds, and how much higher the CIDEr of SCST is."""
    cider = {name: [each.cider for each in group] for name, group in captions.items()}
    return {
        **{name: average([c.describe() for c in group]) for name, group in captions.items()},
        "differences": {
            name: compare_cider(cider[name], cider["scst"], options.resamples)
            for name in ("control", START)
        },
    }


def average(results: list[dict[str, float]]) -> dict[str, Any]:
    """Return the mean of each value over the seeds, and CIDEr with each seed."""
    means = {name: float(np.mean([each[name] for each in results])) for name in results[0]}
    return {**means, "cider_by_seed": [each["cider"] for each in results]}


def show(result: dict[str, Any]) -> None:
    """Print a table of all captioners for each search, and the differences."""
    names = ("cider", "bleu4", "fragments", "unfinished", "distinct1", "distinct2", "mean_length")
    console = Console(width=120)
    for arm, costs in result["trainings"].items():
        minutes, steps = (np.mean(costs[name]) for name in ("minutes", "steps"))
        console.print(f"{arm}: {steps:.0f} steps in {minutes:.1f} minutes")
    for search, values in result["searches"].items():
        table = Table("", *names, title=search)
        for name in (START, *RECIPES):
            table.add_row(name, *(f"{values[name][measure]:.3g}" for measure in names))
        console.print(table)
        for name, difference in values["differences"].items():
            low, high = difference["interval"]
            gain = f"{difference['cider']:+.3f} CIDEr [{low:+.3f}, {high:+.3f}]"
            console.print(f"SCST minus {name}: {gain}")


if __name__ == "__main__":
    run_benchmark(tyro.cli(Options, description=__doc__), run, show)
