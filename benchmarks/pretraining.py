"""Measure pre-training: a joint model of drawn scenes beside a captioner and a matcher.

    python benchmarks/pretraining.py --output docs/benchmarks/pretraining.json
    python benchmarks/pretraining.py --short

`task: pretrain`, `task: caption` and `task: match` each train a model of the same sizes from random
weights, for the same number of steps on the same scenes with true captions. Then these are
measured, on scenes that are in none of the other sets:

- captions that are true in every word (the captioner's, and the joint model's),
- AUROC of telling captions with one false word from true ones, and recall@1 of both directions,
  after re-ranking (the matcher's, and the joint model's).

The table has the joint model's values as fractions of the others'. Progress goes to stderr, a table
to stdout.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from drawn import (
    caption_recipe,
    judge_captioner,
    limit_steps,
    match_recipe,
    pretrain_recipe,
)
from pair_scores import judge_scores
from results import progress
from rich.console import Console
from rich.table import Table
from trained import TrainedModel, TrainingOptions, run_benchmark, train_timed

import cutline
from cutline.config import MatchTaskConfig
from cutline.data import open_data
from cutline.demo.drawing import Scene, draw_scene
from cutline.demo.mistakes import ScenePair, make_false_word_pairs
from cutline.demo.scenes import make_scenes, write_scenes
from cutline.evaluation import evaluate_matcher

ALONE = {"caption_accuracy": "caption", "one_false_word_auroc": "match", "recall_at_1": "match"}
"""metric → the task that the joint model is compared with"""


@dataclass(frozen=True)
class Options(TrainingOptions):
    """A joint model of drawn scenes beside a captioner and a matcher, at equal steps."""

    num_train: int = 8000
    """training scenes"""
    steps: int = 2400
    """steps of each training"""
    num_test: int = 1000
    """scenes to caption, and pairs of which half have a false word"""
    num_recall: int = 500
    """scenes of the retrieval test"""
    k_test: int = 64
    """candidates that image-text matching re-ranks"""
    momentum: float = 0.0
    """decay of the momentum encoders of the joint model, such as 0.995 (0: none)"""
    queue_size: int = 0
    """size of the queues, with momentum"""
    seed: int = 0
    """seed of all scenes and of all trainings"""

    def shorten(self) -> "Options":
        """Return the options with few scenes and steps."""
        return replace(self, num_train=96, steps=2, num_test=20, num_recall=10, k_test=4)

    def match(self) -> MatchTaskConfig:
        """Return the settings of matching of the joint model."""
        return MatchTaskConfig(momentum=self.momentum, queue_size=self.queue_size)


@dataclass(frozen=True)
class TestSets:
    """What is measured; no scene is in two of the sets."""

    to_caption: list[Scene]
    false_words: list[ScenePair]
    recall: Path
    """data file of the scenes that are to be found"""

    @classmethod
    def write(cls, options: Options, folder: Path) -> "TestSets":
        """Make the sets: their seeds differ from that of the training, and with them the scenes."""
        to_find = make_scenes(options.num_recall, options.seed + 3)
        return cls(
            make_scenes(options.num_test, options.seed + 1),
            make_false_word_pairs(options.num_test, options.seed + 2),
            write_scenes(folder / "recall", to_find),
        )


def train_models(options: Options, folder: Path) -> dict[str, TrainedModel]:
    """Return a model of each task."""
    progress.print("drawing scenes")
    data = write_scenes(folder / "train", make_scenes(options.num_train, options.seed))
    seed, epochs = options.seed, 1  # the number of steps decides
    recipes = {
        "caption": caption_recipe(data, folder / "caption", seed, epochs),
        "match": match_recipe(data, folder / "match", seed, epochs),
        "pretrain": pretrain_recipe(data, folder / "pretrain", seed, epochs, options.match()),
    }
    return {
        task: train_timed(limit_steps(recipe, options.steps)) for task, recipe in recipes.items()
    }


def measure_matcher(path: Path, options: Options, sets: TestSets) -> dict[str, Any]:
    """Return the AUROC of captions with one false word, with its interval, and recall@1."""
    matcher = cutline.load_matcher(path, precision="fp32")
    pairs = sets.false_words
    images, captions = [draw_scene(p.scene) for p in pairs], [p.caption for p in pairs]
    scores = matcher.match(images, captions, batch_size=32).double().numpy()
    judged = judge_scores(scores, np.array([p.is_right for p in pairs]), range(len(pairs)))
    retrieval = evaluate_matcher(matcher, open_data(sets.recall), k_test=options.k_test)
    recalls = [way.at1 for way in vars(retrieval.reranked).values()]
    return {
        "one_false_word_auroc": judged["auroc"],
        "one_false_word_interval": judged["interval"],
        "recall_at_1": sum(recalls) / len(recalls),
        "retrieval": retrieval.to_dict(),
    }


def run(options: Options, folder: Path) -> dict[str, Any]:
    """Train, measure and compare."""
    models, sets = train_models(options, folder), TestSets.write(options, folder)
    progress.print("measuring the models")
    results: dict[str, dict[str, Any]] = {task: {} for task in models}
    for task in ("caption", "pretrain"):
        results[task]["caption_accuracy"] = judge_captioner(models[task].path, sets.to_caption)
    for task in ("match", "pretrain"):
        results[task] |= measure_matcher(models[task].path, options, sets)
    joint = results["pretrain"]
    return {
        "minutes": {task: model.minutes for task, model in models.items()},
        "results": results,
        "ratios": {
            metric: joint[metric] / results[task][metric] if results[task][metric] else None
            for metric, task in ALONE.items()
        },
    }


def show(result: dict[str, Any]) -> None:
    """Print the metrics of the joint model, those of the others, and the ratios."""
    table = Table("metric", "task: pretrain", "alone", "ratio")
    for metric, task in ALONE.items():
        joint, alone = (result["results"][each][metric] for each in ("pretrain", task))
        ratio = result["ratios"][metric]
        text = "" if ratio is None else f"{ratio:.1%}"
        table.add_row(metric, f"{joint:.4f}", f"{alone:.4f} (task: {task})", text)
    minutes = result["minutes"]
    alone = ", ".join(f"{minutes[task]:.1f} ({task})" for task in ("caption", "match"))
    table.add_row("minutes", f"{minutes['pretrain']:.1f}", alone, "")
    Console(width=100).print(table)


if __name__ == "__main__":
    run_benchmark(tyro.cli(Options, description=__doc__), run, show)
