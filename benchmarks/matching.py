"""Measure whether a matcher of drawn scenes finds wrong captions, beside a captioner.

    python benchmarks/matching.py --output docs/benchmarks/matching.json
    python benchmarks/matching.py --short

A matcher is trained by `task: match` on true captions alone. Then it is asked about 1,000 pairs of
which 30 % have the caption of another scene, and 1,000 pairs of which half have one false word: a
color, shape, relation or number. A captioner's log-likelihood of the same captions stands beside
it. No scene is in two of the three sets. Progress goes to stderr, a table to stdout.
"""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from drawn import TrainedModel, caption_recipe, match_recipe, train_timed, write_true_scenes
from machine import describe_machine
from pair_scores import Bools, Floats, judge_scores, judge_threshold, score_pairs
from rich.console import Console
from rich.table import Table

import cutline
from cutline.demo.drawing import draw_scene
from cutline.demo.mistakes import (
    FALSE_WORDS,
    Mistake,
    ScenePair,
    make_false_word_pairs,
    make_shuffled_pairs,
)
from cutline.demo.scenes import make_scenes
from cutline.files import write_text

progress = Console(stderr=True, highlight=False, markup=False)


@dataclass(frozen=True)
class Options:
    """Wrong captions of drawn scenes: what a matcher finds, and what a captioner does."""

    output: str = ""
    """write the result to this JSON file"""
    folder: str = ""
    """keep data and models in this folder (default: a temporary one)"""
    num_train: int = 8000
    """training scenes"""
    match_epochs: int = 20
    """epochs of the matcher"""
    caption_epochs: int = 7
    """epochs of the captioner"""
    init: bool = False
    """start the matcher from the captioner; its training then counts towards the time"""
    num_pairs: int = 1000
    """pairs in each of the two sets"""
    seed: int = 0
    """seed of all scenes and of both trainings"""
    short: bool = False
    """few scenes and one epoch: only to test this script"""

    def resolve(self) -> "Options":
        """Return the options with the numbers of a short run."""
        if not self.short:
            return self
        values = {**asdict(self), "num_train": 96, "num_pairs": 40}
        return Options(**{**values, "match_epochs": 1, "caption_epochs": 1})


def train_models(options: Options, folder: Path) -> tuple[TrainedModel, TrainedModel]:
    """Return the matcher and the captioner."""
    scenes = make_scenes(options.num_train, options.seed)
    data = write_true_scenes(folder / "train", scenes)
    captioner = train_timed(
        caption_recipe(data, folder / "captioner", options.seed, options.caption_epochs)
    )
    start = captioner.path if options.init else ""
    recipe = match_recipe(data, folder / "matcher", options.seed, options.match_epochs, start)
    matcher = train_timed(recipe)
    if options.init:
        matcher = TrainedModel(matcher.path, matcher.minutes + captioner.minutes)
    return matcher, captioner


class Judge:
    """Asks both models about pairs."""

    def __init__(self, matcher: Path, captioner: Path) -> None:
        self.matcher = cutline.load_matcher(matcher, precision="fp32")
        self.captioner = cutline.load(captioner, precision="fp32")

    def score(self, pairs: Sequence[ScenePair]) -> dict[str, Floats]:
        """Return the scores of each pair, by name."""
        images = [draw_scene(pair.scene) for pair in pairs]
        captions = [pair.caption for pair in pairs]
        sums, means = score_pairs(self.captioner, images, captions)
        return {
            "matcher": self.matcher.match(images, captions, batch_size=32).double().numpy(),
            "matcher, cosine": self.matcher.similarity(images, captions).double().numpy(),
            "captioner": sums,
            "captioner, per token": means,
        }

    def judge(self, pairs: Sequence[ScenePair]) -> dict[str, Any]:
        """Return how well each score tells right from wrong pairs."""
        is_right = np.array([pair.is_right for pair in pairs])
        scores = self.score(pairs)
        result: dict[str, Any] = {
            name: judge_scores(values, is_right, range(len(pairs)))
            for name, values in scores.items()
        }
        result["matcher"] |= judge_threshold(scores["matcher"], is_right)
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
    """Train, ask and judge."""
    matcher, captioner = train_models(options, folder)
    judge = Judge(matcher.path, captioner.path)
    # The seeds of the three sets differ, and with them the scenes.
    shuffled = make_shuffled_pairs(options.num_pairs, options.seed + 1)
    false_words = make_false_word_pairs(options.num_pairs, options.seed + 2)
    progress.print("asking both models")
    sets = [make_scenes(options.num_train, options.seed)]
    sets += [[pair.scene for pair in pairs] for pairs in (shuffled, false_words)]
    return {
        "options": asdict(options),
        "minutes": {"matcher": matcher.minutes, "captioner": captioner.minutes},
        "shuffled": judge.judge(shuffled),
        "one_false_word": judge.judge(false_words),
        "scenes": sum(map(len, sets)),
        "distinct_scenes": len(set().union(*sets)),
        "machine": describe_machine(),
    }


def show(result: dict[str, Any]) -> None:
    """Print a table of both sets."""
    table = Table("pairs", "score", "AUROC", "found", "precision", "found at 95 % precision")
    for name in ("shuffled", "one_false_word"):
        for score, values in result[name].items():
            low, high = values["interval"]
            fixed = [
                f"{values[key]:.3f}" if key in values else "" for key in ("recall", "precision")
            ]
            area = f"{values['auroc']:.4f} [{low:.4f}, {high:.4f}]"
            table.add_row(
                name, score, area, *(fixed or ["", ""]), f"{values['found_at_precision_0.95']:.3f}"
            )
    Console(width=120).print(table)


def main(options: Options) -> None:
    """Measure, and print the results."""
    options = options.resolve()
    with tempfile.TemporaryDirectory() as temporary:
        result = run(options, Path(options.folder or temporary))
    show(result)
    if options.output:
        write_text(options.output, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
