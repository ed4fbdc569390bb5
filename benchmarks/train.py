"""Measure training speed and memory of cutline and transformers, interleaved, each in a process.

    python benchmarks/train.py --output docs/benchmarks/train.json
    python benchmarks/train.py --size tiny --images 4          # to test this script

Both have the same random weights, images, captions and AdamW, and no dropout, so that their losses
can be compared. Progress goes to stderr, the table to stdout.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import tyro
from inputs import write_model
from machine import cpu_model
from rich.console import Console
from rich.table import Table
from train_worker import Worker

from cutline.config import PRESETS
from cutline.files import write_text

console = Console(stderr=True, highlight=False, markup=False)
SCRIPT = Path(__file__).with_name("train_worker.py")


@dataclass(frozen=True)
class Options:
    """Training speed and memory of cutline and transformers."""

    output: str = ""
    """write the result to this JSON file"""
    size: Literal["base", "large", "tiny"] = "base"
    """model size"""
    precision: Literal["fp32", "bf16"] = "fp32"
    """precision of both libraries; bf16 is autocast"""
    images: int = 8
    """images per step"""
    captions: int = 1
    """captions per image; cutline encodes an image once for all of them"""
    steps: int = 3
    """measured steps, after one warm-up step"""
    workers: str = ""
    """names separated by commas (default: all)"""


def make_workers(options: Options, folder: str) -> list[Worker]:
    """Return the workers to measure."""
    each = {
        "cutline": (),
        "cutline, no checkpointing": (("memory", {"selective_checkpointing": False}),),
        "cutline, vision checkpointed": (
            ("memory", {"vit_grad_ckpt": True, "vit_ckpt_layer": 99}),
        ),
        "cutline, compiled": (("compile", True),),
        "cutline, LoRA": (("lora", {"rank": 16}),),
    }
    cutline = [
        Worker(
            name, "cutline", options.precision, folder, options.images, options.captions, settings
        )
        for name, settings in each.items()
    ]
    baseline = Worker(
        "transformers",
        "transformers",
        options.precision,
        folder,
        options.images,
        options.captions,
    )
    selected = [name.strip() for name in options.workers.split(",") if name.strip()]
    return [
        worker
        for worker in (baseline, *cutline)
        if not selected or worker.name.replace(", ", "-").replace(" ", "-") in selected
    ]


def measure(options: Options) -> dict[str, Any]:
    """Run the steps of all workers, interleaved."""
    answers: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = f"{temporary}/model"
        write_model(Path(folder), PRESETS[options.size])
        running = {}
        for worker in make_workers(options, folder):
            running[worker.name] = subprocess.Popen(
                [sys.executable, str(SCRIPT), worker.to_json()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            answers[worker.name] = []
        for number in range(options.steps + 1):
            for name, process in running.items():
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write("step\n")
                process.stdin.flush()
                line = process.stdout.readline()
                if not line:
                    raise SystemExit(f"{name} ended with code {process.wait()}")
                answers[name].append(json.loads(line))
                last = answers[name][-1]
                console.print(
                    f"step {number}  {name:<28}{last['seconds']:8.2f} s  loss {last['loss']:.4f}"
                )
        for process in running.values():
            process.communicate()
    return {
        "options": asdict(options),
        "machine": cpu_model(),
        "workers": {name: summary(steps) for name, steps in answers.items()},
    }


def summary(steps: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the median step without the first, the peak memory and the losses."""
    return {
        "seconds": statistics.median(step["seconds"] for step in steps[1:]),
        "peak_mib": steps[-1]["peak_mib"],
        "losses": [step["loss"] for step in steps],
    }


def show(result: dict[str, Any]) -> Table:
    """Return a table with a row per worker and its ratio to transformers."""
    options, workers = result["options"], result["workers"]
    table = Table(
        "",
        "s / step",
        "images / s",
        "× transformers",
        "peak GiB",
        "of transformers",
        "last loss",
        title=describe(options),
    )
    baseline = workers.get("transformers")
    for name, worker in workers.items():
        ratios = (
            (
                f"{baseline['seconds'] / worker['seconds']:.2f}",
                f"{worker['peak_mib'] / baseline['peak_mib']:.2f}",
            )
            if baseline
            else ("-", "-")
        )
        table.add_row(
            name,
            f"{worker['seconds']:.2f}",
            f"{options['images'] / worker['seconds']:.3f}",
            ratios[0],
            f"{worker['peak_mib'] / 1024:.2f}",
            ratios[1],
            f"{worker['losses'][-1]:.4f}",
        )
    return table


def describe(options: dict[str, Any]) -> str:
    """Return a title."""
    batch = f"{options['images']} images x {options['captions']} captions"
    return f"{options['size']}, {options['precision']}, {batch}"


def main(options: Options) -> None:
    """Measure, print and write."""
    result = measure(options)
    Console().print(show(result))
    if options.output:
        write_text(options.output, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
