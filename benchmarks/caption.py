"""How quickly captions are written, by cutline and by transformers, with the same weights, in the same minutes.

    python benchmarks/caption.py --short
    python benchmarks/caption.py --output docs/benchmarks/caption.json --chart docs/benchmarks/caption.svg
    python benchmarks/caption.py --runners cutline-fp32,transformers-fp32 --scenarios batch-8,memory

Weights are random, captions have all the same length. Progress goes to stderr, the tables to stdout.
"""

import datetime
import importlib.metadata
import json
import os
import platform
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from ceilings import Ceilings, floor_seconds, measure_ceilings
from chart import draw_scene
from fresh import measure_memory, measure_starts
from peers import RUNNERS, Pictures, Runner, find_runner
from rich.console import Console
from scenarios import PROCESSES, SCENARIOS, SHORT, Field, Outcome, Scenario, Timing, to_json
from subjects import PHOTOGRAPH, make_pictures, write_model, write_photographs
from summary import bars, show

from cutline.config import CaptionConfig
from cutline.device import has_fast_bf16
from cutline.files import write_text

progress = Console(stderr=True, highlight=False, markup=False)
MEMORY_BATCH = 32


@dataclass(frozen=True)
class Options:
    """Measure captioning, cutline beside transformers."""

    short: bool = False
    """only the essentials, in a few minutes"""
    output: str = ""
    """write the result to this JSON file"""
    chart: str = ""
    """draw_scene the result into this SVG file"""
    runners: str = ""
    """names with commas between them (default: all)"""
    scenarios: str = ""
    """names with commas between them (default: all, or those of --short)"""
    repeats: int = 0
    """runs of each runner in each scenario (0: 3, or 2 with --short)"""
    size: Literal["base", "large", "tiny"] = "base"
    """the model; tiny is for trying this script out"""
    limit: float = 0.0
    """a runner whose run takes more seconds than this runs only once, on as few images as the batch allows (0: 60, or 15 with --short)"""

    def chosen_runners(self) -> list[Runner]:
        """Those asked for. Raises SystemExit for a name that there is not."""
        return (
            [find_runner(name) for name in self.runners.split(",")]
            if self.runners
            else list(RUNNERS)
        )

    def chosen_scenarios(self) -> tuple[list[Scenario], list[str]]:
        """Those that are timed here, and those that need processes. Raises SystemExit for a name that there is not."""
        if not self.scenarios:
            return list(SHORT if self.short else SCENARIOS), [] if self.short else list(PROCESSES)
        known = {scenario.name: scenario for scenario in SCENARIOS}
        names = [name.strip() for name in self.scenarios.split(",")]
        if unknown := [name for name in names if name not in (*known, *PROCESSES)]:
            raise SystemExit(
                f"no scenario is called {unknown[0]!r}; there are {', '.join((*known, *PROCESSES))}"
            )
        return [known[name] for name in names if name in known], [
            name for name in names if name in PROCESSES
        ]


class Benchmark:
    """One run of this script, in a temporary folder."""

    def __init__(self, options: Options, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.runners = options.chosen_runners()
        self.repeats = options.repeats or (2 if options.short else 3)
        self.limit = options.limit or (15.0 if options.short else 60.0)
        self.scenarios, self.processes = options.chosen_scenarios()
        self.pace: dict[str, float] = {}

    def run(self) -> dict[str, Any]:
        """Measure everything; the ceilings twice, at both ends."""
        small = self.options.size == "tiny"
        progress.print("measuring ceilings")
        before = measure_ceilings(small)
        timed = [*self._timed(large=False), *self._timed(large=True)]
        in_processes = self._in_processes()
        ceilings = before.best(measure_ceilings(small))
        scenarios = [self._entry(scenario, outcomes, ceilings) for scenario, outcomes in timed]
        result = {
            "machine": self._machine(),
            "options": self._said(),
            "ceilings": asdict(ceilings),
            "scenarios": scenarios,
            **in_processes,
        }
        return {**result, "bars": bars(result)}

    def _config(self, large: bool) -> CaptionConfig:
        return CaptionConfig.preset(
            "large" if large and self.options.size != "tiny" else self.options.size
        )

    def _model(self, large: bool) -> Path:
        """The folder of the model, written on first use."""
        folder = self.folder / ("large" if large else "model")
        if not folder.exists():
            progress.print("drawing random weights")
            write_model(folder, self._config(large))
        return folder

    def _timed(self, large: bool) -> list[tuple[Scenario, dict[str, Outcome]]]:
        scenarios = [scenario for scenario in self.scenarios if scenario.large == large]
        if not scenarios:
            return []
        wanted = [
            runner
            for runner in self.runners
            if any(runner.name in scenario.runners for scenario in scenarios)
        ]
        field = Field(wanted, self._model(large), self._pictures(1), self.limit, progress.print)
        outcomes = [
            (scenario, field.run(scenario, self._sources(scenario), self.repeats))
            for scenario in scenarios
        ]
        self.pace = {**field.pace, **self.pace}
        return outcomes

    def _pictures(self, count: int) -> Pictures:
        """Arrays in the model's size."""
        side = self._config(large=False).vision.image_size
        return make_pictures(count, side, side)

    def _sources(self, scenario: Scenario) -> Pictures:
        if not scenario.from_files:
            return self._pictures(scenario.pictures)
        return write_photographs(
            self.folder / "photographs", make_pictures(scenario.pictures, *PHOTOGRAPH)
        )

    def _in_processes(self) -> dict[str, dict[str, Any]]:
        """Starts and memory, each runner in processes of its own."""
        found: dict[str, dict[str, Any]] = {name: {} for name in PROCESSES}
        if not self.processes:
            return found
        model, pictures = self._model(large=False), self.folder / "images.npy"
        np.save(
            pictures, np.stack([np.asarray(picture) for picture in self._pictures(MEMORY_BATCH)])
        )
        for name in self.processes:
            for runner in self.runners:
                progress.print(f"{name}: {runner.name}")
                measure = measure_starts if name == "starts" else self._memory
                found[name][runner.name] = measure(runner, model, pictures)
        return found

    def _memory(self, runner: Runner, model: Path, pictures: Path) -> dict[str, Any]:
        if (seconds := self.pace.get(runner.name, 0.0) * MEMORY_BATCH) > 4 * self.limit:
            return {"not_available": f"a batch of {MEMORY_BATCH} would take {seconds:.0f} s"}
        return measure_memory(runner, model, pictures, MEMORY_BATCH, self.folder)

    def _entry(
        self, scenario: Scenario, outcomes: dict[str, Outcome], ceilings: Ceilings
    ) -> dict[str, object]:
        config = self._config(scenario.large)
        precisions = {
            runner.name: runner.precision for runner in self.runners if runner.library == "cutline"
        }
        floors = {
            name: floor_seconds(config, precisions[name], each.batch, scenario.search, ceilings)
            for name, each in outcomes.items()
            if isinstance(each, Timing) and name in precisions
        }
        return to_json(scenario, outcomes, floors)

    def _said(self) -> dict[str, Any]:
        return {
            "size": self.options.size,
            "short": self.options.short,
            "repeats": self.repeats,
            "limit": self.limit,
        }

    def _machine(self) -> dict[str, Any]:
        names = ("cutline", "torch", "transformers", "openvino", "numpy")
        return {
            "cpu": cpu_model(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "bf16_units": has_fast_bf16(torch.device("cpu")),
            "system": platform.platform(),
            "python": platform.python_version(),
            "versions": {name: version for name in names if (version := installed(name))},
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        }


def cpu_model() -> str:
    """What the processor calls itself."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
        platform.processor() or platform.machine(),
    )


def installed(name: str) -> str:
    """The version of a package; empty where it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def main(options: Options) -> None:
    """Measure, write what was asked for, and show the tables."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CUTLINE_CACHE"] = (
            folder  # what is kept of random weights would only be in the way later
        )
        result = Benchmark(options, Path(folder)).run()
    if options.output:
        write_text(options.output, json.dumps(result, indent=1) + "\n")
    if options.chart:
        write_text(options.chart, draw_scene(result))
    show(result, Console(width=max(120, Console().width)))


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
