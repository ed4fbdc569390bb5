"""Compute what captioning a collection costs, from a result of `bulk.py`.

    python benchmarks/cost.py docs/benchmarks/bulk.json --images 1e9 --devices 1000

Prints Markdown tables of docs/clusters.md, which explains the formulas: what was measured, what the
collection needs, and where the bottleneck is with faster devices.
"""

import json
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro
from tyro.conf import Positional

HOUR = 3600
WIDTH = 100
SPEEDUPS = (1, 10, 100, 1000)
UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


@dataclass(frozen=True)
class Options:
    """A collection, and the machines for it."""

    result: Positional[Path]
    """JSON file that bulk.py wrote"""
    images: float = 1e9
    """images of the collection"""
    devices: int = 1000
    """devices that run the model"""
    cores_per_device: float = 4
    """CPU cores that decode images, per device"""
    read_gb_per_s: float = 20
    """gigabytes of images per second that the storage yields, to all machines together"""


@dataclass(frozen=True)
class Measured:
    """What `bulk.py` measured, per image."""

    image_bytes: float
    decode_seconds: float
    device_seconds: float
    caption_bytes: float
    state_bytes: float


@dataclass(frozen=True)
class Cost:
    """What a collection needs."""

    measured: Measured
    options: Options

    @property
    def read_bytes(self) -> float:
        """Return the bytes of all image files."""
        return self.options.images * self.measured.image_bytes

    @property
    def decode_hours(self) -> float:
        """Return the hours of one core to open all images."""
        return self.options.images * self.measured.decode_seconds / HOUR

    @property
    def device_hours(self) -> float:
        """Return the hours of one device to caption all images."""
        return self.options.images * self.measured.device_seconds / HOUR

    @property
    def stages(self) -> dict[str, float]:
        """Return the hours of each stage, if it were the only one."""
        devices = self.options.devices
        return {
            "reading": self.read_bytes / (self.options.read_gb_per_s * 1e9) / HOUR,
            "decoding": self.decode_hours / (devices * self.options.cores_per_device),
            "model": self.device_hours / devices,
        }

    @property
    def bottleneck(self) -> str:
        """Return the stage that takes longest."""
        return max(self.stages, key=self.stages.__getitem__)

    @property
    def wall_hours(self) -> float:
        """Return the hours of the run: the stages overlap, so that the longest one counts."""
        return max(self.stages.values())

    @property
    def balanced_cores(self) -> float:
        """Return the cores per device from which on decoding is not the bottleneck."""
        return self.measured.decode_seconds / self.measured.device_seconds

    @property
    def balanced_read(self) -> float:
        """Return the bytes per second from which on reading is not the bottleneck."""
        return self.options.devices * self.measured.image_bytes / self.measured.device_seconds

    def with_faster_devices(self, factor: float) -> "Cost":
        """Return the cost with devices that take a fraction of the time."""
        seconds = self.measured.device_seconds / factor
        return replace(self, measured=replace(self.measured, device_seconds=seconds))


def format_number(value: float) -> str:
    """Return a number with three significant digits, and with commas if it is large."""
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else f"{value:.3g}"


def format_bytes(value: float) -> str:
    """Return a number of bytes with a decimal unit."""
    unit = 0
    while value >= 1000 and unit < len(UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{format_number(value)} {UNITS[unit]}"


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def format_measured(measured: Measured) -> str:
    """Return the table of what was measured."""
    rows = [
        ("b", "bytes of an image file", format_bytes(measured.image_bytes)),
        ("d", "seconds of a core to open it", format_number(measured.decode_seconds)),
        ("g", "seconds of a device to caption it", format_number(measured.device_seconds)),
        ("w", "bytes in `captions.jsonl`", format_bytes(measured.caption_bytes)),
        ("s", "bytes in the manifest", format_bytes(measured.state_bytes)),
    ]
    return format_table(("", "per image", "measured"), rows)


def format_cost(cost: Cost) -> str:
    """Return the table of what a collection needs."""
    options, measured, stages = cost.options, cost.measured, cost.stages
    rows = [
        ("bytes read", "N b", format_bytes(cost.read_bytes)),
        ("decoding", "N d", f"{format_number(cost.decode_hours)} core-hours"),
        ("model", "N g", f"{format_number(cost.device_hours)} device-hours"),
        ("captions written", "N w", format_bytes(options.images * measured.caption_bytes)),
        ("manifest written", "N s", format_bytes(options.images * measured.state_bytes)),
        ("time to read", "N b / R", f"{format_number(stages['reading'])} h"),
        ("time to decode", "N d / (D c)", f"{format_number(stages['decoding'])} h"),
        ("time of the model", "N g / D", f"{format_number(stages['model'])} h"),
        ("**wall time**", "the longest", f"{format_number(cost.wall_hours)} h: {cost.bottleneck}"),
    ]
    amounts = (
        f"N = {options.images:,.0f}, D = {options.devices:,}, c = {options.cores_per_device:g}, "
        f"R = {options.read_gb_per_s:g} GB/s"
    )
    return format_table(("", "formula", amounts), rows)


def format_speedups(cost: Cost) -> str:
    """Return the table of faster devices."""
    rows = []
    for factor in SPEEDUPS:
        faster = cost.with_faster_devices(factor)
        rows.append(
            (
                "as measured" if factor == 1 else f"{factor:,} × as fast",
                format_number(1 / faster.measured.device_seconds),
                format_number(faster.balanced_cores),
                f"{format_bytes(faster.balanced_read)}/s",
                f"{format_number(faster.wall_hours)} h",
                faster.bottleneck,
            )
        )
    header = ("device", "images/s each, 1 / g", "cores each, d / g", "D b / g", "wall time")
    return format_table((*header, "bottleneck"), rows)


def describe_result(result: dict[str, Any]) -> str:
    """Return a sentence about what was measured where."""
    machine, options = result["machine"], result["options"]
    device = machine.get("gpu") if options["device"] != "cpu" else ""
    device = device or f"{machine['threads']} threads of {machine['cpu']}"
    text = (
        f"Measured on {machine['date']}: BLIP {options['size']}, {options['precision']}, "
        f"{options['num_beams']} beams, {options['length']} tokens, batch {options['batch_size']}. "
        f"The device is {device}."
    )
    return textwrap.fill(text, WIDTH) + "\n"


def format_result(result: dict[str, Any], options: Options) -> str:
    """Return all tables."""
    cost = Cost(Measured(**result["measured"]), options)
    parts = (
        describe_result(result),
        format_measured(cost.measured),
        format_cost(cost),
        format_speedups(cost),
    )
    return "\n".join(parts)


def main() -> None:
    """Print the tables."""
    options = tyro.cli(Options, description=__doc__)
    sys.stdout.write(format_result(json.loads(options.result.read_text("utf-8")), options))


if __name__ == "__main__":
    main()
