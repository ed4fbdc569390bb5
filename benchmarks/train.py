"""How quickly a captioner learns, and in how much memory: cutline and transformers, in turns, each in a process of its own.

    python benchmarks/train.py --output docs/benchmarks/train.json
    python benchmarks/train.py --size tiny --images 4          # to try this script out

The same random weights, images, captions and AdamW; dropout off, so that the losses can be compared. Progress goes to stderr, the
table to stdout.
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
from caption import cpu_model
from rich.console import Console
from rich.table import Table
from subjects import write_model
from trainee import Trainee

from cutline.config import PRESETS
from cutline.files import write_text

console = Console(stderr=True, highlight=False, markup=False)
SCRIPT = Path(__file__).with_name("trainee.py")


@dataclass(frozen=True)
class Options:
    """Measure training, cutline beside transformers."""

    output: str = ""
    """write the result to this JSON file"""
    size: Literal["base", "large", "tiny"] = "base"
    """the model"""
    precision: Literal["fp32", "bf16"] = "fp32"
    """of both libraries; bf16 is autocast"""
    pictures: int = 8
    """images per step"""
    captions: int = 1
    """captions per image; cutline reads an image once for all of them"""
    steps: int = 3
    """steps that count; one more before them does not"""
    trainees: str = ""
    """names with commas between them (default: all)"""


def trainees(options: Options, folder: str) -> list[Trainee]:
    """Who is measured."""
    each = {
        "cutline": (),
        "cutline, all kept": (("recompute_cheap", False),),
        "cutline, vision recomputed": (("vit_grad_ckpt", True), ("vit_ckpt_layer", 99)),
        "cutline, compiled": (("compile", True),),
        "cutline, LoRA": (("lora", {"rank": 16}),),
    }
    ours = [
        Trainee(
            name, "cutline", options.precision, folder, options.pictures, options.captions, settings
        )
        for name, settings in each.items()
    ]
    theirs = Trainee(
        "transformers",
        "transformers",
        options.precision,
        folder,
        options.pictures,
        options.captions,
    )
    wanted = [name.strip() for name in options.trainees.split(",") if name.strip()]
    return [
        trainee
        for trainee in (theirs, *ours)
        if not wanted or trainee.name.replace(", ", "-").replace(" ", "-") in wanted
    ]


def measure(options: Options) -> dict[str, Any]:
    """Steps of all trainees in turns."""
    answers: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = f"{temporary}/model"
        write_model(Path(folder), PRESETS[options.size])
        running = {}
        for trainee in trainees(options, folder):
            running[trainee.name] = subprocess.Popen(
                [sys.executable, str(SCRIPT), trainee.to_json()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            answers[trainee.name] = []
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
                console.print(
                    f"step {number}  {name:<28}{answers[name][-1]['seconds']:8.2f} s  loss {answers[name][-1]['loss']:.4f}"
                )
        for process in running.values():
            process.communicate()
    return {
        "options": asdict(options),
        "machine": cpu_model(),
        "trainees": {name: summary(steps) for name, steps in answers.items()},
    }


def summary(steps: list[dict[str, Any]]) -> dict[str, Any]:
    """The median step, without the first, and the most memory."""
    return {
        "seconds": statistics.median(step["seconds"] for step in steps[1:]),
        "peak_mib": steps[-1]["peak_mib"],
        "losses": [step["loss"] for step in steps],
    }


def show(result: dict[str, Any]) -> Table:
    """A row per trainee, with its ratio to transformers."""
    options, found = result["options"], result["trainees"]
    table = Table(
        "",
        "s / step",
        "images / s",
        "× theirs",
        "peak GiB",
        "of theirs",
        "last loss",
        title=describe(options),
    )
    theirs = found.get("transformers")
    for name, one in found.items():
        ratios = (
            (
                f"{theirs['seconds'] / one['seconds']:.2f}",
                f"{one['peak_mib'] / theirs['peak_mib']:.2f}",
            )
            if theirs
            else ("-", "-")
        )
        table.add_row(
            name,
            f"{one['seconds']:.2f}",
            f"{options['pictures'] / one['seconds']:.3f}",
            ratios[0],
            f"{one['peak_mib'] / 1024:.2f}",
            ratios[1],
            f"{one['losses'][-1]:.4f}",
        )
    return table


def describe(options: dict[str, Any]) -> str:
    """What was measured."""
    return f"{options['size']}, {options['precision']}, {options['pictures']} images x {options['captions']} captions"


def main(options: Options) -> None:
    """Measure, show, and write."""
    result = measure(options)
    Console().print(show(result))
    if options.output:
        write_text(options.output, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
