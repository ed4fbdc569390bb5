"""Measure the HTTP server: throughput, latency under load, memory, and overload.

    python benchmarks/serve.py --output docs/benchmarks/serve.json
    python benchmarks/serve.py --part throughput latency --rounds 2 --seconds 60
    python benchmarks/serve.py --images photos --size large --device cuda

This process is the client; the servers are processes of their own. `throughput` lets `cutline
serve`, a plain server with FastAPI and transformers that handles one request at a time, and
`captioner.stream` without a server take turns with the same JPEG files. `latency` sends requests
at random times, at several shares of the capacity, and reads captions word by word. `memory` sends
many requests of all kinds to a server with a tiny model. `overload` sends more than the server can
take. Weights are random, and all captions have the same length. Progress goes to stderr, tables to
stdout. Parts that are not measured again stay in the file of `--output`.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import tyro
from results import make_result, progress, write_result
from serve_parts import (
    measure_latency,
    measure_memory,
    measure_overload,
    measure_throughput,
)
from serve_setup import Setup
from serve_tables import format_tables

from cutline.config import InferencePrecision

Part = Literal["throughput", "latency", "memory", "overload"]

PARTS: dict[Part, Callable[[Setup], dict[str, Any]]] = {
    "throughput": measure_throughput,
    "latency": measure_latency,
    "memory": measure_memory,
    "overload": measure_overload,
}


@dataclass(frozen=True)
class Options:
    """The HTTP server: throughput, latency under load, memory, and overload."""

    part: tuple[Part, ...] = get_args(Part)
    """what to measure"""
    size: Literal["base", "large", "tiny"] = "base"
    """model size; tiny is for testing this script"""
    images: str = ""
    """folder of JPEG files (default: photographs are drawn)"""
    device: str = "cpu"
    """device of the captioner"""
    precision: InferencePrecision = "fp32"
    """precision of the captioner"""
    batch_size: int = 16
    """images captioned together, and clients that send requests at the same time"""
    num_images: int = 64
    """images of a round"""
    num_single: int = 8
    """images of a round for a single client, and for the plain server"""
    rounds: int = 3
    """rounds of the throughput"""
    seconds: float = 120
    """how long requests are sent at each share of the capacity, and in overload"""
    num_requests: int = 10_000
    """requests to the tiny model whose memory is measured"""
    seed: int = 0
    """seed of the times of requests"""
    output: str = ""
    """JSON file for the result"""


def main() -> None:
    """Measure, and print the results."""
    options = tyro.cli(Options, description=__doc__)
    path = Path(options.output)
    result: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    with tempfile.TemporaryDirectory() as folder, Setup(options, Path(folder)) as setup:
        for part in options.part:
            progress.print(f"measuring {part}")
            result[part] = make_result(options, PARTS[part](setup))
            write_result(result, options.output)
    sys.stdout.write(format_tables(result))


if __name__ == "__main__":
    main()
