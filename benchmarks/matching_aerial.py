"""Measure whether a matcher of aerial images finds swapped captions, beside what a captioner says.

    python benchmarks/matching_aerial.py ucm-captions --captioner runs/aerial
    python benchmarks/matching_aerial.py ucm-captions --short

A matcher is trained on block-train.jsonl. In block-val.jsonl, 30 % of the captions are swapped for
those of another image, in two ways: of any other image, or of one of the same land use. An image
never gets a text that it has, but a caption of the same land use may be true of it. Two scores need
no matcher:

- `mean log p`: log p(c | image) under the captioner, per token, [SEP] included;
- `ratio`: log p(c | image) - log mean p(c | 12 training images), p being the product over all
  tokens; `ratio per token` is the same divided by the number of tokens.

Progress goes to stderr, a table to stdout.
"""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from drawn import TrainedModel, train_timed
from machine import describe_machine
from numpy.typing import NDArray
from pair_scores import Bools, Floats, compare_scores, judge_scores, judge_threshold, score_pairs
from rich.console import Console
from rich.table import Table

import cutline
from cutline.config import InitConfig, ModelSettings, Recipe
from cutline.data import Sample, open_data
from cutline.evaluation import evaluate_matcher
from cutline.evaluation.ranking import TextSet
from cutline.files import write_text
from cutline.progress import progress_bar
from cutline.tokenizer import clean_caption

progress = Console(stderr=True, highlight=False, markup=False)

RECIPE = Path(__file__).parents[1] / "recipes" / "aerial.yaml"
SWAPPED = 0.3
"""fraction of the captions that are swapped"""
NUM_BACKGROUND = 12
"""training images whose mean likelihood the ratio compares with"""


@dataclass(frozen=True)
class Options:
    """Swapped captions of aerial images: what a matcher finds, and what a captioner does."""

    data: tyro.conf.Positional[str]
    """folder of UCM-Captions with block-train.jsonl and block-val.jsonl"""
    captioner: str = ""
    """captioner of aerial images (default: train recipes/aerial.yaml)"""
    matcher: str = ""
    """matcher of aerial images (default: train one)"""
    output: str = ""
    """write the result to this JSON file"""
    folder: str = ""
    """keep the models in this folder (default: a temporary one)"""
    epochs: int = 36
    """epochs of the matcher"""
    batch_size: int = 32
    """images in a step of the matcher"""
    lr: float = 1e-3
    """learning rate of the matcher"""
    init: bool = False
    """start the matcher from the captioner; its training then counts towards the time"""
    seed: int = 0
    """seed of the swaps and of both trainings"""
    short: bool = False
    """tiny models, one step and few images: only to test this script"""


@dataclass(frozen=True)
class Pairs:
    """Images of the validation data with texts, some of which are swapped."""

    images: NDArray[np.int64]
    """number of the image of each pair"""
    texts: list[str]
    """cleaned"""
    is_right: Bools


def caption_recipe(options: Options, output: Path) -> Recipe:
    """Return the recipe of the captioner."""
    recipe = cutline.read_recipe(RECIPE)
    data = replace(recipe.data, train=str(Path(options.data) / "block-train.jsonl"))
    recipe = replace(recipe, output=str(output), seed=options.seed, data=data)
    return shorten(recipe) if options.short else recipe


def match_recipe(options: Options, output: Path, captioner: str) -> Recipe:
    """Return the recipe of the matcher: that of the captioner, as far as both have settings."""
    recipe = caption_recipe(options, output)
    sizes = replace(recipe.model, prompt=None, label_smoothing=None)
    optim = replace(recipe.optim, batch_size=options.batch_size, lr=options.lr)
    if not options.short:
        optim = replace(optim, epochs=options.epochs)
    return replace(
        recipe,
        task="match",
        model=ModelSettings() if captioner else sizes,
        init=InitConfig(captioner=captioner) if captioner else recipe.init,
        data=replace(recipe.data, captions_per_image=1),
        generation=Recipe().generation,
        optim=optim,
    )


def shorten(recipe: Recipe) -> Recipe:
    """Return a recipe of a tiny model and one step."""
    vision = replace(recipe.model.vision, image_size=32, embed_dim=16, depth=1, num_heads=2)
    text = replace(recipe.model.text, embed_dim=16, depth=1, num_heads=2, mlp_dim=32)
    return replace(
        recipe,
        model=replace(recipe.model, vision=vision, text=text),
        optim=replace(recipe.optim, max_steps=1, warmup_steps=0, batch_size=8),
        data=replace(recipe.data, cache=False),
        eval=replace(recipe.eval, max_images=4),
    )


def train_models(options: Options, folder: Path) -> tuple[TrainedModel, TrainedModel]:
    """Return the matcher and the captioner."""
    captioner = (
        TrainedModel(Path(options.captioner), 0.0)
        if options.captioner
        else train_timed(caption_recipe(options, folder / "captioner"))
    )
    if options.matcher:
        return TrainedModel(Path(options.matcher), 0.0), captioner
    start = str(captioner.path) if options.init else ""
    matcher = train_timed(match_recipe(options, folder / "matcher", start))
    if options.init:
        matcher = TrainedModel(matcher.path, matcher.minutes + captioner.minutes)
    return matcher, captioner


def land_use(sample: Sample) -> str:
    """Return the land use of an image, such as "03" of ucm_03_041.jpg."""
    return Path(str(sample.image)).stem.split("_")[1]


def swap_captions(samples: Sequence[Sample], within: bool, seed: int) -> Pairs:
    """Swap captions for those of other images, which the image does not have after cleaning.

    Args:
        samples: Images with their captions.
        within: Whether the other image is one of the same land use. Where all images of a land use
            have the same captions, none is swapped, and more in the others.
        seed: Seed of the choice.
    """
    rng = np.random.default_rng(seed)
    texts = TextSet.from_texts([list(map(clean_text, sample.captions)) for sample in samples])
    uses = np.array(list(map(land_use, samples)))[texts.images]
    numbers, is_right = texts.numbers.copy(), np.ones(len(texts.numbers), np.bool_)
    num_left = round(SWAPPED * len(numbers))
    for row in rng.permutation(len(numbers)):
        is_wrong = ~texts.belongs[texts.images[row], texts.numbers]
        others = texts.numbers[is_wrong & (uses == uses[row]) if within else is_wrong]
        if num_left and len(others):
            numbers[row], is_right[row] = rng.choice(others), False
            num_left -= 1
    return Pairs(texts.images, [texts.distinct[number] for number in numbers], is_right)


def clean_text(text: str) -> str:
    """Return a text as the recipe's training sees it."""
    return clean_caption(text, "blip", 30)


class Judge:
    """Scores pairs by the matcher and by the captioner."""

    def __init__(
        self, matcher: Path, captioner: Path, samples: Sequence[Sample], background: Sequence[str]
    ) -> None:
        """Load both models.

        Args:
            matcher: The matcher.
            captioner: The captioner.
            samples: The validation images.
            background: Training images that the ratio compares with.
        """
        self.matcher = cutline.load_matcher(matcher, precision="fp32")
        self.captioner = cutline.load(captioner, precision="fp32")
        self.samples, self.background = samples, background
        self._means: dict[str, float] = {}

    def score(self, pairs: Pairs) -> dict[str, Floats]:
        """Return the scores of each pair, by name."""
        images = [self.samples[image].image for image in pairs.images]
        texts = pairs.texts
        progress.print(f"scoring {len(texts):,} pairs")
        sums, means = score_pairs(self.captioner, images, texts)
        ratio = sums - self.score_background(texts)
        return {
            "matcher": self.matcher.match(images, texts).double().numpy(),
            "matcher, cosine": self.matcher.similarity(images, texts).double().numpy(),
            "mean log p": means,
            "ratio": ratio,
            "ratio per token": ratio * means / sums,
        }

    def score_background(self, texts: Sequence[str]) -> Floats:
        """Return log mean p(c | training images) of each text."""
        new = [text for text in dict.fromkeys(texts) if text not in self._means]
        columns = []
        for image in self.background:
            chunks = [new[start : start + 64] for start in range(0, len(new), 64)]
            scores = [s for chunk in chunks for s in self.captioner.score(image, chunk)]
            columns.append([score.log_prob for score in scores])
        if new:
            means = np.logaddexp.reduce(np.array(columns), axis=0) - np.log(len(self.background))
            self._means |= zip(new, means.tolist(), strict=True)
        return np.array([self._means[text] for text in texts])

    def judge(self, pairs: Pairs) -> dict[str, Any]:
        """Return how well each score tells right from swapped captions; images are resampled."""
        scores = self.score(pairs)
        groups = pairs.images.tolist()
        result: dict[str, Any] = {
            name: judge_scores(values, pairs.is_right, groups) for name, values in scores.items()
        }
        result["matcher"] |= judge_threshold(scores["matcher"], pairs.is_right)
        matcher = scores["matcher"]
        for name, values in scores.items():
            if not name.startswith("matcher"):
                difference = compare_scores(values, matcher, pairs.is_right, groups)
                result[name]["matcher_is_better_by"] = difference
        return result


def choose_background(samples: Sequence[Sample], seed: int) -> list[str]:
    """Return training images, drawn at random."""
    rows = np.random.default_rng(seed).choice(len(samples), NUM_BACKGROUND, replace=False)
    return [str(samples[row].image) for row in rows]


def run(options: Options, folder: Path) -> dict[str, Any]:
    """Train, score and judge."""
    matcher, captioner = train_models(options, folder)
    val = list(open_data(Path(options.data) / "block-val.jsonl"))
    train = list(open_data(Path(options.data) / "block-train.jsonl"))
    if options.short:
        val = val[:: max(1, len(val) // 8)]
        val = [replace(s, captions=(*s.captions[:2], f"{s.id} one")) for s in val]
    judge = Judge(matcher.path, captioner.path, val, choose_background(train, options.seed))
    kinds = {"any": False} if options.short else {"any": False, "within_land_use": True}
    swapped = {name: swap_captions(val, within, options.seed) for name, within in kinds.items()}
    evaluation = evaluate_matcher(judge.matcher, val, progress=progress_bar)
    return {
        "options": asdict(options),
        "minutes": {"matcher": matcher.minutes, "captioner": captioner.minutes},
        **{name: judge.judge(pairs) for name, pairs in swapped.items()},
        "retrieval": evaluation.to_dict(),
        "machine": describe_machine(),
    }


def show(result: dict[str, Any]) -> None:
    """Print a table of both kinds of swaps, and one of recall."""
    table = Table("swapped with", "score", "AUROC", "the matcher is better by")
    for kind in ("any", "within_land_use"):
        for score, values in result.get(kind, {}).items():
            better = values.get("matcher_is_better_by")
            area = format_value(values["auroc"], values["interval"])
            gain = format_value(better["difference"], better["interval"]) if better else ""
            table.add_row(kind, score, area, gain)
    console = Console(width=100)
    console.print(table)
    recalls = Table("recall", "image to text @1", "@5", "@10", "text to image @1", "@5", "@10")
    for name in ("cosine", "reranked", "cosine_by_index", "reranked_by_index"):
        values = result["retrieval"][name]
        sides = values["image_to_text"], values["text_to_image"]
        numbers = [side[cutoff] for side in sides for cutoff in ("at1", "at5", "at10")]
        recalls.add_row(name, *(f"{number:.3f}" for number in numbers))
    console.print(recalls)


def format_value(value: float, interval: Sequence[float]) -> str:
    """Return a value with its interval."""
    low, high = interval
    return f"{value:.4f} [{low:.4f}, {high:.4f}]"


def main(options: Options) -> None:
    """Measure, and print the results."""
    with tempfile.TemporaryDirectory() as temporary:
        result = run(options, Path(options.folder or temporary))
    show(result)
    if options.output:
        write_text(options.output, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
