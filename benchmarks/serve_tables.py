"""The tables of `serve.py`, in Markdown, as docs/speed.md has them."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

PS = ("p50", "p99")
SUBJECTS = {
    "stream": "`captioner.stream`, without a server",
    "serve": "`cutline serve`, {clients} clients",
    "plain": "plain server, {clients} clients",
    "serve, 1 client": "`cutline serve`, one client",
    "plain, 1 client": "plain server, one client",
}


def format_rows(header: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    """Return a table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |".replace("| --- ", "|---") for cells in lines)


def format_seconds(value: float | None, digits: int = 2) -> str:
    """Return a number of seconds."""
    return "–" if value is None else f"{value:.{digits}f} s"


def format_throughput(part: dict[str, Any]) -> str:
    """Return the images per second of each subject."""
    subjects, clients = part["subjects"], part["options"]["batch_size"]
    ratios = part["ratios"]
    compared = {
        "serve": f"{100 * ratios['serve / stream']:.0f} % of `stream`, "
        f"{ratios['serve / plain']:.1f} × the plain server",
        "serve, 1 client": f"{ratios['serve / plain, 1 client']:.1f} × the plain server",
    }
    return format_rows(
        ("", "images/s", "compared"),
        (
            (
                SUBJECTS[name].format(clients=clients),
                f"{values['images_per_s']:.2f}",
                compared.get(name, ""),
            )
            for name, values in subjects.items()
        ),
    )


def format_latency(part: dict[str, Any]) -> str:
    """Return the latency at each load."""
    return format_rows(
        ("load", "images/s", "first words: p50", "p99", "caption: p50", "p99"),
        (
            (
                f"{100 * load['share']:.0f} %",
                f"{load['rate']:.2f}",
                *(format_seconds(load[name][p]) for name in ("first_text", "caption") for p in PS),
            )
            for load in part["loads"]
        ),
    )


def format_memory(part: dict[str, Any]) -> str:
    """Return the memory after each step."""
    steps = range(1, len(part["mib"]) + 1)
    return format_rows(
        ("requests", *(f"{part['step'] * step:,}" for step in steps)),
        iter([("MiB", *(f"{mib:.0f}" for mib in part["mib"]))]),
    )


def format_overload(part: dict[str, Any]) -> str:
    """Return what became of the requests."""
    statuses, refused = part["statuses"], format_seconds(part["refused"]["p99"])
    count = sum(statuses.values())
    rows = [
        ("requests", f"{count:,} in {part['options']['seconds']:g} s"),
        ("captioned", f"{statuses.get('200', 0):,}, {part['images_per_s']:.2f} per second"),
        ("slowest of them", f"{part['accepted']['max']:.1f} s of {part['deadline']:.1f} s allowed"),
        (
            "refused with 429",
            f"{statuses.get('429', 0):,}, p99 {refused}",
        ),
        ("late, with 504", f"{statuses.get('504', 0):,}"),
        ("all answered", f"{part['drain']:.1f} s after the last request"),
        ("as fast as before", f"{format_seconds(part['recovery'], 1)} after that"),
    ]
    return format_rows(("", ""), iter(rows))


FORMATS: dict[str, Callable[[dict[str, Any]], str]] = {
    "throughput": format_throughput,
    "latency": format_latency,
    "memory": format_memory,
    "overload": format_overload,
}
"""the table of each part of a result"""


def format_tables(result: dict[str, Any]) -> str:
    """Return the tables of all parts."""
    return "\n\n".join(FORMATS[name](part) for name, part in result.items()) + "\n"
