"""Measure whether CapFilt helps: a captioner trained on noisy captions, and one on cleaned ones.

    python benchmarks/capfilt.py --output docs/benchmarks/capfilt.json
    python benchmarks/capfilt.py --short

Of 8,000 drawn scenes, 30 % have the caption of another scene and 20 % have one false word. The
captioner and the matcher of the loop are trained on all captions and then, as in the paper, on
1,000 clean scenes alone; `--no-pretrain` leaves the first out. `cutline capfilt` then drops
captions and adds synthetic ones. Two captioners of the same seed are trained for the same number of
steps on the clean scenes and, arm A, the noisy captions or, arm B, the cleaned ones. The captions
of 1,000 other scenes are judged by whether every word is true. Progress goes to stderr, a table to
stdout.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro
from drawn import caption_recipe, judge_captioner, limit_steps, match_recipe, write_true_scenes
from results import progress
from rich.console import Console
from rich.table import Table
from trained import TrainingOptions, run_benchmark, train_timed

from cutline.cli.main import run_command
from cutline.config import InitConfig, ModelSettings, Recipe
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
    pretrain: bool = True
    """train the models of the loop on all captions before the clean scenes"""
    caption_pretrain_steps: int = 1200
    """steps of the loop's captioner on all captions; its matcher starts from there"""
    match_pretrain_steps: int = 600
    """steps of the loop's matcher on all captions"""
    caption_steps: int = 400
    """steps of the loop's captioner on the clean scenes"""
    match_steps: int = 200
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
        one = replace(few, caption_pretrain_steps=1, match_pretrain_steps=1, match_batch_size=8)
        return replace(one, caption_steps=1, match_steps=1, steps=2)


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
        write_true_scenes(folder / "clean", clean),
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

    def clean(self) -> Path:
        """Return the cleaned data."""
        captioner, matcher = self._train()
        output = self.folder / "cleaned.jsonl"
        flags = {
            "captioner": captioner,
            "matcher": matcher,
            "output": output,
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
        return output

    def _train(self) -> tuple[Path, Path]:
        options, clean = self.options, self.scenes.clean_data
        captioner = matcher = None
        if options.pretrain:
            data = join_data(self.folder / "all.jsonl", [self.scenes.noisy_data, clean])
            captioner = self._caption(data, "captioner-0", options.caption_pretrain_steps)
            start = InitConfig(captioner=str(captioner))
            matcher = self._match(data, "matcher-0", options.match_pretrain_steps, start)
        start = InitConfig(captioner=str(captioner)) if captioner else None
        captioner = self._caption(clean, "captioner", options.caption_steps, start)
        start = InitConfig(matcher=str(matcher)) if matcher else None
        return captioner, self._match(clean, "matcher", options.match_steps, start)

    def _caption(self, data: Path, name: str, steps: int, start: InitConfig | None = None) -> Path:
        recipe = caption_recipe(data, self.folder / name, self.options.seed, 1)
        return train_steps(recipe, steps, start)

    def _match(self, data: Path, name: str, steps: int, start: InitConfig | None) -> Path:
        recipe = match_recipe(data, self.folder / name, self.options.seed, 1)
        optim = replace(recipe.optim, batch_size=self.options.match_batch_size)
        return train_steps(replace(recipe, optim=optim), steps, start)


def train_steps(recipe: Recipe, steps: int, start: InitConfig | None = None) -> Path:
    """Return the model after so many steps, from random weights or those of another model."""
    if start:
        recipe = replace(recipe, model=ModelSettings(), init=start)
    return train_timed(limit_steps(recipe, steps)).path


def describe_cleaning(cleaned: Path, scenes: Sequence[Scene]) -> dict[str, Any]:
    """Return how many texts of each origin were kept, and how many of them are true."""
    kept: Counter[str] = Counter()
    true: Counter[str] = Counter()
    for line in cleaned.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        scene = scenes[int(Path(row["image"]).stem.rpartition("-")[2])]
        kept[row["origin"]] += 1
        true[row["origin"]] += is_correct(row["caption"], scene)
    return {origin: {"kept": count, "true": true[origin] / count} for origin, count in kept.items()}


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
    cleaned = Loop(options, folder, scenes).clean()
    arms = {
        "noisy": join_data(folder / "a.jsonl", [scenes.noisy_data, scenes.clean_data]),
        "cleaned": join_data(folder / "b.jsonl", [cleaned, scenes.clean_data]),
    }
    return {
        "cleaned": describe_cleaning(cleaned, scenes.noisy),
        **compare_arms(options, folder, arms, scenes.test),
    }


def show(result: dict[str, Any]) -> None:
    """Print what was kept, and the accuracy of both arms for each seed."""
    console = Console(width=100)
    for origin, values in result["cleaned"].items():
        console.print(f"{origin}: {values['kept']:,} captions kept, {values['true']:.1%} are true")
    table = Table("seed", *result["accuracy"], "difference")
    for row, seed in enumerate(result["options"]["seeds"]):
        arms = [f"{values[row]:.1%}" for values in result["accuracy"].values()]
        table.add_row(str(seed), *arms, f"{result['differences'][row]:+.1%}")
    console.print(table)


if __name__ == "__main__":
    run_benchmark(tyro.cli(Options, description=__doc__), run, show)
