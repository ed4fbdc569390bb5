"""The report of every command in a real browser: accessible, without errors, and it reacts."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browser import assert_accessible, needs_browser, open_browser, open_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

pytestmark = needs_browser

TESTS = Path(__file__).parents[1]
EXAMPLES = {
    "bulk": "bulk/test_bulk_report.py:write_example_report",
    "calibrate": "calibration/test_calibration_report.py:write_example_report",
    "check": "check/test_check_report.py:write_example_report",
    "compare": "evaluation/test_comparison_report.py:write_example_comparison",
    "demo": "demo/test_demo_report.py:write_example_report",
    "evaluate": "evaluation/test_evaluation_report.py:write_example_report",
    "explain": "explanation/test_explain_output.py:write_example_report",
    "filter": "capfilt/test_filter_report.py:write_example_report",
    "lr-range": "training/test_lr_report.py:write_example_report",
    "run": "training/test_run_report.py:write_example_report",
    "runs": "training/test_runs_report.py:write_example_runs_report",
    "search": "retrieval/test_search_report.py:write_example_report",
}
"""the test module of each report, and the function there that writes an example"""
WITHOUT_GALLERY = {"explain", "lr-range"}
FACTS = {"Date", "Version"}
DESKTOP, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    with open_browser() as browser:
        yield browser


def load_writer(place: str) -> Callable[[Path], None]:
    """Return the function that writes an example."""
    file, _, name = place.partition(":")
    path = TESTS / file
    sys.path.insert(0, str(path.parent))  # as pytest does for modules that it collects
    try:
        spec = importlib.util.spec_from_file_location(f"example_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    writer: Callable[[Path], None] = getattr(module, name)
    return writer


def count_found(gallery: "Locator") -> tuple[int, int]:
    """Return how many cards are chosen, and how many there are."""
    words = gallery.locator(".found").inner_text().replace(",", "").split()
    return int(words[0]), int(words[2] if words[1] == "of" else words[0])


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_report_opens_and_reacts(browser: "Browser", tmp_path: Path, name: str) -> None:
    path = tmp_path / "report.html"
    load_writer(EXAMPLES[name])(path)
    with open_page(browser, path.as_uri(), viewport=DESKTOP, color_scheme="light") as page:
        assert page.title()
        assert set(page.locator(".about dt").all_inner_texts()) >= FACTS
        for summary in page.locator("details:not([open]) > summary").all():
            summary.click()  # axe looks at what is open
        assert_accessible(page, f"{name}, light")
        if name not in WITHOUT_GALLERY:
            use_gallery(page)
        page.locator(".theme").click()
        page.set_viewport_size(PHONE)  # type: ignore[arg-type]
        page.evaluate("scrollTo(0, 0)")
        assert_accessible(page, f"{name}, dark, on a phone")
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def use_gallery(page: "Page") -> None:
    """Search, filter, sort and enlarge in the first gallery with controls."""
    gallery = page.locator(".gallery").filter(has=page.locator(".controls:visible")).first
    shown, total = count_found(gallery)
    assert 0 < shown <= total
    search = gallery.get_by_label("Search")
    search.fill("no caption has these words")
    assert count_found(gallery) == (0, total)
    search.fill("")
    order = gallery.get_by_label("Order")
    if order.count():
        for option in order.locator("option").all_inner_texts():
            order.select_option(label=option)
            assert count_found(gallery) == (shown, total)
    pressed = gallery.locator("button.tag[aria-pressed=true]")
    while pressed.count():
        pressed.first.click()
    assert count_found(gallery) == (total, total)
    for tag in gallery.locator("button.tag").all():
        count = int(tag.locator(".count").inner_text().replace(",", ""))
        tag.click()
        assert count_found(gallery) == (count, total)
        tag.click()
    gallery.locator(".open").first.click()
    dialog = page.get_by_role("dialog")
    assert dialog.get_by_text(f"1 of {total}").is_visible()
    page.keyboard.press("Escape")
    assert dialog.is_hidden()
