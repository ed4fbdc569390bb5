"""Measure whether CapFilt helps: a captioner trained on noisy captions, and one on cleaned ones.

    python benchmarks/capfilt.py --output docs/benchmarks/capfilt.json
    python benchmarks/capfilt.py --short

Of 8,000 drawn scenes, 30 % have the caption of another scene and 20 % have one false word. The
captioner and the matcher of the loop are trained on all captions and then, as in the paper, on
1,000 clean scenes alone. `cutline capfilt` then drops captions and adds synthetic ones. Two
captioners of the same seed are trained for the same number of steps on the clean scenes and, arm A,
the noisy captions or, arm B, the cleaned ones. The captions of 1,000 other scenes are judged by
whether every word is true. Progress goes to stderr, a table to stdout.
"""

import json
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro
from drawn import caption_recipe, judge_captioner, limit_steps, match_recipe
from results import progress
from rich.console import Console
from rich.table import Table
from trained import TrainingOptions, finetune, run_benchmark, train_timed

from cutline.cli.main import run_command
from cutline.config import InitConfig, Recipe
from cutline.data import open_data
from cutline.demo.drawing import Scene
from cutline.demo.grammar import is_correct
from cutline.demo.mistakes import make_noisy_pairs
from cutline.demo.scenes import make_scenes, write_scenes
from cutline.files import write_text


@dataclass(frozen=True)
class Options(TrainingOptions):
    """Captioners of drawn scenes, trained on noisy and on cleaned captions."""

    num_noisy: int = 8000
    """scenes with noisy captions"""
    num_clean: int = 1000
    """scenes with true captions"""
    num_test: int = 1000
    """scenes to judge"""
    shuffled: float = 0.3
    """fraction of the noisy captions that are those of other scenes"""
    false_word: float = 0.2
    """fraction of the noisy captions that have one false word"""
    caption_steps_on_all: int = 1200
    """steps of the loop's captioner on all captions; its matcher starts from there"""
    match_steps_on_all: int = 600
    """steps of the loop's matcher on all captions"""
    caption_steps_on_clean: int = 400
    """steps of the loop's captioner on the clean scenes"""
    match_steps_on_clean: int = 200
    """steps of the loop's matcher on the clean scenes"""
    match_batch_size: int = 128
    """pairs in a step of the loop's matcher"""
    steps: int = 1300
    """steps of each captioner that is compared"""
    threshold: float = 0.5
    """probability of a text that is kept"""
    num_captions: int = 1
    """synthetic captions of each scene"""
    seeds: tuple[int, ...] = (0, 1, 2)
    """seeds of the captioners that are compared"""
    seed: int = 0
    """seed of the scenes, and of the models of the loop"""

    def shorten(self) -> "Options":
        """Return the options with few scenes and steps, and one seed."""
        few = replace(self, num_noisy=60, num_clean=50, num_test=8, seeds=(0,), threshold=0.0)
        one = replace(few, caption_steps_on_all=1, match_steps_on_all=1, match_batch_size=8)
        return replace(one, caption_steps_on_clean=1, match_steps_on_clean=1, steps=2)


@dataclass(frozen=True)
class Scenes:
    """The scenes, and where those to train on are written."""

    noisy: list[Scene]
    test: list[Scene]
    noisy_data: Path
    clean_data: Path


def write_data(options: Options, folder: Path) -> Scenes:
    """Draw all scenes; those of the three sets differ, as their seeds do."""
    noisy = make_scenes(options.num_noisy, options.seed)
    clean = make_scenes(options.num_clean, options.seed + 1)
    pairs = make_noisy_pairs(noisy, options.seed, options.shuffled, options.false_word)
    captions = {pair.scene: [pair.caption] for pair in pairs}
    return Scenes(
        noisy,
        make_scenes(options.num_test, options.seed + 2),
        write_scenes(folder / "noisy", noisy, captions_of=captions.__getitem__),
        write_scenes(folder / "clean", clean),
    )


def join_data(path: Path, parts: Iterable[Path]) -> Path:
    """Write one data file of several."""
    rows = [
        {"file_name": str(Path(str(sample.image)).absolute()), "captions": sample.captions}
        for part in parts
        for sample in open_data(part)
    ]
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
    return path


class Loop:
    """Trains the captioner and the matcher of the loop, and cleans captions by them."""

    def __init__(self, options: Options, folder: Path, scenes: Scenes) -> None:
        self.options, self.folder, self.scenes = options, folder, scenes
        self.cleaned = folder / "cleaned.jsonl"
        self.dropped = folder / "dropped.jsonl"

    def clean(self) -> None:
        """Write the cleaned data, and the dropped texts."""
        captioner, matcher = self._train()
        flags = {
            "captioner": captioner,
            "matcher": matcher,
            "output": self.cleaned,
            "dropped": self.dropped,
            "precision": "fp32",
            "threshold": self.options.threshold,
            "batch-size": 32,
            "num-captions": self.options.num_captions,
            "max-length": 24,
            "min-length": 1,
            "seed": self.options.seed,
        }
        arguments = [f"--{name}={value}" for name, value in flags.items()]
        code = run_command(["capfilt", str(self.scenes.noisy_data), *arguments])
        if code:
            raise SystemExit(f"cutline capfilt ended with exit code {code}")

    def _train(self) -> tuple[Path, Path]:
        options, clean = self.options, self.scenes.clean_data
        data = join_data(self.folder / "all.jsonl", [self.scenes.noisy_data, clean])
        recipe = self._caption_recipe(data, "captioner-0")
        captioner = train_steps(recipe, options.caption_steps_on_all)
        start = InitConfig(captioner=str(captioner))
        recipe = finetune(self._match_recipe(data, "matcher-0"), start)
        matcher = train_steps(recipe, options.match_steps_on_all)
        recipe = finetune(self._caption_recipe(clean, "captioner"), start)
        captioner = train_steps(recipe, options.caption_steps_on_clean)
        start = InitConfig(matcher=str(matcher))
        recipe = finetune(self._match_recipe(clean, "matcher"), start)
        return captioner, train_steps(recipe, options.match_steps_on_clean)

    def _caption_recipe(self, data: Path, name: str) -> Recipe:
        return caption_recipe(data, self.folder / name, self.options.seed, 1)

    def _match_recipe(self, data: Path, name: str) -> Recipe:
        recipe = match_recipe(data, self.folder / name, self.options.seed, 1)
        optim = replace(recipe.optim, batch_size=self.options.match_batch_size)
        return replace(recipe, optim=optim)


def train_steps(recipe: Recipe, steps: int) -> Path:
    """Return the model after so many steps."""
    return train_timed(limit_steps(recipe, steps)).path


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a JSON Lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def describe_cleaning(
    kept: Sequence[dict[str, Any]], dropped: Sequence[dict[str, Any]], scenes: Sequence[Scene]
) -> dict[str, Any]:
    """Return how many texts of each origin were scored and kept, and how many of those are true."""
    num_scored = Counter(row["origin"] for row in (*kept, *dropped))
    is_true: dict[str, list[bool]] = {origin: [] for origin in num_scored}
    for row in kept:
        scene = scenes[int(Path(row["image"]).stem.rpartition("-")[2])]
        is_true[row["origin"]].append(is_correct(row["caption"], scene))
    return {
        origin: {
            "scored": num_scored[origin],
            "kept": len(values),
            "true": statistics.mean(values) if values else None,
        }
        for origin, values in is_true.items()
    }


def compare_arms(
    options: Options, folder: Path, arms: dict[str, Path], test: Sequence[Scene]
) -> Any:
    """Return the accuracy of each arm for each seed, and the differences."""
    accuracy: dict[str, list[float]] = {name: [] for name in arms}
    for seed in options.seeds:
        for name, data in arms.items():
            recipe = caption_recipe(data, folder / f"{name}-{seed}", seed, 1)
            path = train_steps(recipe, options.steps)
            accuracy[name].append(judge_captioner(path, test))
            progress.print(f"{name}, seed {seed}: {accuracy[name][-1]:.1%} correct")
    differences = [b - a for a, b in zip(*accuracy.values(), strict=True)]
    return {"accuracy": accuracy, "differences": differences}


def run(options: Options, folder: Path) -> dict[str, Any]:
    """Train, clean and compare."""
    scenes = write_data(options, folder)
    loop = Loop(options, folder, scenes)
    start = time.perf_counter()
    loop.clean()
    minutes = (time.perf_counter() - start) / 60
    arms = {
        "noisy": join_data(folder / "a.jsonl", [scenes.noisy_data, scenes.clean_data]),
        "cleaned": join_data(folder / "b.jsonl", [loop.cleaned, scenes.clean_data]),
    }
    return {
        "minutes": {"loop": minutes},
        "cleaned": describe_cleaning(
            read_rows(loop.cleaned), read_rows(loop.dropped), scenes.noisy
        ),
        **compare_arms(options, folder, arms, scenes.test),
    }


def show(result: dict[str, Any]) -> None:
    """Print what was kept, and the accuracy of both arms for each seed."""
    console = Console(width=100)
    for origin, values in result["cleaned"].items():
        true = "" if values["true"] is None else f", {values['true']:.1%} of these are true"
        console.print(f"{origin}: {values['kept']:,} of {values['scored']:,} texts kept{true}")
    table = Table("seed", *result["accuracy"], "difference")
    for row, seed in enumerate(result["options"]["seeds"]):
        arms = [f"{values[row]:.1%}" for values in result["accuracy"].values()]
        table.add_row(str(seed), *arms, f"{result['differences'][row]:+.1%}")
    console.print(table)


if __name__ == "__main__":
    run_benchmark(tyro.cli(Options, description=__doc__), run, show)
