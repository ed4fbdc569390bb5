"""Measure how long a report of many images takes: to write, to open, to filter, to sort.

    python benchmarks/report.py photos --output docs/benchmarks/report.json

The images are those of a folder, repeated as often as needed: each copy is opened and stored as an
image of its own. The page is opened in headless Chromium, from its address until the first cards
are painted; a search, a filter and a sort last until the cards that they choose are painted.
Progress goes to stderr, a line of JSON to stdout.
"""

import json
import random
import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro
from results import make_result, progress, write_result

from cutline.report import About, Card, Column, Gallery, Line, Report, Section, write_report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WORDS = ("a", "dog", "on", "the", "beach", "with", "two", "people", "riding", "horses")
PAINTED = "() => new Promise(done => requestAnimationFrame(() => setTimeout(done)))"


@dataclass(frozen=True)
class Options:
    """Time and size of a report of many images."""

    images: tyro.conf.Positional[str]
    """folder of images"""
    output: str = ""
    """write the result to this JSON file"""
    counts: tuple[int, ...] = (100, 1000, 10_000)
    """images of the reports"""
    repeats: int = 5
    """times that a page is opened, filtered and sorted"""
    browser: str = ""
    """Chromium (default: the one that is installed)"""


def make_report(paths: list[Path], count: int) -> Report:
    """Return a report of images with random captions, five references and two scores each."""
    rng = random.Random(0)

    def draw() -> str:
        return " ".join(rng.choices(WORDS, k=10))

    cards = []
    for number in range(count):
        path = paths[number % len(paths)]
        data = path.read_bytes() + number.to_bytes(4)  # makes it another image
        texts = [draw() for _ in range(5)]
        cards.append(
            Card(
                data,
                [Line(draw())],
                f"{number}-{path.name}",
                str(path),
                texts,
                [rng.gauss(1, 0.4), rng.random()],
                [rng.choice(("right", "wrong"))],
            )
        )
    columns = [Column("CIDEr"), Column("confidence")]
    gallery = Gallery(cards, columns, {"right": "good", "wrong": "bad"})
    return Report(f"{count:,} images", About(str(paths[0].parent)), [Section("Images", [gallery])])


def measure_page(browser: "Browser", address: str) -> dict[str, float]:
    """Return the seconds until the page is open, and until it has changed, by what is done."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    actions = {
        "open": lambda: page.goto(address),
        "search": lambda: page.get_by_label("Search").fill("horses beach"),
        "filter": lambda: page.get_by_role("button", name="wrong").click(),
        "sort": lambda: page.get_by_label("Order").select_option(index=2),
        "scroll": lambda: scroll(page, 30),
    }
    seconds = {}
    for name, act in actions.items():
        start = time.perf_counter()
        act()
        page.evaluate(PAINTED)
        seconds[name] = time.perf_counter() - start
    page.close()
    return seconds


def scroll(page: "Page", screens: int) -> None:
    """Scroll down by some screens, one after another."""
    for _ in range(screens):
        page.mouse.wheel(0, 900)
        page.evaluate(PAINTED)


def measure_report(options: Options, paths: list[Path], count: int) -> dict[str, Any]:
    """Write a report, and open it."""
    from playwright.sync_api import sync_playwright

    progress.print(f"{count:,} images …")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = Path(folder) / "report.html"
        start = time.perf_counter()
        write_report(path, make_report(paths, count))
        result: dict[str, Any] = {"images": count, "write_s": time.perf_counter() - start}
        result["megabytes"] = path.stat().st_size / 1e6
        program = options.browser or shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        runs = [measure_page(browser, path.as_uri()) for _ in range(options.repeats)]
        browser.close()
    for name in runs[0]:
        result[f"{name}_s"] = statistics.median(run[name] for run in runs)
    return {name: round(value, 3) for name, value in result.items()}


def main() -> None:
    """Measure reports of several sizes."""
    options = tyro.cli(Options)
    paths = sorted(Path(options.images).glob("*.jpg")) or sorted(Path(options.images).glob("*.png"))
    rows = [measure_report(options, paths, count) for count in options.counts]
    name = "/".join(Path(options.images).parts[-2:])
    result = make_result(replace(options, images=name), {"reports": rows})
    write_result(result, options.output)
    print(json.dumps(result))  # noqa: T201


if __name__ == "__main__":
    main()
