"""Measure whether heat-maps of words point at the objects that the words mean.

    python benchmarks/heatmaps.py --output docs/benchmarks/heatmaps.json \
        --sheet docs/images/heat-maps.png
    python benchmarks/heatmaps.py --short

A captioner of drawn scenes is trained with 9 x 9 patches of 8 pixels, starting from one with
patches of 16 pixels. Its scenes have a border, so that objects are in the middle of a patch: a
small cross at a corner of patches would lie between the middles of all four, where no maximum can
be. Then the words for colors and shapes are explained in captions of scenes of the split `heldout`,
each of which has a pair of objects that no training scene contains: first in the true captions,
then in those that the captioner generates, as far as they are true.

A map hits if its maximum, in pixels, lies on an object that the phrase of the word
means; `near` also counts a maximum at most half a patch away, and `other` is the share on another
object. With bilinear interpolation, the maximum is always in the middle of a patch. Beside the
methods stand the pixel in the center, a random pixel, and `best map`, the share
of each patch that the object covers. Intervals are bootstrapped over scenes. Progress goes to
stderr, a table to stdout.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import tyro
from drawn import caption_recipe
from pointing import (
    PATCH_SIZE,
    Bootstrap,
    Measured,
    find_words,
    look_up,
    measure_best,
    measure_maps,
    upsample_bilinear,
)
from results import progress
from rich.console import Console
from rich.table import Table
from torch.nn import functional as F
from trained import TrainedModel, TrainingOptions, finetune, run_benchmark, train_timed

import cutline
from cutline.checkpoint import Checkpoint, load_checkpoint, save_native
from cutline.config import ExplainMethod, InitConfig
from cutline.demo.drawing import Scene, draw_scene
from cutline.demo.grammar import describe_scene, find_object_words, is_correct
from cutline.demo.scenes import make_scenes, write_scenes
from cutline.explanation.colors import draw_sheet
from cutline.explanation.explanation import WordMap
from cutline.model import interpolate_pos_embed

METHODS: tuple[ExplainMethod, ...] = get_args(ExplainMethod)
KINDS = ("color", "shape")
GRID, DEPTH = 9, 3
"""patches along a side of the image, and blocks of the vision encoder"""
SIZE = GRID * PATCH_SIZE
LEFT_OUT = re.compile(rf"vision\.blocks\.(?![0-{DEPTH - 1}]\.)")
"""weights of further blocks"""


@dataclass(frozen=True)
class Options(TrainingOptions):
    """Heat-maps of words of drawn scenes: do they point at the objects?"""

    captioner: str = ""
    """captioner of scenes with a border (default: train one)"""
    start: str = ""
    """captioner of scenes without a border, to start from, as `matching.py` trains it (default:
    train it)"""
    num_start: int = 24000
    """training scenes of the captioner to start from"""
    num_train: int = 12000
    """training scenes of the other"""
    epochs: int = 3
    """epochs of both"""
    num_scenes: int = 300
    """scenes whose captions are explained"""
    resamples: int = 2000
    """bootstrap resamples"""
    seed: int = 0
    """seed of the trainings, and of their scenes"""
    test_seed: int = 2
    """seed of the scenes that are explained"""
    sheet: str = ""
    """PNG of the first of them, with the map of each word"""

    def shorten(self) -> "Options":
        """Return the options with few scenes, and one epoch."""
        return replace(self, num_start=96, num_train=96, epochs=1, num_scenes=6, resamples=50)


def add_border(scene: Scene) -> Scene:
    """Return a smaller scene in the middle of an image, in pixels as large as before.

    Objects are near multiples of 8 pixels of 64; with a border of 4 pixels, these are in the middle
    of patches of 8 pixels.
    """
    border, scale = 0.5 / GRID, (GRID - 1) / GRID
    objects = [
        replace(
            item,
            x=border + scale * item.x,
            y=border + scale * item.y,
            radius=scale * item.radius,
        )
        for item in scene.objects
    ]
    return replace(scene, objects=tuple(objects))


def resize_patches(captioner: Path, folder: Path) -> None:
    """Write the checkpoint of a captioner for other patches to a folder, to train it further."""
    checkpoint = load_checkpoint(captioner)
    vision = checkpoint.config.vision
    weights = {name: w for name, w in checkpoint.weights.items() if not LEFT_OUT.match(name)}
    kernel, old = weights["vision.patch_embed.weight"], vision.patch_size
    size = (PATCH_SIZE, PATCH_SIZE)
    resized = F.interpolate(kernel, size=size, mode="bilinear", antialias=True)
    weights["vision.patch_embed.weight"] = resized * (old / PATCH_SIZE) ** 2 / 2
    pos_embed = interpolate_pos_embed(weights["vision.pos_embed"], GRID**2 + 1)
    weights["vision.pos_embed"] = pos_embed
    vision = replace(vision, image_size=SIZE, patch_size=PATCH_SIZE, depth=DEPTH)
    config = replace(checkpoint.config, vision=vision)
    save_native(folder, Checkpoint(config, weights, checkpoint.tokenizer))


def judge_captions(
    captioner: cutline.Captioner, scenes: Sequence[Scene], captions: Sequence[str], resamples: int
) -> dict[str, Any]:
    """Return how well each method explains captions of scenes, beside the baselines."""
    vision = captioner.config.vision
    words = find_words(scenes, captions, vision.image_size)
    images = [draw_scene(scene, vision.image_size) for scene in scenes]
    maps: dict[str, list[WordMap]] = {}
    for method in METHODS:
        progress.print(f"explaining {len(scenes)} captions by {method}")
        explained = cutline.explain(captioner, images, captions, method=method, batch_size=50)
        found = [{word.start: word for word in each.words} for each in explained]
        maps[method] = [found[word.scene][word.start] for word in words]
    measured = {name: measure_maps(words, each, maps["occlusion"]) for name, each in maps.items()}
    measured["occlusion"] = replace(measured["occlusion"], agreement=None)
    for name in METHODS:
        bilinear = measure_maps(words, maps[name], maps["occlusion"], upsample_bilinear)
        measured[f"{name}, bilinear"] = replace(bilinear, agreement=None)
    middle = vision.image_size * (vision.image_size + 1) // 2  # as a flat index
    center = np.array([look_up(word, middle) for word in words], dtype=np.float64)
    chance = np.array([[m.mean() for m in (w.mask, w.near, w.others)] for w in words])
    measured |= {
        "best map": measure_best(words, vision.image_size // vision.patch_size),
        "center pixel": Measured(*center.T, mass=center[:, 0]),
        "random pixel": Measured(*chance.T, mass=chance[:, 0]),
    }
    bootstrap = Bootstrap(words, len(scenes), resamples)
    hits = measured["gradient"].hits
    return {
        "words": len(words),
        "scenes": len(scenes),
        "results": {name: bootstrap.describe(each) for name, each in measured.items()},
        "gradient_is_better_by": {
            name: bootstrap.estimate(hits - measured[name].hits)
            for name in ("attention", "occlusion", "center pixel", "random pixel")
        },
    }


def draw_explanation(captioner: cutline.Captioner, scene: Scene, path: Path) -> None:
    """Write a PNG of a scene with the map of each word of its caption."""
    image = draw_scene(scene, 4 * captioner.config.vision.image_size)
    explanation = cutline.explain(captioner, image, describe_scene(scene))
    draw_sheet(image, explanation).save(path, optimize=True)


def find_captioner(options: Options, folder: Path) -> TrainedModel:
    """Return the captioner, which is trained if none is named."""
    if options.captioner:
        return TrainedModel(Path(options.captioner))
    progress.print("drawing scenes")
    if options.start:
        start = TrainedModel(Path(options.start))
    else:
        scenes = make_scenes(options.num_start, options.seed)
        data = write_scenes(folder / "start-data", scenes)
        recipe = caption_recipe(data, folder / "start", options.seed, options.epochs)
        start = train_timed(recipe)
    resize_patches(start.path, folder / "resized")
    scenes = list(map(add_border, make_scenes(options.num_train, options.seed)))
    data = write_scenes(folder / "train", scenes, SIZE)
    recipe = caption_recipe(data, folder / "captioner", options.seed, options.epochs)
    model = train_timed(finetune(recipe, InitConfig(captioner=str(folder / "resized"))))
    return TrainedModel(model.path, (start.minutes or 0.0) + (model.minutes or 0.0))


def run(options: Options, folder: Path) -> dict[str, Any]:
    """Train, explain and judge."""
    model = find_captioner(options, folder)
    captioner = cutline.load(model.path, precision="fp32", engine="eager")
    drawn = make_scenes(options.num_scenes, options.test_seed, "heldout")
    scenes, size = list(map(add_border, drawn)), captioner.config.vision.image_size
    if options.sheet:
        draw_explanation(captioner, scenes[0], Path(options.sheet))
    images = [draw_scene(scene, size) for scene in scenes]
    captions = captioner.caption(images, batch_size=50, max_length=24, min_length=1)
    texts = [caption.text for caption in captions]
    # A map of a caption without a word that is true would not be used.
    told = [number for number, text in enumerate(texts) if find_object_words(text, scenes[number])]
    judge: Callable[..., dict[str, Any]] = judge_captions
    true = judge(captioner, scenes, list(map(describe_scene, scenes)), options.resamples)
    generated = {}
    if told:
        chosen = [scenes[number] for number in told]
        generated = judge(captioner, chosen, [texts[number] for number in told], options.resamples)
    return {
        "minutes": model.minutes,
        "caption_accuracy": sum(map(is_correct, texts, scenes)) / len(scenes),
        "scenes_in_training": len(set(drawn) & set(make_scenes(options.num_start, options.seed))),
        "true_captions": true,
        "generated_captions": generated,
    }


def show(result: dict[str, Any]) -> None:
    """Print a table."""
    names = ("captions", "map", "hits", "interval", *KINDS, "near", "other", "mass", "ranks")
    table = Table(*names)
    for name in ("true_captions", "generated_captions"):
        for method, values in result[name].get("results", {}).items():
            pointing = values["pointing"]
            shares = [f"{100 * values[key]['mean']:.1f}" for key in ("near", "other_object")]
            shares.append(f"{100 * values['mass']['mean']:.1f}")
            interval = " to ".join(f"{100 * end:.1f}" for end in pointing["interval"])
            kinds = [f"{100 * values[kind]:.1f}" if kind in values else "" for kind in KINDS]
            agreement = values.get("agreement_with_occlusion", {}).get("mean")
            shown = "" if agreement is None else f"{agreement:.2f}"
            hits = f"{100 * pointing['mean']:.1f} %"
            table.add_row(name, method, hits, interval, *kinds, *shares, shown)
    Console(width=120).print(table)


if __name__ == "__main__":
    run_benchmark(tyro.cli(Options, description=__doc__), run, show)
