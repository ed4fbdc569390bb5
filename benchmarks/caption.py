"""Measure captioning speed of cutline and transformers, with the same weights, interleaved.

    python benchmarks/caption.py --short
    python benchmarks/caption.py --output docs/benchmarks/caption.json \
        --chart docs/benchmarks/caption.svg
    python benchmarks/caption.py --runners cutline-fp32,transformers-fp32 --scenarios batch-8,memory

Weights are random, and all captions have the same length. Progress goes to stderr, tables to
stdout.
"""

import json
import os
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import tyro
from chart import draw_chart
from cold_start import measure_memory, measure_starts
from inputs import PHOTOGRAPH, make_images, write_model, write_photographs
from machine import describe_machine
from rich.console import Console
from roofline import Roofline, measure_roofline, minimum_seconds
from runners import RUNNERS, Images, Runner, find_runner
from scenarios import (
    PROCESS_SCENARIOS,
    SCENARIOS,
    SHORT_SCENARIOS,
    ModelName,
    Outcome,
    RunnerGroup,
    Scenario,
    Timing,
    to_json,
)
from summary import bars, show

from cutline.config import CaptionConfig
from cutline.files import write_text

progress = Console(stderr=True, highlight=False, markup=False)
MEMORY_BATCH = 32


@dataclass(frozen=True)
class Options:
    """Captioning speed of cutline and transformers."""

    short: bool = False
    """only the essentials, in a few minutes"""
    output: str = ""
    """write the result to this JSON file"""
    chart: str = ""
    """draw the result as this SVG file"""
    runners: str = ""
    """names separated by commas (default: all)"""
    scenarios: str = ""
    """names separated by commas (default: all, or those of --short)"""
    repeats: int = 0
    """runs of each runner in each scenario (0: 3, or 2 with --short)"""
    size: Literal["base", "large", "tiny"] = "base"
    """model size; tiny is for testing this script"""
    limit: float = 0.0
    """a runner that takes longer, in seconds, runs only once, on a single batch (0: 60, or 15 with
    --short)"""
    merge_tokens: int = 0
    """visual tokens that cutline merges in each block; captions then differ"""

    def select_runners(self) -> list[Runner]:
        """Return the requested runners; exit for an unknown name."""
        chosen = (
            [find_runner(name) for name in self.runners.split(",")]
            if self.runners
            else list(RUNNERS)
        )
        return [replace(runner, merge_tokens=self.merge_tokens) for runner in chosen]

    def select_scenarios(self) -> tuple[list[Scenario], list[str]]:
        """Return the scenarios to time here, and those for processes; exit for unknown names."""
        if not self.scenarios:
            return list(SHORT_SCENARIOS if self.short else SCENARIOS), [] if self.short else list(
                PROCESS_SCENARIOS
            )
        by_name = {scenario.name: scenario for scenario in SCENARIOS}
        names = [name.strip() for name in self.scenarios.split(",")]
        if unknown := [name for name in names if name not in (*by_name, *PROCESS_SCENARIOS)]:
            existing = ", ".join((*by_name, *PROCESS_SCENARIOS))
            raise SystemExit(f"no scenario is called {unknown[0]!r}; there are {existing}")
        return [by_name[name] for name in names if name in by_name], [
            name for name in names if name in PROCESS_SCENARIOS
        ]


class Benchmark:
    """A run of this script in a temporary folder."""

    def __init__(self, options: Options, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.runners = options.select_runners()
        self.repeats = options.repeats or (2 if options.short else 3)
        self.limit = options.limit or (15.0 if options.short else 60.0)
        self.scenarios, self.processes = options.select_scenarios()
        self.seconds_per_image: dict[str, float] = {}

    def run(self) -> dict[str, Any]:
        """Measure everything; the roofline twice, before and after."""
        small = self.options.size == "tiny"
        progress.print("measuring roofline")
        before = measure_roofline(small)
        timed = [each for model in get_args(ModelName) for each in self._time_scenarios(model)]
        in_processes = self._measure_in_processes()
        roofline = before.best(measure_roofline(small))
        scenarios = [self._entry(scenario, outcomes, roofline) for scenario, outcomes in timed]
        result = {
            "machine": describe_machine(),
            "options": self._option_values(),
            "roofline": asdict(roofline),
            "scenarios": scenarios,
            **in_processes,
        }
        return {**result, "bars": bars(result)}

    def _config(self, model: ModelName) -> CaptionConfig:
        if model == "base":
            return CaptionConfig.preset(self.options.size)
        tiny = model == "small" or self.options.size == "tiny"
        return CaptionConfig.preset("tiny" if tiny else "large")

    def _model(self, model: ModelName) -> Path:
        """Return the folder of the model, which is written on first use."""
        folder = self.folder / model
        if not folder.exists():
            progress.print("drawing random weights")
            write_model(folder, self._config(model))
        return folder

    def _time_scenarios(self, model: ModelName) -> list[tuple[Scenario, dict[str, Outcome]]]:
        scenarios = [scenario for scenario in self.scenarios if scenario.model == model]
        if not scenarios:
            return []
        runners = [
            runner
            for runner in self.runners
            if any(runner.name in scenario.runners for scenario in scenarios)
        ]
        field = RunnerGroup(
            runners, self._model(model), self._random_images(1, model), self.limit, progress.print
        )
        outcomes = [
            (scenario, field.run(scenario, self._sources(scenario), self.repeats))
            for scenario in scenarios
        ]
        self.seconds_per_image = {**field.seconds_per_image, **self.seconds_per_image}
        return outcomes

    def _random_images(self, count: int, model: ModelName = "base") -> Images:
        """Return arrays of the model's image size."""
        side = self._config(model).vision.image_size
        return make_images(count, side, side)

    def _sources(self, scenario: Scenario) -> Images:
        if not scenario.from_files:
            return self._random_images(scenario.images, scenario.model)
        return write_photographs(
            self.folder / "photographs", make_images(scenario.images, *PHOTOGRAPH)
        )

    def _measure_in_processes(self) -> dict[str, dict[str, Any]]:
        """Measure start times and memory, each runner in its own processes."""
        measured: dict[str, dict[str, Any]] = {name: {} for name in PROCESS_SCENARIOS}
        if not self.processes:
            return measured
        model, images = self._model("base"), self.folder / "images.npy"
        np.save(
            images, np.stack([np.asarray(image) for image in self._random_images(MEMORY_BATCH)])
        )
        for name in self.processes:
            for runner in self.runners:
                progress.print(f"{name}: {runner.name}")
                measure = measure_starts if name == "starts" else self._memory
                measured[name][runner.name] = measure(runner, model, images)
        return measured

    def _memory(self, runner: Runner, model: Path, images: Path) -> dict[str, Any]:
        if (
            seconds := self.seconds_per_image.get(runner.name, 0.0) * MEMORY_BATCH
        ) > 4 * self.limit:
            return {"not_available": f"a batch of {MEMORY_BATCH} would take {seconds:.0f} s"}
        return measure_memory(runner, model, images, MEMORY_BATCH, self.folder)

    def _entry(
        self, scenario: Scenario, outcomes: dict[str, Outcome], roofline: Roofline
    ) -> dict[str, object]:
        config = self._config(scenario.model)
        precisions = {
            runner.name: runner.precision for runner in self.runners if runner.library == "cutline"
        }
        minimums = {
            name: minimum_seconds(config, precisions[name], each.batch, scenario.search, roofline)
            for name, each in outcomes.items()
            if isinstance(each, Timing) and name in precisions and not self.options.merge_tokens
        }
        return to_json(scenario, outcomes, minimums)

    def _option_values(self) -> dict[str, Any]:
        return {
            "size": self.options.size,
            "short": self.options.short,
            "repeats": self.repeats,
            "limit": self.limit,
            "merge_tokens": self.options.merge_tokens,
        }


def main(options: Options) -> None:
    """Measure, write the requested files, and print the tables."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CUTLINE_CACHE"] = folder  # the compiled random model is of no further use
        result = Benchmark(options, Path(folder)).run()
    if options.output:
        write_text(options.output, json.dumps(result, indent=1) + "\n")
    if options.chart:
        write_text(options.chart, draw_chart(result))
    show(result, Console(width=max(120, Console().width)))


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
