"""Measure what token merging saves, and what it costs in accuracy.

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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import tyro
from merge_chart import draw_merge_chart
from merge_parts import MERGE_TOKENS, Options, measure_quality, measure_speed
from results import make_result, progress, write_result

from cutline.files import write_text

PARTS = {"speed": measure_speed, "quality": measure_quality}


@dataclass(frozen=True)
class Script(Options):
    """What token merging saves, and what it costs in accuracy."""

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
        chosen = replace(options, merge_tokens=options.merge_tokens or MERGE_TOKENS[part])
        result[part] = make_result(chosen, PARTS[part](chosen))
        write_result(result, options.output)
    if options.chart and "quality" in result:
        write_text(options.chart, draw_merge_chart(result["quality"]["settings"]))
    print(json.dumps(result))  # noqa: T201


if __name__ == "__main__":
    main(tyro.cli(Script, description=__doc__))
