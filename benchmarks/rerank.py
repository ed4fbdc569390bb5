"""Measure what ranking 40 sampled captions by a matcher costs, compared with one 3-beam caption.

    python benchmarks/rerank.py
    python benchmarks/rerank.py --output docs/benchmarks/rerank.json

It is the cost of `cutline caption --sample --num-captions 40 --rerank itm --keep 1`, one image at a
time, with a matcher that has an encoder of its own and with one that shares that of the captioner.
Weights are random, and all captions have 20 tokens, prompt included: captions of random weights do
not end, and 40 random ones hardly repeat. The three take turns, five times unless `--repeats` says
otherwise. Progress goes to stderr, a line of JSON to stdout.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from inputs import make_images, write_matcher, write_model
from results import make_result, progress, write_result

import cutline
from cutline.config import CaptionConfig, InferencePrecision
from cutline.reranking import share_encoder


@dataclass(frozen=True)
class Options:
    """Cost of ranking sampled captions by a matcher."""

    output: str = ""
    """write the result to this JSON file"""
    size: Literal["base", "large", "tiny"] = "base"
    """size of both models; tiny is for testing this script"""
    precision: InferencePrecision = "fp32"
    """precision of both models"""
    num_captions: int = 40
    """captions that are sampled and ranked"""
    length: int = 20
    """tokens of each caption, prompt included"""
    repeats: int = 5
    """runs of each, of an image of its own"""


class Benchmark:
    """A captioner and two matchers with random weights, and images for them."""

    def __init__(self, options: Options, folder: Path) -> None:
        self.options = options
        config = CaptionConfig.preset(options.size)
        progress.print("drawing random weights")
        write_model(folder / "model", config)
        captioner = folder / "model" / "cutline"
        write_matcher(folder / "own", config, seed=1)
        write_matcher(folder / "shared", config, seed=1, encoder_of=captioner)
        self.captioner = cutline.load(captioner, precision=options.precision)
        self.matchers = {
            name: cutline.load_matcher(folder / name, precision=options.precision)
            for name in ("own", "shared")
        }
        side = config.vision.image_size
        self.images = make_images(options.repeats + 1, side, side)
        shared = [share_encoder(self.captioner, matcher) for matcher in self.matchers.values()]
        assert shared == [False, True], "the encoders are not recognized"
        self.length: dict[str, Any] = {"max_length": options.length, "min_length": options.length}

    def runs(self) -> dict[str, Callable[[Any], Any]]:
        """Return what is measured: each takes an image."""
        beams: dict[str, Any] = {"num_beams": 3, **self.length}
        sampled: dict[str, Any] = {"sample": True, "num_captions": self.options.num_captions}
        sampled |= self.length
        captioner, matchers = self.captioner, self.matchers
        return {
            "3 beams": lambda image: captioner.caption(image, **beams),
            "own encoder": lambda image: captioner.caption(
                image, rerank=matchers["own"], keep=1, **sampled
            ),
            "shared encoder": lambda image: captioner.caption(
                image, rerank=matchers["shared"], keep=1, **sampled
            ),
        }

    def time_runs(self) -> dict[str, list[float]]:
        """Return the seconds of each run; the first image warms up."""
        runs = self.runs()
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for repeat, image in enumerate(self.images):
            order = [*runs][repeat % 3 :] + [*runs][: repeat % 3]
            for name in order:
                start = time.perf_counter()
                runs[name](image)
                elapsed = time.perf_counter() - start
                if repeat:
                    seconds[name].append(elapsed)
                progress.print(f"{name}: {elapsed:.2f} s")
        return seconds


def main(options: Options) -> None:
    """Measure, and print the result."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as temporary:
        seconds = Benchmark(options, Path(temporary)).time_runs()
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    baseline = medians["3 beams"]
    ratios = {name: value / baseline for name, value in medians.items() if name != "3 beams"}
    for name, ratio in ratios.items():
        progress.print(f"{options.num_captions} captions, {name}: {ratio:.2f} x one of 3 beams")
    result = make_result(options, {"seconds": seconds, "ratios": ratios})
    write_result(result, options.output)
    print(json.dumps(result))  # noqa: T201


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
