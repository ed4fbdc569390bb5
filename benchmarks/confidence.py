"""Measure whether confidence finds wrong words and captions, beside other scores.

    python benchmarks/confidence.py --aerial ucm-captions --output docs/benchmarks/confidence.json
    python benchmarks/confidence.py --short

A captioner of drawn scenes captions scenes with combinations of objects that it was never trained
on, where some words are false; the grammar of the demo finds these. In captions outside the
grammar, if there are any, a word is right if it occurs in the true one. A captioner of aerial
images (UCM-Captions) captions the regions of block-val.jsonl; a word is right if it occurs in a
reference. Captioners and matchers are trained as by matching.py and matching_aerial.py, unless they
are given.

Each set is divided into halves: scenes at random, aerial images by land use and tens of their
numbers, which follow each other within a region. On one half, definitions of confidence are
compared, and calibrations fitted; all other results are those of the other half. Progress goes to
stderr, tables to stdout.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matching
import matching_aerial
import tyro
from confidence_scores import (
    Example,
    choose,
    correlate,
    judge_captions,
    judge_words,
    make_examples,
)
from pair_scores import format_value
from results import progress
from rich.console import Console
from rich.table import Table
from trained import TrainedModel, TrainingOptions, run_benchmark

import cutline
from cutline.batching import Caption
from cutline.calibration import JudgedCaption
from cutline.calibration.run import fit_calibration
from cutline.config import DataConfig
from cutline.data import Sample, open_data
from cutline.data.split import split_samples
from cutline.demo.drawing import draw_scene
from cutline.demo.false_words import find_false_words
from cutline.demo.grammar import describe_scene
from cutline.demo.scenes import make_scenes
from cutline.metrics import compute_metrics
from cutline.tokenizer import Tokenizer, clean_caption

REGION = r"ucm_(\d+)_(\d\d)"
"""land use, and tens of the number, of the name of an aerial image"""


@dataclass(frozen=True)
class Options(TrainingOptions):
    """Wrong words of captions: what confidence finds, and what other scores do."""

    scenes: bool = True
    """measure drawn scenes"""
    captioner: str = ""
    """captioner of drawn scenes (default: train one)"""
    matcher: str = ""
    """matcher of drawn scenes (default: train one)"""
    num_train: int = 24000
    """training scenes of these"""
    num_scenes: int = 12000
    """scenes to caption"""
    aerial: str = ""
    """folder of UCM-Captions (default: leave these out)"""
    aerial_captioner: str = ""
    """captioner of aerial images (default: train one)"""
    aerial_matcher: str = ""
    """matcher of aerial images (default: train one)"""
    seed: int = 0
    """seed of scenes, halves and trainings"""

    def shorten(self) -> "Options":
        """Return the options with few scenes."""
        return replace(self, num_train=96, num_scenes=60)


def load_models(options: Options, folder: Path) -> tuple[cutline.Captioner, cutline.Matcher]:
    """Return captioner and matcher of drawn scenes; train both unless they are given."""
    paths = options.captioner, options.matcher
    if not all(paths):
        training = matching.Options(
            num_train=options.num_train, seed=options.seed, short=options.short
        )
        training = training.shorten() if options.short else training
        models: Sequence[TrainedModel] = matching.train_models(training, folder)
        paths = str(models[1].path), str(models[0].path)
    return cutline.load(paths[0], precision="fp32"), cutline.load_matcher(
        paths[1], precision="fp32"
    )


def load_aerial_models(options: Options, folder: Path) -> tuple[cutline.Captioner, cutline.Matcher]:
    """Return captioner and matcher of aerial images; train them unless they are given."""
    training = matching_aerial.Options(
        data=options.aerial,
        captioner=options.aerial_captioner,
        matcher=options.aerial_matcher,
        seed=options.seed,
        short=options.short,
    )
    training = training.shorten() if options.short else training
    matcher, captioner = matching_aerial.train_models(training, folder)
    return (
        cutline.load(captioner.path, precision="fp32"),
        cutline.load_matcher(matcher.path, precision="fp32"),
    )


def count_words(texts: Iterable[str], tokenizer: Tokenizer) -> Counter[str]:
    """Return how often each word occurs in the training captions."""
    return Counter(word for text in texts for word in tokenizer.split_words(text))


def measure_scenes(options: Options, folder: Path) -> dict[str, Any]:
    """Caption scenes and judge their words."""
    captioner, matcher = load_models(options, folder)
    seed, count = options.seed, options.num_scenes
    train = make_scenes(options.num_train, seed)
    counts = count_words(map(describe_scene, train), captioner.tokenizer)
    scenes = list(dict.fromkeys(make_scenes(count, seed + 100, "heldout")))
    progress.print(f"captioning {len(scenes)} scenes")
    images = [draw_scene(scene) for scene in scenes]
    captions = captioner.caption(
        images, batch_size=50, max_length=24, min_length=1, token_log_probs=True
    )
    matches = matcher.match(images, [caption.text for caption in captions], batch_size=32)
    judged, not_understood = [], 0
    for number, (caption, scene) in enumerate(zip(captions, scenes, strict=True)):
        sample = Sample(b"", (describe_scene(scene),), f"scene {number}")
        is_false = find_false_words(caption.text, scene)
        not_understood += is_false is None
        is_right = (
            find_words(sample, caption, captioner.tokenizer)
            if is_false is None
            else tuple(not each for each in is_false)
        )
        judged.append(JudgedCaption(sample, caption, is_right))
    examples = make_examples(judged, captioner, counts, list(map(float, matches)))
    middle = len(examples) // 2
    measured = measure_halves(examples[:middle], examples[middle:], seed)
    return {**measured, "not_understood": not_understood}


def measure_aerial(options: Options, folder: Path) -> dict[str, Any]:
    """Caption aerial images and judge their words."""
    data = Path(options.aerial)
    captioner, matcher = load_aerial_models(options, folder)
    train = open_data(data / "block-train.jsonl")
    texts = [clean_caption(text, "blip", 30) for each in train for text in each.captions]
    counts = count_words(texts, captioner.tokenizer)
    samples = [each for each in open_data(data / "block-val.jsonl") if each.captions]
    progress.print(f"captioning {len(samples)} aerial images")
    division = DataConfig(train=options.aerial, val_fraction=0.5, group_pattern=REGION)
    halves = split_samples(samples, division, options.seed)
    fitted, tested = (caption_samples(half, captioner, matcher, counts) for half in halves)
    references = [each.judged.sample.captions for each in tested]
    _, scores = compute_metrics([each.judged.caption.text for each in tested], references)
    result = measure_halves(fitted, tested, options.seed)
    result["cider"] = correlate(tested, [score.cider for score in scores])
    return result


def find_words(sample: Sample, caption: Caption, tokenizer: Tokenizer) -> tuple[bool, ...]:
    """Return whether each word of a caption occurs in a reference."""
    known = count_words(sample.captions, tokenizer)
    return tuple(word.text in known for word in caption.words)


def caption_samples(
    samples: Sequence[Sample],
    captioner: cutline.Captioner,
    matcher: cutline.Matcher,
    counts: Counter[str],
) -> list[Example]:
    """Caption images, and judge the words by the references."""
    images = [sample.image for sample in samples]
    captions = captioner.caption(images, token_log_probs=True)
    matches = matcher.match(images, [caption.text for caption in captions])
    judged = [
        JudgedCaption(sample, caption, find_words(sample, caption, captioner.tokenizer))
        for sample, caption in zip(samples, captions, strict=True)
    ]
    return make_examples(judged, captioner, counts, list(map(float, matches)))


def measure_halves(
    fitted: Sequence[Example], tested: Sequence[Example], seed: int
) -> dict[str, Any]:
    """Return what the first half chooses, and what the second half measures."""
    progress.print("comparing scores")
    calibrated = fit_calibration(
        [each.judged for each in fitted], [each.judged for each in tested], seed=seed
    )
    return {
        "images": {"chosen_on": len(fitted), "measured_on": len(tested)},
        "words": sum(len(each.is_right) for each in tested),
        "wrong_words": sum(not right for each in tested for right in each.is_right),
        "choices": choose(fitted),
        "auroc_words": judge_words(tested),
        "auroc_captions": judge_captions(tested),
        "scaling": {
            "word": vars(calibrated.calibration.word),
            "caption": vars(calibrated.calibration.caption),
        },
        "calibration": calibrated.to_dict(),
    }


def run(options: Options, folder: Path) -> dict[str, Any]:
    """Measure the sets."""
    sets = {}
    if options.scenes:
        sets["scenes"] = measure_scenes(options, folder / "scenes")
    if options.aerial:
        sets["aerial"] = measure_aerial(options, folder / "aerial")
    return {"sets": sets}


def show(result: dict[str, Any]) -> None:
    """Print tables of all sets."""
    table = Table("set", "of", "score", "value", "confidence is better by")
    for name, measured in result["sets"].items():
        for of, key in (("words", "auroc"), ("captions", "auroc"), ("cider", "spearman")):
            scores = measured.get(of if of == "cider" else f"auroc_{of}", {})
            for score, values in scores.items():
                better = values.get("confidence_is_better_by")
                cells = [
                    "" if not better else format_value(better["difference"], better["interval"])
                ]
                table.add_row(
                    name, of, score, format_value(values[key], values["interval"]), *cells
                )
    Console(width=140).print(table)


if __name__ == "__main__":
    run_benchmark(tyro.cli(Options, description=__doc__), run, show)
