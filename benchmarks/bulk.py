"""Measure captioning a collection beside the model alone, and n-best captions from one encoding.

    python benchmarks/bulk.py
    python benchmarks/bulk.py --images photos --precision bf16 --output result.json

A run over image files, which opens them, captions them and writes captions.jsonl with its manifest,
takes turns with the model alone, whose images are in memory as pixels. Then several captions of
each image are sampled: from one encoding of the image, and with a call for each caption, which
encodes the image each time, as data-juicer's image_captioning_mapper does. Weights are random, and
all captions have the same length. Progress goes to stderr, a table to stdout. The result, to
`--output`, has what `cost.py` computes costs from.
"""

import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from inputs import PHOTOGRAPH, make_images, write_model, write_photographs
from machine import describe_machine
from results import progress
from rich.console import Console
from rich.table import Table

from cutline.batching import CaptionRequest
from cutline.bulk.engine import CaptionJob, caption_samples
from cutline.bulk.manifest import Manifest
from cutline.bulk.output import FileOutput
from cutline.bulk.run import CaptionRun
from cutline.config import (
    CaptionConfig,
    DataSource,
    GenerationConfig,
    InferenceConfig,
    InferencePrecision,
)
from cutline.data import Sample, iter_data
from cutline.image import open_image, to_pixels


@dataclass(frozen=True)
class Options:
    """A collection of image files."""

    images: str = ""
    """folder of images (default: photographs are drawn)"""
    size: Literal["base", "large", "tiny"] = "base"
    """model size; tiny is for testing this script"""
    precision: InferencePrecision = "fp32"
    """precision of the captioner"""
    device: str = "cpu"
    """device of the captioner"""
    num_images: int = 64
    """images of a run"""
    num_beams: int = 3
    """beams of a run"""
    batch_size: int = 8
    """images per batch"""
    length: int = 20
    """tokens of each caption, prompt included"""
    repeats: int = 3
    """runs of each kind"""
    candidates: int = 5
    """captions that are sampled of each image"""
    nbest_images: int = 8
    """images of which several captions are sampled"""
    output: Path | None = None
    """JSON file for the result"""


class Benchmark:
    """A captioner with random weights, and images for it."""

    def __init__(self, options: Options, folder: Path) -> None:
        self.options, self.folder = options, folder
        progress.print("drawing random weights")
        write_model(folder / "model", CaptionConfig.preset(options.size))
        length = {"max_length": options.length, "min_length": options.length}
        self.job = CaptionJob(
            str(folder / "model" / "cutline"),
            inference=InferenceConfig(
                options.device, options.precision, batch_size=options.batch_size
            ),
            generation=GenerationConfig(num_beams=options.num_beams, **length),
        )
        self.models = self.job.load()
        self.captioner = self.models.captioner
        self.length = length
        images = options.images or str(self._draw_images())
        samples = itertools.islice(iter_data(DataSource(images)), options.num_images)
        self.samples = [sample for sample in samples if isinstance(sample, Sample)]
        side = self.captioner.config.vision.image_size
        self.pixels = [to_pixels(open_image(sample.image), side) for sample in self.samples]

    def _draw_images(self) -> Path:
        images = make_images(self.options.num_images, *PHOTOGRAPH)
        write_photographs(self.folder / "images", images)
        return self.folder / "images"

    def run_model(self) -> None:
        """Caption pixels in memory."""
        captioner, job = self.captioner, self.job
        prompt_ids = captioner.tokenizer.encode_prompt(captioner.config.prompt)
        waiting = []
        for number, pixels in enumerate(self.pixels):
            request = CaptionRequest(number, job.generation, prompt_ids)
            request.pixels = pixels
            waiting.append(request)
        runner = captioner.make_runner(job.inference.batch_size)
        with torch.inference_mode():
            while waiting or len(runner):
                runner.run_step(waiting)

    def run_collection(self) -> None:
        """Caption image files, and write captions.jsonl."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            output = FileOutput(Path(folder) / "captions.jsonl")
            with Manifest(Path(folder) / "state") as manifest:
                run = CaptionRun(manifest, output)
                run.run(
                    self.samples, lambda samples: caption_samples(self.models, self.job, samples)
                )
            assert run.counts.captioned == len(self.samples)
            self.written = {
                "caption_bytes": count_bytes(output.path),
                "state_bytes": sum(map(count_bytes, (Path(folder) / "state").iterdir())),
            }

    def open_images(self) -> None:
        """Open and resize the image files, in one thread."""
        side = self.captioner.config.vision.image_size
        for sample in self.samples:
            to_pixels(open_image(sample.image), side)

    def measure_sizes(self) -> dict[str, float]:
        """Return the bytes that are read and written, per image."""
        sizes = {"image_bytes": sum(count_bytes(Path(sample.name)) for sample in self.samples)}
        return {name: size / len(self.samples) for name, size in (sizes | self.written).items()}

    def sample_together(self) -> None:
        """Sample several captions of each image from one encoding."""
        self._sample(num_captions=self.options.candidates)

    def sample_each(self) -> None:
        """Sample one caption of each image, several times."""
        for seed in range(self.options.candidates):
            self._sample(seed=seed)

    def _sample(self, **settings: Any) -> None:
        images = [sample.image for sample in self.samples[: self.options.nbest_images]]
        batch_size = self.options.batch_size
        self.captioner.caption(
            images, batch_size=batch_size, sample=True, **self.length, **settings
        )


def count_bytes(path: Path) -> int:
    """Return the size of a file."""
    return path.stat().st_size


def time_runs(kinds: dict[str, Callable[[], None]], repeats: int) -> dict[str, list[float]]:
    """Return the seconds of each run; the kinds take turns, after one to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    next(iter(kinds.values()))()
    for repeat in range(repeats):
        for name in list(kinds)[:: 1 if repeat % 2 else -1]:
            start = time.perf_counter()
            kinds[name]()
            seconds[name].append(time.perf_counter() - start)
            progress.print(f"{name}: {seconds[name][-1]:.2f} s")
    return seconds


def main() -> None:
    """Measure, and print the results."""
    options = tyro.cli(Options, description=__doc__)
    with tempfile.TemporaryDirectory() as folder:
        benchmark = Benchmark(options, Path(folder))
        kinds = {
            "model alone": benchmark.run_model,
            "collection": benchmark.run_collection,
            "opening images": benchmark.open_images,
        }
        rates = time_runs(kinds, options.repeats)
        nbest = {
            "one encoding": benchmark.sample_together,
            "a call for each": benchmark.sample_each,
        }
        nbest_seconds = time_runs(nbest, options.repeats)
        sizes = benchmark.measure_sizes()
    seconds = rates | nbest_seconds
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = {
        "collection": medians["model alone"] / medians["collection"],
        "one encoding": medians["a call for each"] / medians["one encoding"],
    }
    table = Table("run", "seconds", "speed relative to the other")
    for name, median in medians.items():
        table.add_row(name, f"{median:.2f}", f"{ratios[name]:.3f}" if name in ratios else "")
    Console().print(table)
    if options.output:
        count = len(benchmark.samples)
        measured = {
            **sizes,
            "decode_seconds": medians["opening images"] / count,
            "device_seconds": medians["model alone"] / count,
        }
        result = {
            "machine": describe_machine(),
            "options": {name: value for name, value in asdict(options).items() if name != "output"},
            "seconds": seconds,
            "ratios": ratios,
            "measured": measured,
        }
        options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
