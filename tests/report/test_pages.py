"""Reports in a real browser: nothing fails there, axe-core finds nothing, and all controls work."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from browser import assert_accessible, needs_browser, open_browser, open_page
from PIL import Image

from cutline.report import (
    About,
    Card,
    Column,
    Gallery,
    HistogramChart,
    Line,
    LineChart,
    Problem,
    Problems,
    Report,
    Section,
    Series,
    SideBySide,
    Table,
    Text,
    WordMaps,
    WordOverlay,
    make_word_map_card,
    write_report,
)
from cutline.report.gallery import Tone

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = needs_browser

DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}
SCORES = [0.5, -0.25, 2.0, 1.25]


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


def write_example(path: Path, num_cards: int = 4, refresh: float = 0) -> str:
    """Write a report with a part of every kind; return its address."""
    colors = ["red", "green", "blue", "gold"]
    cards = []
    for number in range(num_cards):
        name = colors[number % 4]
        image = path.parent / f"{name}.png"
        if number < 4:
            Image.new("RGB", (60, 40), name).save(image)
        text = f"a {name} square, number {number}"
        cards.append(
            Card(
                str(image) if number else "gone.png",
                [Line(text, marks=[(2, 2 + len(name), "wrong")] if number % 2 else [])],
                f"{name}.png",
                str(image),
                [f"the {name} one", "Đây là một hình vuông"],
                [SCORES[number % 4] + number // 4],
                ["wrong" if number % 2 else "right"],
            )
        )
    tags: dict[str, Tone] = {"right": "good", "wrong": "bad"}
    gallery = Gallery(cards, [Column("CIDEr")], tags, given_order="as drawn", num_references=1)
    problem = Problem(
        "warning", "wrong words", "Train longer.", [("a", "b")], [cards[-1].image], "wrong"
    )
    scores = [["BLEU-4", 0.3], ["CIDEr", 1.1], ["ROUGE-L", 0.5]]
    table = Table(scores, ["metric", "score"])
    blocks = [
        LineChart("Loss", [Series("loss", [(1, 3.0), (2, 2.0), (3, 1.5)])], "step", "nats"),
        SideBySide([HistogramChart("Lengths", {"": {1: 2, 2: 5}}, "words", "captions"), table]),
        Text("CIDEr is better.", is_lead=True),
    ]
    sections = [
        Section("Findings", [Problems([problem])]),
        Section("Scores", blocks),
        Section("Images", [gallery]),
    ]
    about = About("photos", "runs/my-run", settings={"num_beams": 3})
    write_report(path, Report("An example", about, sections, "An intro.", refresh))
    return path.absolute().as_uri()


@pytest.fixture
def page(browser: "Browser", folder: Path) -> "Iterator[Page]":
    address = write_example(folder / "report.html")
    with open_page(browser, address, viewport=DESKTOP) as page:
        yield page


def read_captions(page: "Page") -> list[str]:
    return page.locator(".card .caption").all_text_contents()


def count_numbers(page: "Page") -> list[int]:
    """Return the numbers of the cards in order."""
    return [int(text.rpartition(" ")[2]) for text in read_captions(page)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_page_is_accessible(
    browser: "Browser", folder: Path, scheme: str, viewport: dict[str, int]
) -> None:
    address = write_example(folder / "report.html")
    with open_page(browser, address, viewport=viewport, color_scheme=scheme) as page:
        assert_accessible(page, "as it opens")
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= viewport["width"]  # nothing is cut off or scrolls sideways
        page.locator(".open").nth(1).click()
        assert_accessible(page, "enlarged")
        page.keyboard.press("Escape")
        page.locator("summary").first.click()
        assert page.get_by_text("num_beams").is_visible()


def test_cards_are_searched_in_captions_names_and_references(page: "Page") -> None:
    search = page.get_by_label("Search")
    assert page.locator(".found").inner_text() == "4 images"
    for text, numbers in {"blue": [2], "one GOLD": [3], "hình": [0, 1, 2, 3], "cat": []}.items():
        search.fill(text)
        assert count_numbers(page) == numbers, text
    assert page.locator(".found").inner_text() == "0 of 4 images"


def test_cards_are_filtered_by_tag_and_by_score(page: "Page") -> None:
    wrong = page.get_by_role("button", name="wrong 2", exact=True)
    wrong.click()
    assert count_numbers(page) == [1, 3]
    page.get_by_label("from").fill("0")
    assert count_numbers(page) == [3]
    page.get_by_role("button", name="right 2", exact=True).click()
    assert count_numbers(page) == [0, 2, 3]
    page.get_by_label("to", exact=True).fill("1.25")
    assert count_numbers(page) == [0, 3]
    page.get_by_role("button", name="Show these images").click()
    assert count_numbers(page) == [1, 3]


def test_all_filters_are_cleared_at_once(page: "Page") -> None:
    clear = page.get_by_role("button", name="Clear filters")
    assert clear.is_hidden()
    page.get_by_label("Order").select_option(label="CIDEr, highest first")
    page.get_by_role("button", name="wrong 2", exact=True).click()
    page.get_by_label("from").fill("0")
    page.get_by_label("Search").fill("gold")
    assert count_numbers(page) == [3]
    clear.click()
    assert count_numbers(page) == [2, 3, 0, 1]  # in the chosen order
    assert clear.is_hidden()
    assert page.get_by_label("Search").evaluate("e => e === document.activeElement")
    for label in ("Search", "from", "to"):
        control = page.get_by_label(label, exact=True)
        control.fill("2")
        assert clear.is_visible()
        control.fill("")


def test_cards_are_sorted(page: "Page") -> None:
    order = page.get_by_label("Order")
    for label, numbers in {
        "CIDEr, highest first": [2, 3, 0, 1],
        "CIDEr, lowest first": [1, 0, 3, 2],
        "CIDEr, most typical first": [3, 0, 2, 1],
        "as drawn": [0, 1, 2, 3],
    }.items():
        order.select_option(label=label)
        assert count_numbers(page) == numbers, label


def test_cards_show_as_many_references_as_asked_for(page: "Page") -> None:
    shown = page.locator(".card").nth(1).locator(".reference").all_inner_texts()
    assert shown == ["reference the green one"]


def test_tables_and_charts_stand_side_by_side_if_there_is_room(page: "Page") -> None:
    def read_tops() -> list[float]:
        boxes = [part.bounding_box() for part in page.locator(".side-by-side > *").all()]
        return [box["y"] for box in boxes if box]

    chart, table = read_tops()
    assert chart == table
    page.set_viewport_size(PHONE)
    chart, table = read_tops()
    assert chart < table


def test_an_image_is_enlarged_with_its_references_and_its_file(page: "Page") -> None:
    page.get_by_label("Order").select_option(label="CIDEr, highest first")
    page.locator(".open").first.click()
    dialog = page.get_by_role("dialog")
    assert dialog.get_by_text("1 of 4").is_visible()
    assert dialog.locator(".references li").all_inner_texts()[0] == "the blue one"
    assert dialog.locator("dd").inner_text() == "2.00"
    assert dialog.get_by_text("Open the file").get_attribute("href") == "blue.png"
    box = dialog.locator("img").bounding_box()
    assert box is not None
    assert box["width"] > 600  # of 60 pixels
    page.keyboard.press("ArrowRight")
    assert dialog.locator("mark").inner_text() == "gold"
    dialog.get_by_role("button", name="Previous").click()
    dialog.get_by_role("button", name="Close").click()
    assert page.locator(".open").first.evaluate("e => e === document.activeElement")
    page.locator(".open").nth(2).click()  # number 0, whose image is gone
    assert dialog.get_by_text("The image cannot be read.").is_visible()


def test_the_page_is_switched_to_dark_and_stays_dark(page: "Page") -> None:
    def read_background() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    light = read_background()
    page.get_by_role("button", name="Dark").click()
    dark = read_background()
    assert dark != light
    assert_accessible(page, "dark")
    page.reload()
    assert read_background() == dark
    page.get_by_role("button", name="Light").click()
    assert read_background() == light


def test_charts_tell_values_by_pointer_and_by_keyboard(page: "Page") -> None:
    chart = page.locator(".chart svg[role=img]").first
    chart.hover()
    tip = page.locator(".tip")
    assert tip.inner_text() == "step 2\n2"
    page.mouse.move(1, 1)
    assert tip.is_hidden()
    slider = page.get_by_label("Values of the chart Lengths")
    slider.focus()
    slider.press("ArrowRight")
    assert tip.inner_text() == "words 2\ncaptions: 5"
    assert slider.get_attribute("aria-valuetext") == "words 2, captions: 5"


def test_tables_are_sorted_by_a_column(page: "Page") -> None:
    def read_column() -> list[str]:
        return page.locator("tbody tr td:first-child").all_inner_texts()

    page.get_by_role("button", name="score").click()
    assert read_column() == ["CIDEr", "ROUGE-L", "BLEU-4"]
    page.get_by_role("button", name="score").click()
    assert read_column() == ["BLEU-4", "ROUGE-L", "CIDEr"]
    page.get_by_role("button", name="metric").click()
    assert read_column() == ["BLEU-4", "CIDEr", "ROUGE-L"]


def test_thousands_of_cards_are_made_as_the_reader_scrolls(
    browser: "Browser", folder: Path
) -> None:
    address = write_example(folder / "large.html", 10_000)
    with open_page(browser, address, viewport=DESKTOP) as page:
        cards = page.locator(".card")
        first = cards.count()
        assert 4 < first < 500
        page.locator(".end-of-cards").scroll_into_view_if_needed()
        cards.nth(first).wait_for(state="attached")
        page.get_by_label("Search").fill("number 9999")
        assert count_numbers(page) == [9999]


def test_a_page_that_is_rewritten_loads_itself_and_keeps_its_place(
    browser: "Browser", folder: Path
) -> None:
    path = folder / "live.html"
    address = write_example(path, refresh=1.5)
    choose = """() => {
        const search = document.querySelector("input[type=search]");
        search.value = "blue";
        search.dispatchEvent(new Event("input"));
        scrollTo(0, 400);
    }"""
    with open_page(browser, address, viewport=DESKTOP) as page:
        page.evaluate(choose)  # at once, before the page loads itself
        write_example(path, 7, refresh=0)  # the last state, which does not load itself any more
        page.wait_for_selector("text=of 7 images")
        assert count_numbers(page) == [2, 6]
        assert page.get_by_label("Search").input_value() == "blue"
        assert page.evaluate("scrollY") == 400


def test_a_place_that_cannot_be_read_is_ignored(browser: "Browser", folder: Path) -> None:
    with open_page(browser, write_example(folder / "place.html"), viewport=DESKTOP) as page:
        count = page.get_by_role("status").text_content()
        for place in ("{", "null", "3", "{}"):
            script = "place => sessionStorage.setItem(PLACE, place)"
            page.evaluate(script, place)
            page.reload()
            assert page.get_by_role("status").text_content() == count


def test_a_page_without_scripts_says_so(browser: "Browser", folder: Path) -> None:
    address = write_example(folder / "report.html")
    with open_page(browser, address, java_script_enabled=False) as page:
        assert page.get_by_text("which this browser does not run").is_visible()
        assert page.locator(".chart path.line").first.is_visible()


def test_a_printed_page_has_its_images_and_no_controls(page: "Page") -> None:
    page.get_by_role("button", name="Dark").click()
    page.emulate_media(media="print", color_scheme="dark")
    assert page.get_by_text("num_beams").is_visible()  # of settings that were not opened
    assert page.locator(".card img").first.is_visible()
    for control in (".controls", ".bar", ".problem button"):
        assert page.locator(control).first.is_hidden()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(19, 20, 23)"
    assert page.pdf().startswith(b"%PDF")


def test_heat_maps_are_shown_by_word_and_searched(browser: "Browser", folder: Path) -> None:
    cards = []
    for name in ("red", "gold"):
        overlay = WordOverlay(2, 2 + len(name), Image.new("RGBA", (8, 8), (255, 255, 255, 99)))
        image = Image.new("RGB", (40, 40), name)
        cards.append(make_word_map_card(image, f"a {name} square", [overlay], f"{name}.png"))
    report = Report("Heat-maps", About(), [Section("Images", [WordMaps(cards)])])
    write_report(folder / "maps.html", report)
    with open_page(browser, (folder / "maps.html").as_uri(), viewport=PHONE) as page:
        assert_accessible(page)
        page.get_by_role("button", name="gold").hover()
        shown = page.locator(".overlay").evaluate_all(
            "all => all.map(each => getComputedStyle(each).opacity)"
        )
        assert shown == ["0", "1"]
        page.get_by_label("Search").fill("RED square")
        assert page.locator("figure:visible .note").all_inner_texts() == ["red.png"]
        assert page.get_by_role("status").inner_text() == "1 of 2 images"


@pytest.mark.slow
def test_a_report_of_a_thousand_images_has_at_most_five_megabytes(tmp_path: Path) -> None:
    """Noise is harder to compress than any photograph, and captions are long."""
    rng = np.random.default_rng(0)
    cards = []
    for number in range(1000):
        noise = rng.integers(0, 256, (24, 32, 3), np.uint8)
        image = Image.fromarray(noise).resize((640, 480), Image.Resampling.BICUBIC)
        text = f"a long caption of image number {number} with about as many words as a caption has"
        numbers = [float(number)] * 3
        cards.append(Card(image, [Line(text)], f"photos/{number:012}.jpg", "", [text] * 5, numbers))
    gallery = Gallery(cards, [Column("CIDEr"), Column("confidence"), Column("words")])
    path = tmp_path / "report.html"
    write_report(path, Report("Large", About(), [Section("Images", [gallery])]))
    assert path.stat().st_size <= 5_000_000
