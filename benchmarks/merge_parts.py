"""The parts of `merge_tokens.py`: speed with random weights, quality of a trained captioner."""

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

import numpy as np
from inputs import make_images, write_model
from results import progress
from runners import TRANSFORMERS_FP32, Runner, Search, find_runner, load_runner

import cutline
from cutline.config import CaptionConfig, DataSource, InferencePrecision
from cutline.data import Sample, open_data
from cutline.image import open_image
from cutline.metrics import CorpusStats, choose_tokenizer, collect_stats, compare_stats

MERGE_TOKENS = {
    "speed": (0, 23, 45),
    "quality": (0, 1, 2, 3, 4, 6, 8, 12, 16, 17, 18, 19, 20, 21, 22, 23, 24, 32),
}
"""numbers of tokens that merge in each block, by part"""
MIN_UNCHANGED = 0.85
"""share of captions that the largest recommended number of tokens leaves as they are"""


@dataclass(frozen=True)
class Options:
    """What is measured."""

    size: Literal["base", "large", "tiny"] = "base"
    """speed: size of the model; tiny is for testing this script"""
    merge_tokens: tuple[int, ...] = ()
    """numbers of tokens that merge in each block, 0 first (default: those of `MERGE_TOKENS`)"""
    precisions: tuple[Literal["fp32", "bf16", "int8"], ...] = ("fp32", "bf16", "int8")
    """speed: precisions"""
    transformers: bool = False
    """speed: measure transformers in fp32, too"""
    length: int = 20
    """speed: tokens of each caption, prompt included"""
    batch_size: int = 8
    """images captioned together"""
    repeats: int = 3
    """runs of each, which take turns, after one to warm up"""
    model: str = ""
    """quality: a trained captioner"""
    data: str = ""
    """quality: a dataset with references"""
    precision: InferencePrecision = "fp32"
    """quality: precision"""
    max_length: int = 30
    """quality: maximum length of a caption in tokens, prompt included"""
    limit: int = 0
    """quality: use only the first images (0: all)"""
    resamples: int = 10_000
    """quality: resamples of the bootstrap"""


def measure_speed(options: Options) -> dict[str, Any]:
    """Return the seconds of captioning a batch, and how much faster it is than without merging."""
    names = {
        (precision, number): f"{precision}, {number} merged"
        for precision in options.precisions
        for number in options.merge_tokens
    }
    with tempfile.TemporaryDirectory() as folder:
        config = CaptionConfig.preset(options.size)
        progress.print("drawing random weights")
        write_model(Path(folder) / "model", config)
        runners = {
            name: Runner("cutline", precision, merge_tokens=number)
            for (precision, number), name in names.items()
        }
        if options.transformers:
            runners[TRANSFORMERS_FP32] = find_runner(TRANSFORMERS_FP32)
        loaded = {name: load_runner(each, Path(folder) / "model") for name, each in runners.items()}
    images = make_images(options.batch_size, *[config.vision.image_size] * 2)
    prepared = {name: runner.prepare(images) for name, runner in loaded.items()}
    search = Search(length=options.length)
    seconds = take_turns(
        {
            name: lambda name=name: loaded[name].caption(prepared[name], options.batch_size, search)
            for name in loaded
        },
        options.repeats,
    )
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    result: dict[str, Any] = {
        "seconds": seconds,
        "images_per_s": {name: options.batch_size / value for name, value in medians.items()},
        "ratios": {
            name: medians[names[precision, 0]] / medians[name]
            for (precision, number), name in names.items()
            if number and 0 in options.merge_tokens
        },
    }
    if options.transformers:
        peer = medians[TRANSFORMERS_FP32]
        result["over_transformers"] = {name: peer / medians[name] for name in names.values()}
    return result


def take_turns(runs: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Return the seconds of each of several runs, which take turns; the first turn warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            elapsed = time.perf_counter() - start
            if repeat:
                seconds[name].append(elapsed)
            progress.print(f"{name}: {elapsed:.2f} s")
    return seconds


@dataclass(frozen=True)
class Setting:
    """What a captioner of `measure_quality` is loaded with."""

    image_size: int
    merge_tokens: int = 0

    @property
    def name(self) -> str:
        """Return a name for the progress."""
        return f"{self.image_size} px, {self.merge_tokens} merged"


def measure_quality(options: Options) -> dict[str, Any]:
    """Return speed and CIDEr of a trained captioner with merged tokens, and with small images."""
    samples = [sample for sample in open_data(DataSource(options.data)) if sample.captions]
    samples = samples[: options.limit or None]
    vision = cutline.load(options.model, precision=options.precision).config.vision
    settings = [Setting(vision.image_size, number) for number in options.merge_tokens]
    settings += [Setting(size) for size in list_smaller(vision.image_size, vision.patch_size)]
    captioners = {setting: load_captioner(options, setting) for setting in settings}
    images = [np.asarray(open_image(sample.image)) for sample in samples]
    captions: dict[Setting, list[cutline.Caption]] = {}

    def caption(setting: Setting) -> None:
        length = {"max_length": options.max_length}
        captions[setting] = captioners[setting].caption(
            images, batch_size=options.batch_size, **length
        )

    seconds = take_turns(
        {each.name: lambda each=each: caption(each) for each in settings}, options.repeats
    )
    stats = {each: collect(captions[each], samples) for each in settings}
    plain, rows = settings[0], []
    for each in settings:
        row = compare(stats[plain], stats[each], options.resamples)
        row["unchanged"] = statistics.fmean(
            one.token_ids == two.token_ids
            for one, two in zip(captions[plain], captions[each], strict=True)
        )
        row["tokens"] = captioners[each].model.embeds_shape[0]
        row["seconds"] = seconds[each.name]
        row["images_per_s"] = len(images) / statistics.median(seconds[each.name])
        rows.append({**asdict(each), **row})
    return {"images": len(images), "settings": rows, "recommended": recommend(rows)}


def list_smaller(image_size: int, patch_size: int) -> list[int]:
    """Return smaller image sizes, down to half of the patches per side."""
    patches = image_size // patch_size
    return [patch_size * side for side in range(patches - 1, max(1, patches // 2) - 1, -1)]


def load_captioner(options: Options, setting: Setting) -> cutline.Captioner:
    """Load the captioner of a setting."""
    return cutline.load(options.model, precision=options.precision, **asdict(setting))


def collect(captions: Sequence[cutline.Caption], samples: Sequence[Sample]) -> CorpusStats:
    """Return the statistics of captions, from which scores are computed."""
    references = [sample.captions for sample in samples]
    tokenize = choose_tokenizer("auto", chain.from_iterable(references))
    return collect_stats([caption.text for caption in captions], references, tokenize)


def compare(plain: CorpusStats, other: CorpusStats, resamples: int) -> dict[str, Any]:
    """Return the CIDEr of `other`, and its difference to `plain` with a paired 95 % interval."""
    cider = compare_stats(plain, other, resamples)["cider"]
    return {"cider": cider.second, "difference": cider.value, "interval": list(cider.interval)}


def recommend(rows: Sequence[Mapping[str, Any]]) -> int:
    """Return the largest number of merged tokens whose loss of CIDEr may be chance.

    At least 85 % of the captions are as before, and so it is with every smaller number.
    """
    best = 0
    size = rows[0]["image_size"]
    for row in sorted(
        (row for row in rows if row["image_size"] == size), key=itemgetter("merge_tokens")
    ):
        low, high = row["interval"]
        if not low <= 0 <= high or row["unchanged"] < MIN_UNCHANGED:
            break
        best = row["merge_tokens"]
    return best
