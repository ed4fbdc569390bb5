"""Draw a result as one SVG file without scripts or fonts, for light and dark pages."""

from collections.abc import Iterator
from html import escape
from typing import Any

WIDTH, LEFT, RIGHT = 860, 200, 150
"""widths of the chart, of the runner names, and of the numbers behind the bars"""
BAR, ROW, HEADING, GAP, TOP = 16, 24, 30, 12, 76

STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-size: 18px; font-weight: 600 }
.heading { font-weight: 600 }
.machine, .note { font-size: 12px; fill: #57606a }
.page { fill: #ffffff }
.cutline { fill: #1f6feb }
.peer { fill: #afb8c1 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .machine, .note { fill: #8d96a0 }
  .page { fill: #0d1117 }
  .cutline { fill: #388bfd }
  .peer { fill: #545d68 }
}
"""


def draw_chart(result: dict[str, Any]) -> str:
    """Draw images per second as bars, grouped by scenario, with the ratio to transformers fp32.

    Each scenario has its own scale, because speeds differ by hundreds between model sizes.
    """
    y, parts = TOP, []
    for scenario in result["scenarios"]:
        most = max((speed for _, speed, _ in _rows(scenario)), default=1.0)
        parts.append(_text(LEFT, y + HEADING - 10, "heading", scenario["title"]))
        y += HEADING
        for name, speed, ratio in _rows(scenario):
            parts.extend(_bar(y, name, speed, ratio, most))
            y += ROW
        y += GAP
    return _page(y + GAP, result, parts)


def _rows(scenario: dict[str, Any]) -> Iterator[tuple[str, float, float | None]]:
    for name, entry in scenario["runners"].items():
        if "images_per_s" in entry:
            yield name, entry["images_per_s"], entry["ratio_fp32"]


def _bar(y: int, name: str, speed: float, ratio: float | None, most: float) -> Iterator[str]:
    length = max(1.0, (WIDTH - LEFT - RIGHT) * speed / most)
    kind = "cutline" if name.startswith("cutline") else "peer"
    times = "" if ratio is None else f" · {ratio:.2g}×"
    yield _text(LEFT - 10, y + 12, "name", name, anchor="end")
    yield f'<rect class="{kind}" x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2"/>'
    yield _text(LEFT + length + 8, y + 12, "value", f"{speed:.3g} /s{times}")


def _page(height: int, result: dict[str, Any], parts: list[str]) -> str:
    title = "Captions: images per second"
    note = (
        "behind each bar: images per second, and speed relative to transformers fp32; "
        "each group has its own scale"
    )
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" role="img">',
        f"<title>{title}</title><style>{STYLE}</style>",
        f'<rect class="page" width="{WIDTH}" height="{height}"/>',
        _text(24, 32, "title", title),
        _text(24, 52, "machine", format_machine(result)),
        _text(24, 70, "note", note),
    ]
    return "\n".join([*head, *parts, "</svg>\n"])


def format_machine(result: dict[str, Any]) -> str:
    """Return model, machine and library versions in one line."""
    machine = result["machine"]
    units = "native bf16" if machine["native_bf16"] else "no native bf16"
    libraries = ", ".join(
        f"{name} {version}"
        for name, version in machine["versions"].items()
        if name in ("torch", "transformers")
    )
    merged = result["options"].get("merge_tokens")  # of older results: none
    merging = f", {merged} tokens merged per block by cutline" if merged else ""
    hardware = f"{machine['cpu']}, {machine['threads']} threads, {units}"
    return f"BLIP {result['options']['size']}{merging}; {hardware}; {libraries}"


def _text(x: float, y: float, kind: str, text: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'
