"""A result as tables, and the few numbers that summarize it."""

from collections.abc import Iterator
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from runners import CUTLINE_FP32, TRANSFORMERS_BF16, TRANSFORMERS_FP32

Json = dict[str, Any]


def bars(result: Json) -> list[Json]:
    """Return the summary: {"what", "runner", "value"} for each number."""
    return [
        {"what": what, "runner": runner, "value": value} for what, runner, value in _bars(result)
    ]


def _bars(result: Json) -> Iterator[tuple[str, str, float]]:
    for scenario in result["scenarios"]:
        yield from _speed_bars(scenario)
    for what, above, below in COSTS:
        yield from _costs(result, what, above, below)
    for name, entry in result["starts"].items():
        if "cold" in entry:
            yield "second start / first start", name, entry["warm"] / entry["cold"]
    yield from _memory(result["memory"])


def _speed_bars(scenario: Json) -> Iterator[tuple[str, str, float]]:
    measured = dict(_measured(scenario))
    for name, entry in measured.items():
        if name != TRANSFORMERS_FP32 and entry["ratio_fp32"]:
            yield (
                f"{scenario['title']}: speed relative to {TRANSFORMERS_FP32}",
                name,
                entry["ratio_fp32"],
            )
    if CUTLINE_FP32 in measured and TRANSFORMERS_FP32 in measured:
        yield (
            f"{scenario['title']}: captions equal to those of {CUTLINE_FP32}",
            TRANSFORMERS_FP32,
            measured[TRANSFORMERS_FP32]["same_captions"],
        )


COSTS = (
    ("cost per image, batch of 32 / batch of 8", "batch-32", "batch-8"),
    ("cost per image, 32 images / 8 images", "images-32", "batch-8"),
    ("cost per image, JPEG files / ready arrays", "files-32", "images-32"),
    ("cost per image, 5 beams / 1 beam", "beams-5", "beams-1"),
    ("cost per image, 40 tokens / 20 tokens", "tokens-40", "batch-8"),
)
"""description, and the scenarios whose seconds per image are divided"""


def _costs(result: Json, what: str, above: str, below: str) -> Iterator[tuple[str, str, float]]:
    scenarios = {scenario["name"]: dict(_measured(scenario)) for scenario in result["scenarios"]}
    under = scenarios.get(below, {})
    for name, entry in scenarios.get(above, {}).items():
        if name in under:
            yield what, name, under[name]["images_per_s"] / entry["images_per_s"]


def _memory(memory: Json) -> Iterator[tuple[str, str, float]]:
    """Yield each runner's peak memory relative to transformers in its precision (int8: fp32)."""
    for name, entry in memory.items():
        peer = TRANSFORMERS_BF16 if "bf16" in name else TRANSFORMERS_FP32
        if "peak_mib" in entry and "peak_mib" in memory.get(peer, {}) and name != peer:
            yield (
                f"peak memory, a batch of 32 / {peer}",
                name,
                entry["peak_mib"] / memory[peer]["peak_mib"],
            )


def _measured(scenario: Json) -> list[tuple[str, Json]]:
    return [(name, entry) for name, entry in scenario["runners"].items() if "seconds" in entry]


def show(result: Json, console: Console) -> None:
    """Print the tables, the missing runners and the summary."""
    for table in _tables(result):
        console.print(table)
    if merged := result["options"].get("merge_tokens"):
        console.print(f"cutline merges {merged} tokens per block; the quality is not measured")
    for name, why in missing(result).items():
        console.print(f"{name} is not available: {why}", markup=False, highlight=False)


def missing(result: Json) -> dict[str, str]:
    """Return the runners that were not measured, and why."""
    places = [
        *(scenario["runners"] for scenario in result["scenarios"]),
        result["starts"],
        result["memory"],
    ]
    return {
        name: entry["not_available"]
        for place in places
        for name, entry in place.items()
        if "not_available" in entry
    }


def _tables(result: Json) -> Iterator[RenderableType]:
    if result["scenarios"]:
        yield _speeds(result["scenarios"])
    if result["starts"]:
        rows = {
            name: [f"{e['cold']:.1f} s", f"{e['warm']:.1f} s"]
            for name, e in result["starts"].items()
            if "cold" in e
        }
        yield _table("First caption of a process", ["runner", "first start", "second start"], rows)
    if result["memory"]:
        names = ("loaded_mib", "loading_peak_mib", "peak_mib")
        rows = {
            name: [f"{e[each]:,.0f}" for each in names]
            for name, e in result["memory"].items()
            if "peak_mib" in e
        }
        yield _table(
            "Memory, MiB",
            ["runner", "loaded", "peak while loading", "peak, batch of 32"],
            rows,
        )
    roofline = result["roofline"]
    yield _table(
        "Roofline",
        ["what", "at most"],
        {name: [f"{value:,.1f}"] for name, value in roofline.items()},
    )
    yield _bar_table(result["bars"])


def _speeds(scenarios: list[Json]) -> Table:
    columns = [
        "per second",
        "s/image",
        "× transformers",
        "× bf16",
        "same captions",
        "of roofline",
        "spread",
        "runs",
    ]
    table = _table("Captioning", ["runner", *columns], {})
    for scenario in scenarios:
        table.add_section()
        table.add_row(f"[bold]{scenario['title']}[/bold]")
        for name, entry in _measured(scenario):
            table.add_row(name, *_speed_cells(entry))
    return table


def _speed_cells(entry: Json) -> list[str]:
    speed = entry["images_per_s"]
    ratios = [_or_dash(entry[name], "{:.2f}") for name in ("ratio_fp32", "ratio_bf16")]
    shares = [
        _or_dash(entry[name], "{:.0%}") for name in ("same_captions", "roofline_share", "spread")
    ]
    return [f"{speed:.3g}", f"{1 / speed:.3g}", *ratios, *shares, str(len(entry["seconds"]))]


def _bar_table(rows: list[Json]) -> Table:
    table = Table("what", "runner", title="Summary")
    table.add_column("value", justify="right")
    for before, row in zip([None, *rows], rows, strict=False):
        same = before is not None and before["what"] == row["what"]
        table.add_row("" if same else row["what"], row["runner"], f"{row['value']:.3g}")
    return table


def _or_dash(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _table(title: str, columns: list[str], rows: dict[str, list[str]]) -> Table:
    table = Table(title=title)
    table.add_column(columns[0], no_wrap=True)
    for column in columns[1:]:
        table.add_column(column, justify="right")
    for name, cells in rows.items():
        table.add_row(name, *cells)
    return table
