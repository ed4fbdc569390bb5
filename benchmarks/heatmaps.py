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
import torch
import tyro
from drawn import caption_recipe
from PIL import Image, ImageFilter
from results import progress
from rich.console import Console
from rich.table import Table
from torch.nn import functional as F
from trained import TrainedModel, TrainingOptions, finetune, run_benchmark, train_timed

import cutline
from cutline.checkpoint import Checkpoint, load_checkpoint, save_native
from cutline.config import ExplainMethod, InitConfig
from cutline.demo.drawing import Scene, draw_mask, draw_scene
from cutline.demo.grammar import ObjectWord, describe_scene, find_object_words, is_correct
from cutline.demo.scenes import make_scenes, write_scenes
from cutline.explanation.colors import draw_sheet
from cutline.explanation.explanation import HeatMap, WordMap
from cutline.metrics import percentile_interval
from cutline.metrics.significance import draw_resamples
from cutline.metrics.stats import Bools, Floats
from cutline.model import interpolate_pos_embed

METHODS: tuple[ExplainMethod, ...] = get_args(ExplainMethod)
KINDS = ("color", "shape")
GRID, PATCH_SIZE, DEPTH = 9, 8, 3
"""patches along a side of the image, their size in pixels, and blocks of the vision encoder"""
SIZE = GRID * PATCH_SIZE
TOLERANCE = PATCH_SIZE // 2
"""pixels: half a patch, and 6 % of the image, as in the pointing game (Zhang et al., 2016, arXiv
1608.00507), where it is 15 pixels"""
NEAR_SIZE = 2 * TOLERANCE + 1
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


@dataclass(frozen=True)
class Word:
    """A word of a caption, and the objects that it means."""

    scene: int
    """number of the scene"""
    start: int
    """where the word begins in the caption"""
    kind: str
    """color or shape"""
    mask: Bools
    """the pixels of the objects, (S, S)"""
    near: Bools
    """those, and the pixels at most `TOLERANCE` away from them in x and in y"""
    others: Bools
    """the pixels of the other objects of the scene"""


def find_words(scenes: Sequence[Scene], captions: Sequence[str], size: int) -> list[Word]:
    """Return the words of all captions that mean objects."""
    return [
        make_word(number, word, scene, size)
        for number, (scene, caption) in enumerate(zip(scenes, captions, strict=True))
        for word in find_object_words(caption, scene)
    ]


def make_word(number: int, word: ObjectWord, scene: Scene, size: int) -> Word:
    """Return a word of the caption of a scene, with its masks."""
    mask = draw_mask(word.objects, size)
    near = np.asarray(Image.fromarray(mask).convert("L").filter(ImageFilter.MaxFilter(NEAR_SIZE)))
    others = draw_mask([item for item in scene.objects if item not in word.objects], size)
    return Word(number, word.start, word.kind, mask, near > 0, others)


@dataclass(frozen=True)
class Measured:
    """What was measured of the maps of one method, by word."""

    hits: Floats
    near: Floats
    """whether the maximum is on the objects, or at most `TOLERANCE` pixels away"""
    wrong: Floats
    """whether it is on another object"""
    mass: Floats
    """share of the map on the objects"""
    agreement: Floats | None = None
    """rank correlation with the map of occlusion"""


def upsample_bilinear(word: WordMap) -> HeatMap:
    """Return the map of a word in pixels, by bilinear interpolation."""
    values = torch.from_numpy(word.map)[None, None]
    pixels = F.interpolate(values, size=word.image_size, mode="bilinear")[0, 0].numpy()
    return np.asarray(pixels / max(float(pixels.sum()), 1e-12))


def measure_maps(
    words: Sequence[Word],
    maps: Sequence[WordMap],
    others: Sequence[WordMap],
    upsample: Callable[[WordMap], HeatMap] = WordMap.upsample,
) -> Measured:
    """Measure the maps of words."""
    pixels = list(map(upsample, maps))
    peaks = [each.argmax() for each in pixels]
    points = [look_up(word, peak) for word, peak in zip(words, peaks, strict=True)]
    mass = [each[word.mask].sum() for word, each in zip(words, pixels, strict=True)]
    agreement = [correlate_ranks(a.map, b.map) for a, b in zip(maps, others, strict=True)]
    hits, near, wrong = np.array(points, dtype=np.float64).T
    return Measured(hits, near, wrong, np.array(mass, dtype=np.float64), np.array(agreement))


def look_up(word: Word, pixel: int) -> tuple[bool, bool, bool]:
    """Return whether a pixel is on the objects of a word, near them, and on other objects."""
    return word.mask.flat[pixel], word.near.flat[pixel], word.others.flat[pixel]


def measure_best(words: Sequence[Word], grid: int) -> Measured:
    """Measure the maps that show the share of each patch which the objects cover."""
    maps = [average_patches(word.mask, grid) for word in words]
    size = words[0].mask.shape
    best = [WordMap("", 0, 0, each / each.sum(), size) for each in maps]
    return replace(measure_maps(words, best, best), agreement=None)


def average_patches(mask: Bools, grid: int) -> HeatMap:
    """Return the share of true pixels in each patch, (grid, grid)."""
    side = len(mask) // grid
    shares = mask.reshape(grid, side, grid, side).mean((1, 3))
    return np.asarray(shares, dtype=np.float32)


def correlate_ranks(first: HeatMap, second: HeatMap) -> float:
    """Return Spearman's rank correlation of two maps; 0 if one has the same value everywhere."""
    ranks = [rank(values.ravel()) for values in (first, second)]
    if min(np.ptp(each) for each in ranks) == 0:
        return 0.0
    return float(np.corrcoef(*ranks)[0, 1])


def rank(values: HeatMap) -> Floats:
    """Return the ranks of values; equal ones share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse], dtype=np.float64)


class Bootstrap:
    """Means over words, with intervals over scenes."""

    def __init__(self, words: Sequence[Word], num_scenes: int, resamples: int) -> None:
        self.scene = np.array([word.scene for word in words])
        self.kind = np.array([word.kind for word in words])
        self.num_scenes = num_scenes
        chunks = draw_resamples(np.random.default_rng(0), num_scenes, resamples)
        self.counts = np.concatenate(list(chunks))  # (R, scenes)

    def sum_scenes(self, values: Floats) -> Floats:
        return np.bincount(self.scene, values, self.num_scenes)

    def estimate(self, values: Floats) -> dict[str, Any]:
        """Return the mean over words and its 95 % interval."""
        sums, totals = self.sum_scenes(values), self.sum_scenes(np.ones(len(values)))
        means = (self.counts @ sums) / (self.counts @ totals)
        return {"mean": float(values.mean()), "interval": list(percentile_interval(means))}

    def describe(self, measured: Measured) -> dict[str, Any]:
        values = {
            "pointing": measured.hits,
            "near": measured.near,
            "other_object": measured.wrong,
            "mass": measured.mass,
        }
        result: dict[str, Any] = {name: self.estimate(each) for name, each in values.items()}
        for kind in np.unique(self.kind).tolist():
            result[kind] = float(measured.hits[self.kind == kind].mean())
        if measured.agreement is not None:
            result["agreement_with_occlusion"] = self.estimate(measured.agreement)
        return result


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
