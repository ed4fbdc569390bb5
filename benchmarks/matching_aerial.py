"""Measure whether a matcher of aerial images finds swapped captions, beside what a captioner says.

    python benchmarks/matching_aerial.py ucm-captions --captioner runs/aerial \
        --output docs/benchmarks/matching_aerial.json
    python benchmarks/matching_aerial.py ucm-captions --short

Captioner and matcher are trained on all images of block-train.jsonl; the number of epochs of the
matcher was chosen with some of these held out. Without --captioner, one is trained as by this
command:

    cutline train recipes/aerial.yaml --data.train ucm-captions/block-train.jsonl

In block-val.jsonl, 30 % of the captions are swapped between images, in two ways: with any other
image, or with one of the same land use. An image never gets a text that it has, but a caption of
the same land use may be true of it. Four scores need no matcher, and the last of them no image: it
tells what the texts alone give away.

- `mean log p`: log p(c | image) under the captioner, per token, [SEP] included;
- `ratio`: log p(c | image) - log mean p(c | 12 training images), p being the product over all
  tokens; `ratio per token` is the same divided by the number of tokens;
- `text alone`: how often the text occurs in the training data.

Progress goes to stderr, a table to stdout.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro
from aerial_pairs import swap_captions
from aerial_scores import BETTER, Judge
from pair_scores import format_value
from rich.console import Console
from rich.table import Table
from trained import (
    TrainedModel,
    TrainingOptions,
    make_match_recipe,
    run_benchmark,
    train_after,
    train_timed,
)

import cutline
from cutline.config import Recipe
from cutline.data import open_data
from cutline.evaluation import evaluate_matcher
from cutline.progress import progress_bar

RECIPE = Path(__file__).parents[1] / "recipes" / "aerial.yaml"


@dataclass(frozen=True)
class Options(TrainingOptions):
    """Swapped captions of aerial images: what a matcher finds, and what a captioner does."""

    data: tyro.conf.Positional[str]
    """folder of UCM-Captions with block-train.jsonl and block-val.jsonl"""
    captioner: str = ""
    """captioner of aerial images (default: train recipes/aerial.yaml)"""
    matcher: str = ""
    """matcher of aerial images (default: train one)"""
    epochs: int = 30
    """epochs of the matcher"""
    batch_size: int = 128
    """images in a step of the matcher"""
    lr: float = 5e-4
    """learning rate of the matcher"""
    init: bool = True
    """start the matcher from the captioner; its training, if measured, counts towards the time"""
    seed: int = 0
    """seed of the swaps and of both trainings"""

    def shorten(self) -> "Options":
        """Return the options with one epoch of a small batch."""
        return replace(self, epochs=1, batch_size=8)


TRAINING_FLAGS = {
    "epochs": "--epochs",
    "batch_size": "--batch-size",
    "lr": "--lr",
    "init": "--no-init",
}
"""options of the matcher's training, and their flags"""


def check_options(options: Options) -> None:
    """Refuse options of a training that is not done, because the matcher is given."""
    names = [name for name in TRAINING_FLAGS if getattr(options, name) != getattr(Options, name)]
    if options.matcher and names:
        flags = ", ".join(TRAINING_FLAGS[name] for name in names)
        raise SystemExit(f"{flags}: no matcher is trained beside --matcher; leave one of them out")


def caption_recipe(options: Options, output: Path) -> Recipe:
    """Return the recipe of the captioner."""
    recipe = cutline.read_recipe(RECIPE)
    data = replace(recipe.data, train=str(Path(options.data) / "block-train.jsonl"))
    recipe = replace(recipe, output=str(output), seed=options.seed, data=data)
    return shrink(recipe) if options.short else recipe


def match_recipe(options: Options, output: Path) -> Recipe:
    """Return the recipe of the matcher."""
    recipe = caption_recipe(options, output)
    size, lr, epochs = options.batch_size, options.lr, options.epochs
    steps = 1 if options.short else 0
    optim = replace(recipe.optim, batch_size=size, lr=lr, epochs=epochs, max_steps=steps)
    return make_match_recipe(replace(recipe, optim=optim))


def shrink(recipe: Recipe) -> Recipe:
    """Return a recipe of a tiny model and one step."""
    vision = replace(recipe.model.vision, image_size=32, embed_dim=16, depth=1, num_heads=2)
    text = replace(recipe.model.text, embed_dim=16, depth=1, num_heads=2, mlp_dim=32)
    return replace(
        recipe,
        model=replace(recipe.model, vision=vision, text=text),
        optim=replace(recipe.optim, max_steps=1, warmup_steps=0),
        data=replace(recipe.data, cache=False),
    )


def train_models(options: Options, folder: Path) -> tuple[TrainedModel, TrainedModel]:
    """Return the matcher and the captioner."""
    captioner = (
        TrainedModel(Path(options.captioner))
        if options.captioner
        else train_timed(caption_recipe(options, folder / "captioner"))
    )
    if options.matcher:
        return TrainedModel(Path(options.matcher)), captioner
    recipe = match_recipe(options, folder / "matcher")
    matcher = train_after(recipe, captioner) if options.init else train_timed(recipe)
    return matcher, captioner


def run(options: Options, folder: Path) -> dict[str, Any]:
    """Train, score and judge."""
    matcher, captioner = train_models(options, folder)
    val = list(open_data(Path(options.data) / "block-val.jsonl"))
    train = list(open_data(Path(options.data) / "block-train.jsonl"))
    if options.short:
        val = val[:: max(1, len(val) // 8)]
        val = [replace(s, captions=(*s.captions[:2], f"{s.id} one")) for s in val]
    judge = Judge(matcher.path, captioner.path, train, val, options.seed)
    kinds = {"any": False} if options.short else {"any": False, "within_land_use": True}
    swapped = {name: swap_captions(val, within, options.seed) for name, within in kinds.items()}
    evaluation = evaluate_matcher(judge.matcher, val, progress=progress_bar)
    return {
        "minutes": {"matcher": matcher.minutes, "captioner": captioner.minutes},
        **{name: judge.judge(pairs) for name, pairs in swapped.items()},
        "retrieval": evaluation.to_dict(),
    }


def show(result: dict[str, Any]) -> None:
    """Print a table of both kinds of swaps, and one of recall."""
    table = Table("swapped with", "score", "AUROC", "the matcher is better by", "its cosine is")
    for kind in ("any", "within_land_use"):
        for score, values in result.get(kind, {}).items():
            area = format_value(values["auroc"], values["interval"])
            found = [values[key] for key in BETTER.values() if key in values]
            gains = [format_value(each["difference"], each["interval"]) for each in found]
            table.add_row(kind, score, area, *gains)
    console = Console(width=120)
    console.print(table)
    recalls = Table("recall", "image to text @1", "@5", "@10", "text to image @1", "@5", "@10")
    for name in ("cosine", "reranked", "cosine_by_index", "reranked_by_index"):
        values = result["retrieval"][name]
        sides = values["image_to_text"], values["text_to_image"]
        numbers = [side[cutoff] for side in sides for cutoff in ("at1", "at5", "at10")]
        recalls.add_row(name, *(f"{number:.3f}" for number in numbers))
    console.print(recalls)


if __name__ == "__main__":
    given = tyro.cli(Options, description=__doc__)
    check_options(given)
    run_benchmark(given, run, show)
