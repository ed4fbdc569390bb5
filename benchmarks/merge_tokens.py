"""Measure what merging tokens saves, and what it costs in accuracy.

    python benchmarks/merge_tokens.py --transformers --output docs/benchmarks/merge_tokens.json
    python benchmarks/merge_tokens.py --part quality --model runs/aerial/last \
        --data ucm-captions/block-val.jsonl --output docs/benchmarks/merge_tokens.json \
        --chart docs/benchmarks/merge_tokens.svg

`speed` lets captioners with the same random weights, which merge different numbers of tokens, take
turns in one process; all captions have the same length. `quality` lets a trained captioner caption
images that have references: with merged tokens, and with smaller images instead. Progress goes to
stderr, the result to stdout. Parts that are not measured again stay in the file of `--output`.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro
from merge_chart import draw_merge_chart
from merge_parts import Options, measure_quality, measure_speed
from results import make_result, progress, write_result

from cutline.files import write_text

PARTS = {"speed": measure_speed, "quality": measure_quality}


@dataclass(frozen=True)
class Script(Options):
    """What merging tokens saves, and what it costs in accuracy."""

    part: tuple[Literal["speed", "quality"], ...] = ("speed",)
    """what to measure"""
    output: str = ""
    """JSON file for the result"""
    chart: str = ""
    """SVG file for the chart of speed against CIDEr"""


def main(options: Script) -> None:
    """Measure, write the requested files, and print the result."""
    path = Path(options.output)
    result: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    for part in options.part:
        progress.print(f"measuring {part}")
        result[part] = make_result(options, PARTS[part](options))
        write_result(result, options.output)
    if options.chart and "quality" in result:
        write_text(options.chart, draw_merge_chart(result["quality"]["settings"]))
    print(json.dumps(result))  # noqa: T201


if __name__ == "__main__":
    main(tyro.cli(Script, description=__doc__))
