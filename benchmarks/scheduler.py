"""Measure requests with different settings in one batch, and the latency of one beside others.

    python benchmarks/scheduler.py
    python benchmarks/scheduler.py --size large --batch-size 4 --repeats 3

Weights are random, and all captions have the same length. The runs take turns. Progress goes to
stderr, a table and a line of JSON to stdout.
"""

import json
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from inputs import make_images, write_model
from results import progress
from rich.console import Console
from rich.table import Table

import cutline
from cutline.config import CaptionConfig, InferencePrecision

SETTINGS: dict[str, dict[str, Any]] = {
    "3 beams": {"num_beams": 3},
    "5 beams": {"num_beams": 5},
    "greedy": {"num_beams": 1},
    "sampling": {"sample": True},
}


@dataclass(frozen=True)
class Options:
    """Requests with different settings in one batch."""

    size: Literal["base", "large", "tiny"] = "base"
    """model size; tiny is for testing this script"""
    precision: InferencePrecision = "fp32"
    """precision of the captioner"""
    device: str = "cpu"
    """device of the captioner"""
    batch_size: int = 8
    """requests that run together"""
    num_images: int = 16
    """requests of a run"""
    length: int = 20
    """tokens of each caption, prompt included"""
    repeats: int = 5
    """runs of each kind"""


class Benchmark:
    """A captioner with random weights, and images for it."""

    def __init__(self, options: Options, folder: Path) -> None:
        self.options = options
        config = CaptionConfig.preset(options.size)
        progress.print("drawing random weights")
        write_model(folder / "model", config)
        self.captioner = cutline.load(
            folder / "model" / "cutline", options.device, options.precision
        )
        side = config.vision.image_size
        self.images = make_images(options.num_images, side, side)
        self.length = {"max_length": options.length, "min_length": options.length}

    def time_runs(self) -> dict[str, list[float]]:
        """Return the seconds of each run: of requests with equal settings, and of a mix of all."""
        kinds = list(SETTINGS.values())
        runs = {name: [settings] for name, settings in SETTINGS.items()} | {"mix": kinds}
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        self._time_run(kinds)  # warm up
        for repeat in range(self.options.repeats):
            for name in [*runs][repeat % len(runs) :] + [*runs][: repeat % len(runs)]:
                seconds[name].append(self._time_run(runs[name]))
                progress.print(f"{name}: {seconds[name][-1]:.2f} s")
        return seconds

    def _time_run(self, kinds: list[dict[str, Any]]) -> float:
        """Return the seconds of requests with the settings of `kinds` in turn."""
        with cutline.CaptionScheduler(self.captioner, self.options.batch_size) as scheduler:
            start = time.perf_counter()
            requests = [
                scheduler.submit(image, **self.length, **kinds[number % len(kinds)])
                for number, image in enumerate(self.images)
            ]
            for request in requests:
                request.result()
            return time.perf_counter() - start

    def measure_latency(self) -> dict[str, list[float]]:
        """Return the seconds of one request alone, and of one beside batch_size - 1 others."""
        seconds: dict[str, list[float]] = {"alone": [], "beside others": []}
        settings = {**self.length, "num_beams": 3}
        with cutline.CaptionScheduler(self.captioner, self.options.batch_size) as scheduler:
            for _ in range(self.options.repeats):
                start = time.perf_counter()
                scheduler.submit(self.images[0], **settings).result()
                seconds["alone"].append(time.perf_counter() - start)
                others = [
                    scheduler.submit(image, **settings)
                    for image in self.images[: self.options.batch_size - 1]
                ]
                for other in others:
                    next(iter(other))  # it runs
                start = time.perf_counter()
                scheduler.submit(self.images[0], **settings).result()
                seconds["beside others"].append(time.perf_counter() - start)
                for other in others:
                    other.result()
        return seconds


def main() -> None:
    """Measure, and print the results."""
    options = tyro.cli(Options, description=__doc__)
    with tempfile.TemporaryDirectory() as folder:
        benchmark = Benchmark(options, Path(folder))
        runs, latency = benchmark.time_runs(), benchmark.measure_latency()
    medians = {name: statistics.median(seconds) for name, seconds in runs.items()}
    mean = statistics.mean(medians[name] for name in SETTINGS)
    table = Table("requests", "seconds", "of the mean of the first four")
    for name, median in medians.items():
        table.add_row(name, f"{median:.2f}", f"{median / mean:.2f}")
    for name, seconds in latency.items():
        table.add_row(f"one, {name}", f"{statistics.median(seconds):.2f}", "")
    Console().print(table)
    result = {
        "options": asdict(options),
        "torch": torch.__version__,
        "seconds": runs,
        "latency": latency,
        "mix_ratio": medians["mix"] / mean,
    }
    print(json.dumps(result))  # noqa: T201


if __name__ == "__main__":
    main()
