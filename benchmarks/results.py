"""What benchmarks print and write: progress, and a result with its options and machine."""

import json
from dataclasses import asdict
from typing import Any

from machine import describe_machine
from rich.console import Console

from cutline.files import write_text

progress = Console(stderr=True, highlight=False, markup=False)

NOT_RECORDED = ("output", "folder")
"""options that do not change what is measured"""


def make_result(options: Any, measured: dict[str, Any]) -> dict[str, Any]:
    """Return what was measured, with the options and the machine."""
    recorded = {name: v for name, v in asdict(options).items() if name not in NOT_RECORDED}
    return {"options": recorded, **measured, "machine": describe_machine()}


def write_result(result: dict[str, Any], output: str) -> None:
    """Write a result to a JSON file, if one is named."""
    if output:
        write_text(output, json.dumps(result, indent=1) + "\n")
