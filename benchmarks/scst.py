"""Measure what self-critical sequence training gains over more training with cross-entropy.

    python benchmarks/scst.py ucm-captions --captioner runs/aerial/last --minutes 10 \
        --output docs/benchmarks/scst.json --report scst.html
    python benchmarks/scst.py ucm-captions --captioner runs/aerial/last --short

Both start from the same captioner and train on block-train.jsonl for the same minutes: one with
recipes/aerial-scst.yaml, the control with the same recipe and `task: caption`, with the dropout and
label smoothing of the captioner. The control takes more steps in that time: a pilot run of each
measures how many, and later runs use the speed of the last one. The order changes from seed to
seed. The minutes of the result are those of the steps, without evaluation.

The last checkpoints caption block-val.jsonl, with the recipe's `generation`. The scores of an image
are averaged over the seeds, and images are resampled in pairs for the interval of the difference. A
fragment is a caption without an end token, or one whose last word is one of `FRAGMENT_ENDS`.

`--report` names an HTML page with the best captions of both for each image. Progress goes to
stderr, a table to stdout.
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
from trained import TrainingOptions, run_benchmark, train_timed

import cutline
from cutline.config import EvalConfig, InitConfig, ModelSettings, Recipe, ScstConfig
from cutline.data import Sample, open_data
from cutline.training import read_log

RECIPE = Path(__file__).parents[1] / "recipes" / "aerial-scst.yaml"
ARMS = ("scst", "control")
START = "start"
NEVER = EvalConfig(every_epochs=1_000_000, before_training=False, max_images=8)
"""only the last checkpoint is measured"""


@dataclass(frozen=True)
class Options(TrainingOptions):
    """Self-critical sequence training against more training with cross-entropy."""

    data: tyro.conf.Positional[str]
    """folder of UCM-Captions with block-train.jsonl and block-val.jsonl"""
    captioner: str = "runs/aerial/last"
    """captioner that both start from"""
    seeds: tuple[int, ...] = (0, 1, 2)
    """seeds of the trainings"""
    minutes: float = 10.0
    """minutes of each training"""
    pilot_steps: int = 10
    """steps of the pilot runs"""
    lr: float = 0.0
    """learning rate of SCST (default: that of the recipe)"""
    control_lr: float = 0.0
    """learning rate of the control (default: that of the recipe)"""
    num_captions: int = 3
    """captions of each image on the page, best first"""
    resamples: int = 10_000
    """resamples of the images"""
    report: str = ""
    """write a page with the captions of the first seed to this HTML file"""

    def shorten(self) -> "Options":
        """Return the options with two seeds, a few steps each, and few resamples."""
        return replace(self, seeds=(0, 1), minutes=0.01, pilot_steps=1, resamples=100)


def make_recipe(options: Options, arm: str) -> Recipe:
    """Return the recipe of SCST or of the control, without steps and output."""
    recipe = cutline.read_recipe(RECIPE)
    data = replace(recipe.data, train=str(Path(options.data) / "block-train.jsonl"), num_workers=0)
    lr = (options.lr if arm == "scst" else options.control_lr) or recipe.optim.lr
    optim = replace(recipe.optim, lr=lr)
    if options.short:
        optim = replace(optim, batch_size=2, warmup_steps=0)
    init = InitConfig(captioner=options.captioner)
    recipe = replace(recipe, data=data, optim=optim, init=init, eval=NEVER, log_every=1)
    if arm == "control":
        recipe = replace(recipe, task="caption", scst=ScstConfig(), model=ModelSettings())
    return recipe


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
    recipes = {arm: make_recipe(options, arm) for arm in ARMS}
    last = {
        arm: train_steps(recipe, folder / f"{arm}-pilot", options.seeds[0], options.pilot_steps)
        for arm, recipe in recipes.items()
    }
    trainings: dict[str, list[Training]] = {arm: [] for arm in ARMS}
    for number, seed in enumerate(options.seeds):
        for arm in ARMS if number % 2 == 0 else reversed(ARMS):
            steps = max(1, round(options.minutes * last[arm].steps_per_minute))
            last[arm] = train_steps(recipes[arm], folder / f"{arm}-{seed}", seed, steps)
            trainings[arm].append(last[arm])
    return trainings


def run(options: Options, folder: Path) -> dict[str, Any]:
    """Train, caption and compare."""
    trainings = train_arms(options, folder)
    samples = open_data(Path(options.data) / "block-val.jsonl")
    captions = {arm: caption_all(options, trainings[arm], samples) for arm in ARMS}
    start = caption_with(options, Path(options.captioner), samples)
    if options.report:
        firsts = {arm: captions[arm][0] for arm in ARMS}
        write_gallery(options.report, samples, firsts, options.data)
    arms = {
        arm: {
            "minutes": [training.minutes for training in trainings[arm]],
            "steps": [training.steps for training in trainings[arm]],
            **average([each.describe() for each in captions[arm]]),
        }
        for arm in ARMS
    }
    cider = {arm: [each.cider for each in captions[arm]] for arm in ARMS}
    return {
        START: start.describe(),
        **arms,
        "difference": compare_cider(cider["control"], cider["scst"], options.resamples),
    }


def caption_all(
    options: Options, trainings: list[Training], samples: list[Sample]
) -> list[Captions]:
    """Caption the images with each last checkpoint."""
    return [caption_with(options, each.checkpoint, samples) for each in trainings]


def caption_with(options: Options, path: Path, samples: list[Sample]) -> Captions:
    """Caption the images with one captioner."""
    progress.print(f"captioning with {path}")
    generation = cutline.read_recipe(RECIPE).generation
    return caption_images(path, samples, generation, options.num_captions)


def average(results: list[dict[str, float]]) -> dict[str, Any]:
    """Return the mean of each value over the seeds, and CIDEr with each seed."""
    means = {name: float(np.mean([each[name] for each in results])) for name in results[0]}
    return {**means, "cider_by_seed": [each["cider"] for each in results]}


def show(result: dict[str, Any]) -> None:
    """Print a table of all captioners, and the difference."""
    names = ("cider", "bleu4", "fragments", "unfinished", "distinct1", "distinct2", "mean_length")
    table = Table("", "minutes", "steps", *names)
    for arm in (START, *ARMS):
        values = result[arm]
        costs = [np.mean(values[name]) if name in values else 0 for name in ("minutes", "steps")]
        table.add_row(arm, *(f"{x:.3g}" for x in (*costs, *(values[name] for name in names))))
    console = Console(width=120)
    console.print(table)
    low, high = result["difference"]["interval"]
    value = result["difference"]["cider"]
    console.print(f"SCST minus control: {value:+.3f} CIDEr [{low:+.3f}, {high:+.3f}]")


if __name__ == "__main__":
    run_benchmark(tyro.cli(Options, description=__doc__), run, show)
