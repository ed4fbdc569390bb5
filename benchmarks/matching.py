"""Measure whether a matcher of drawn scenes finds wrong captions, beside a captioner.

    python benchmarks/matching.py --output docs/benchmarks/matching.json
    python benchmarks/matching.py --short

A matcher is trained by `task: match` on true captions alone. Then it scores three sets of 1,000
pairs: of the first, 30 % have the caption of another scene; of the second, half have one false
word, a color, shape, relation ("above" for "to the left of", or the other way round) or number; of
the third, half say the relation of two objects the wrong way round. A captioner's log-likelihood of
the same captions stands beside it. No scene is in two of the sets. Progress goes to stderr, a table
to stdout.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from drawn import caption_recipe, match_recipe
from pair_scores import format_value, judge_matcher, judge_scores, score_pairs
from results import progress
from rich.console import Console
from rich.table import Table
from trained import (
    TrainedModel,
    TrainingOptions,
    run_benchmark,
    train_after,
    train_timed,
)

import cutline
from cutline.demo.drawing import draw_scene
from cutline.demo.mistakes import (
    FALSE_WORDS,
    Mistake,
    ScenePair,
    make_false_word_pairs,
    make_shuffled_pairs,
)
from cutline.demo.scenes import make_scenes, write_scenes
from cutline.metrics.stats import Bools, Floats


@dataclass(frozen=True)
class Options(TrainingOptions):
    """Wrong captions of drawn scenes: what a matcher finds, and what a captioner does."""

    num_train: int = 24000
    """training scenes"""
    match_epochs: int = 8
    """epochs of the matcher"""
    batch_size: int = 256
    """pairs in a step of the matcher: negatives come from the batch"""
    lr: float = 1e-3
    """learning rate of the matcher"""
    caption_epochs: int = 3
    """epochs of the captioner"""
    init: bool = True
    """start the matcher from the captioner; its training then counts towards the time"""
    num_pairs: int = 1000
    """pairs in each set"""
    seed: int = 0
    """seed of all scenes and of both trainings"""

    def shorten(self) -> "Options":
        """Return the options with few scenes, and one epoch."""
        return replace(
            self, num_train=96, num_pairs=40, match_epochs=1, batch_size=48, caption_epochs=1
        )


def train_models(options: Options, folder: Path) -> tuple[TrainedModel, TrainedModel]:
    """Return the matcher and the captioner."""
    progress.print("drawing scenes")
    data = write_scenes(folder / "train", make_scenes(options.num_train, options.seed))
    captioner = train_timed(
        caption_recipe(data, folder / "captioner", options.seed, options.caption_epochs)
    )
    recipe = match_recipe(data, folder / "matcher", options.seed, options.match_epochs)
    optim = replace(recipe.optim, batch_size=options.batch_size, lr=options.lr)
    recipe = replace(recipe, optim=optim)
    matcher = train_after(recipe, captioner) if options.init else train_timed(recipe)
    return matcher, captioner


class Judge:
    """Scores pairs by both models."""

    def __init__(self, matcher: Path, captioner: Path) -> None:
        self.matcher = cutline.load_matcher(matcher, precision="fp32")
        self.captioner = cutline.load(captioner, precision="fp32")

    def score(self, pairs: Sequence[ScenePair]) -> dict[str, Floats]:
        """Return the scores of each pair, by name."""
        images = [draw_scene(pair.scene) for pair in pairs]
        captions = [pair.caption for pair in pairs]
        sums, num_tokens = score_pairs(self.captioner, images, captions)
        return {
            "matcher": self.matcher.match(images, captions, batch_size=32).double().numpy(),
            "matcher, cosine": self.matcher.similarity(images, captions).double().numpy(),
            "captioner": sums,
            "captioner, per token": sums / num_tokens,
        }

    def judge(self, pairs: Sequence[ScenePair]) -> dict[str, Any]:
        """Return how well each score tells right from wrong pairs."""
        is_right = np.array([pair.is_right for pair in pairs])
        scores = self.score(pairs)
        result = judge_matcher(scores, is_right, range(len(pairs)))
        for mistake in FALSE_WORDS:
            rows = find_pairs(pairs, mistake)
            if rows.any():
                for name, values in scores.items():
                    judged = judge_scores(values[rows], is_right[rows], range(rows.sum()))
                    result[name][f"auroc_{mistake}"] = judged["auroc"]
        return result


def find_pairs(pairs: Sequence[ScenePair], mistake: Mistake) -> Bools:
    """Return which pairs have this false word, or could have it.

    These are the true pairs before each of those, as `make_false_word_pairs` yields them: other
    captions have other lengths, which a likelihood depends on.
    """
    following = (*pairs[1:], pairs[-1])
    return np.array(
        [
            mistake == (other.mistake if pair.is_right else pair.mistake)
            for pair, other in zip(pairs, following, strict=True)
        ]
    )


def run(options: Options, folder: Path) -> dict[str, Any]:
    """Train, score and judge."""
    matcher, captioner = train_models(options, folder)
    judge = Judge(matcher.path, captioner.path)
    count, seed = options.num_pairs, options.seed
    # The seeds of all sets differ, and with them the scenes.
    sets = {
        "shuffled": make_shuffled_pairs(count, seed + 1),
        "one_false_word": make_false_word_pairs(count, seed + 2),
        "exchanged_objects": make_false_word_pairs(count, seed + 3, ["order"]),
    }
    progress.print("scoring the pairs")
    scenes = [make_scenes(options.num_train, seed)]
    scenes += [[pair.scene for pair in pairs] for pairs in sets.values()]
    return {
        "minutes": {"matcher": matcher.minutes, "captioner": captioner.minutes},
        "sets": {name: judge.judge(pairs) for name, pairs in sets.items()},
        "scenes": sum(map(len, scenes)),
        "distinct_scenes": len(set().union(*scenes)),
    }


def show(result: dict[str, Any]) -> None:
    """Print a table of all sets."""
    table = Table("pairs", "score", "AUROC", "found", "precision", "found at 95 % precision")
    for name, scores in result["sets"].items():
        for score, values in scores.items():
            area = format_value(values["auroc"], values["interval"])
            keys = ("recall", "precision", "found_at_precision_0.95")
            found = [f"{values[key]:.3f}" if key in values else "" for key in keys]
            table.add_row(name, score, area, *found)
    Console(width=120).print(table)


if __name__ == "__main__":
    run_benchmark(tyro.cli(Options, description=__doc__), run, show)
