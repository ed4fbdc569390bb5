"""Whether the maximum of a heat-map lies on the object that a word means, with intervals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch.nn import functional as F

from cutline.demo.drawing import Scene, draw_mask
from cutline.demo.grammar import ObjectWord, find_object_words
from cutline.explanation.explanation import HeatMap, WordMap
from cutline.metrics import percentile_interval
from cutline.metrics.significance import draw_resamples
from cutline.metrics.stats import Bools, Floats

PATCH_SIZE = 8
"""pixels along a side of a patch of the captioner that is measured"""
TOLERANCE = PATCH_SIZE // 2
"""pixels: half a patch, and 6 % of the image, as in the pointing game (Zhang et al., 2016, arXiv
1608.00507), where it is 15 pixels"""
NEAR_SIZE = 2 * TOLERANCE + 1


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
