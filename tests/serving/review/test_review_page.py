"""The page of a review, in a real browser: with the keyboard, in every state, for everybody."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browser import assert_accessible, needs_browser, open_page
from random_captioner import make_captioner
from review_data import JSON_LINES, TEXTS, open_review, write_review_images

from cutline.config import ServeConfig, UrlPolicy
from cutline.serving.review.app import make_review_app
from cutline.serving.review.review import Review
from cutline.serving.review.row_filter import RowFilter
from cutline.serving.review.run import LIMITS
from cutline.serving.review.session import ReviewSession
from cutline.serving.server import Server, configure_uvicorn, format_address, listen
from cutline.serving.service import CaptionService, ServedModels

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

pytestmark = needs_browser
DESKTOP = {"width": 1280, "height": 860}
PHONE = {"width": 390, "height": 780}


@contextmanager
def serve_review(path: Path, with_model: bool = False) -> Iterator[tuple[str, Review]]:
    """Serve a review in a thread; yield its address, and the review."""
    review = open_review(path)
    service = CaptionService("random", ServeConfig(port=0), LIMITS, UrlPolicy())
    listener = listen(service.config)
    session = ReviewSession(review, path.name, with_model)
    if with_model:
        service.start(ServedModels(make_captioner()), 1)
    server = Server(configure_uvicorn(make_review_app(session, service), service), service)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield f"{format_address(service.config, listener)}/{session.key}/", review
    finally:
        server.should_exit = True
        thread.join()
        service.close()
        listener.close()
        review.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return captions, those of the first image with words and an alternative."""
    write_review_images(tmp_path)
    lines = JSON_LINES.splitlines()
    first = json.loads(lines[0])
    spans = {"a": (0, 1, 0.9), "red": (2, 5, 0.4), "dog": (6, 9, 0.7)}
    first["words"] = [
        {"text": text, "start": start, "end": end, "confidence": confidence}
        for text, (start, end, confidence) in spans.items()
    ]
    first["alternatives"] = [{"caption": "a red fox", "confidence": 0.1}]
    lines[0] = json.dumps(first)
    (tmp_path / "captions.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path / "captions.jsonl"


def wait_for(page: "Page", text: str, state: str = "") -> None:
    """Wait until a caption is on the stage, in a state."""
    page.wait_for_function(
        """([text, state]) =>
            document.querySelector("#caption-place .caption")?.textContent === text
            && document.getElementById("mark").textContent.endsWith(state)""",
        arg=[text, state],
    )


def press(page: "Page", *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


@pytest.mark.slow
def test_the_keyboard_alone(browser: "Browser", path: Path) -> None:
    with serve_review(path) as (url, review), open_page(browser, url, viewport=DESKTOP) as page:
        wait_for(page, TEXTS[0], "not reviewed")
        assert page.locator("#progress").inner_text() == "0 of 6"
        marks = page.locator("#caption-place .word")
        sure = [mark.get_attribute("data-sure") for mark in marks.all()]
        assert sure == ["high", "low", "medium"]
        press(page, "Enter")  # accepts, and goes on
        wait_for(page, TEXTS[1], "not reviewed")
        press(page, "e", "End")
        page.keyboard.type("!")
        press(page, "Enter")
        page.wait_for_selector("#question[open]")  # somebody's own
        assert_accessible(page, "question")
        press(page, "Escape")
        page.wait_for_selector("#question", state="hidden")
        assert page.locator("#editor").input_value() == f"{TEXTS[1]}!"
        assert review.count_states()["edited"] == 0
        press(page, "Enter")
        page.wait_for_selector("#question[open]")
        press(page, "Enter")
        wait_for(page, TEXTS[2])
        assert review.count_states()["edited"] == 1
        press(page, "e")
        page.locator("#editor").fill("lost")
        press(page, "Escape")
        wait_for(page, TEXTS[2], "not reviewed")
        press(page, "Tab", "Shift+Tab", "Delete")
        page.wait_for_selector("#question[open]")
        press(page, "Enter")
        wait_for(page, TEXTS[3])
        assert review.count_states()["rejected"] == 1


def test_steps_and_undo(browser: "Browser", path: Path) -> None:
    with serve_review(path) as (url, review), open_page(browser, url, viewport=DESKTOP) as page:
        wait_for(page, TEXTS[0])
        press(page, "1")  # the alternative
        page.wait_for_selector("#question[open]")
        page.locator("#question-all").check()
        page.locator("#question-yes").click()
        wait_for(page, TEXTS[1])
        press(page, "x")  # not asked again
        wait_for(page, TEXTS[2])
        press(page, "a")
        wait_for(page, TEXTS[3])
        assert list(review.count_states().values()) == [3, 1, 1, 1]
        press(page, "k", "ArrowUp", "ArrowLeft")
        wait_for(page, "a red fox", "edited")
        assert page.locator("#meanwhile").inner_text() == "Before: a red dog"
        assert page.locator("#caption-place .word").count() == 0  # measured in another text
        press(page, "j", "ArrowDown", "ArrowRight")
        wait_for(page, TEXTS[3])
        press(page, "z")
        wait_for(page, TEXTS[2], "not reviewed")
        press(page, "Control+z")
        wait_for(page, TEXTS[1], "not reviewed")
        press(page, "z")
        wait_for(page, TEXTS[0], "not reviewed")
        page.wait_for_selector("#undo:disabled")
        press(page, "?")
        page.locator("#single-keys").uncheck()
        press(page, "Escape")
        page.wait_for_selector("#help", state="hidden")
        press(page, "x", "ArrowRight")
        wait_for(page, TEXTS[1], "not reviewed")
        assert review.count_states()["not reviewed"] == 6


@pytest.mark.slow
def test_filter_and_replace(browser: "Browser", path: Path) -> None:
    with serve_review(path) as (url, review), open_page(browser, url, viewport=DESKTOP) as page:
        wait_for(page, TEXTS[0])
        press(page, "/")
        page.keyboard.type("cat")
        press(page, "Enter", "x", "a")  # leaves the field; nobody has seen the caption yet
        assert page.evaluate("document.activeElement.id") == "main"
        wait_for(page, "a cat")
        assert review.count_states()["not reviewed"] == 6
        assert page.locator("#count").inner_text() == "1 caption"
        page.locator("#clear-filter").click()
        page.wait_for_function(
            "() => document.getElementById('count').textContent === '6 captions'"
        )
        page.locator("#main").focus()
        press(page, "f")
        page.locator("#find-text").fill("dog")
        page.locator("#replace-text").fill("cat")
        page.get_by_text("4 captions would change.").wait_for()
        assert page.locator("#replace-examples del").all_inner_texts() == ["dog"] * 4
        assert_accessible(page, "replace")
        page.locator("#replace-all").click()
        page.get_by_text("Replace all 4, too?").wait_for()
        page.locator("#question-yes").click()
        page.get_by_text("Replaced in 4 captions.").wait_for()
        wait_for(page, "a cat")
        page.locator("#toast button").click()  # undo
        wait_for(page, TEXTS[0])
        assert review.count_states()["not reviewed"] == 6
        page.locator("#filter-text").fill("zzz")
        page.get_by_text("No caption passes the filter.").wait_for()
        assert_accessible(page, "nothing")


def test_two_tabs_lose_nothing(browser: "Browser", path: Path) -> None:
    with (
        serve_review(path) as (url, review),
        open_page(browser, url, viewport=DESKTOP) as page,
        open_page(browser, url, viewport=DESKTOP) as other,
    ):
        wait_for(page, TEXTS[0])
        wait_for(other, TEXTS[0])
        press(page, "e")
        page.locator("#editor").fill("mine")
        review.edit(0, 1, "theirs", confirm=True)
        press(page, "Enter")
        page.get_by_text("Meanwhile, in another tab or program").wait_for()
        assert page.locator("#editor").input_value() == "mine"
        assert review.find(0).text == "theirs"
        assert_accessible(page, "stale")
        press(page, "Enter")
        wait_for(page, TEXTS[1])
        assert review.find(0).text == "mine"
        press(other, "a")
        other.get_by_text("Changed in another tab or program").wait_for()
        wait_for(other, "mine", "edited")
        assert review.find(0).state == "edited"


@pytest.mark.slow
def test_finish(browser: "Browser", path: Path) -> None:
    with serve_review(path) as (url, _), open_page(browser, url, viewport=DESKTOP) as page:
        wait_for(page, TEXTS[0])
        press(page, "Enter")
        wait_for(page, TEXTS[1])
        page.locator("#finish").click()
        page.get_by_text("1 accepted, 0 edited, 0 rejected, 5 not reviewed").wait_for()
        assert_accessible(page, "finished")


@pytest.mark.slow
def test_a_disk_that_is_full_is_told(
    browser: "Browser", path: Path, limit_file_size: Callable[[int | None], None]
) -> None:
    with serve_review(path) as (url, review), open_page(browser, url, viewport=DESKTOP) as page:
        wait_for(page, TEXTS[0])
        limit_file_size(0)
        press(page, "a")
        page.get_by_text("File too large").wait_for()
        assert review.find(0).state == "not reviewed"
        limit_file_size(None)
        press(page, "a")
        wait_for(page, TEXTS[1])
        assert not page.locator("#notice").is_visible()


@pytest.mark.slow
def test_a_captioner_proposes(browser: "Browser", path: Path) -> None:
    with serve_review(path, True) as (url, review), open_page(browser, url) as page:
        wait_for(page, TEXTS[0])
        press(page, "r")
        word = page.locator("#proposal-place .word").first
        word.wait_for()
        word.hover()
        page.wait_for_selector(".heat-map.is-shown")
        assert_accessible(page, "proposal")
        text = page.locator("#proposal-place .caption").inner_text()
        press(page, "1")
        page.locator("#question-yes").click()
        wait_for(page, TEXTS[1])
        assert review.find(0).text == " ".join(text.split())


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_everybody_can_use_it(
    browser: "Browser", path: Path, scheme: str, viewport: dict[str, int]
) -> None:
    with serve_review(path) as (url, review):
        review.edit(0, 1, "edited", confirm=True)
        review.reject(1, 1, confirm=True)
        review.accept(3, 1)
        with open_page(browser, url, viewport=viewport, color_scheme=scheme) as page:
            for text in ("a cat", "zwei Hunde", TEXTS[1], "edited"):
                wait_for(page, text)
                assert_accessible(page, text)
                press(page, "k")
            press(page, "e")
            assert_accessible(page, "edit")
            press(page, "Escape", "?")
            assert_accessible(page, "keys")
            press(page, "Escape")
            page.wait_for_selector("#help", state="hidden")
            if viewport == PHONE:
                page.locator("#open-list").click()
                assert_accessible(page, "list")
                assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]


@pytest.mark.slow
def test_a_hundred_thousand_captions(browser: "Browser", tmp_path: Path) -> None:
    write_review_images(tmp_path)
    rows = [
        f'{{"file_name": "{number % 6}.png", "text": "caption {number}"}}\n'
        for number in range(100_000)
    ]
    (tmp_path / "captions.jsonl").write_text("".join(rows))
    with (
        serve_review(tmp_path / "captions.jsonl") as (url, _),
        open_page(browser, url) as page,
    ):
        wait_for(page, "caption 0")
        page.locator("#rows").evaluate("box => { box.scrollTop = 3_000_000; }")
        page.wait_for_selector(".row:not([data-is-blank])")
        assert page.locator(".row").count() < 60
        page.locator(".row").nth(10).click()
        text = page.locator("#rows [aria-selected=true] .text").inner_text()
        wait_for(page, text)
        assert 46_000 < int(text.split()[1]) < 48_000
        page.locator("#filter-text").fill("caption 99999")
        wait_for(page, "caption 99999")


@pytest.mark.slow
def test_no_step_is_made_for_a_row_that_is_not_shown(browser: "Browser", path: Path) -> None:
    with serve_review(path) as (url, review), open_page(browser, url, viewport=DESKTOP) as page:
        wait_for(page, TEXTS[0])
        held: list[Route] = []
        page.route("**/rows/1", lambda route: held.append(route))
        press(page, "ArrowRight", "Enter", "x", "e")
        page.wait_for_timeout(50)
        assert review.count_states()["not reviewed"] == 6
        for route in held:
            route.continue_()
        wait_for(page, TEXTS[1])
        page.locator("#filter-text").fill("no such caption")
        page.wait_for_selector("#nothing:not([hidden])")
        page.locator("#clear-filter").focus()
        press(page, "x", "a")
        page.locator("#clear-filter").click()
        wait_for(page, TEXTS[1])
        assert page.evaluate("document.activeElement.id") == "main"
        assert review.count_states()["not reviewed"] == 6


@pytest.mark.slow
def test_a_text_that_is_not_kept_comes_back(browser: "Browser", path: Path) -> None:
    with serve_review(path) as (url, review), open_page(browser, url, viewport=DESKTOP) as page:
        wait_for(page, TEXTS[0])
        press(page, "e")
        page.locator("#editor").fill("written with care")
        page.locator("#rows .row").nth(2).click()
        wait_for(page, TEXTS[2])
        page.locator("#finish").click()  # not yet
        page.get_by_role("button", name="Back to it").click()
        page.wait_for_selector("#editor-place:not([hidden])")
        assert page.locator("#editor").input_value() == "written with care"
        field = page.locator("#filter-text")
        field.press_sequentially("a")
        page.wait_for_timeout(400)  # the list has changed
        field.press_sequentially("x")  # no step: the field has kept the focus
        assert field.input_value() == "ax"
        press(page, "Escape")  # leaves the field only
        page.locator("#clear-filter").click()
        page.wait_for_selector("#editor:focus")
        press(page, "Enter")
        page.locator("#question-yes").click()
        wait_for(page, TEXTS[1])
        assert review.find(0).text == "written with care"
        page.locator("#finish").click()
        page.wait_for_selector("#ended:not([hidden])")


@pytest.mark.slow
def test_a_filter_that_chooses_nothing_any_more(browser: "Browser", path: Path) -> None:
    with serve_review(path) as (url, review):
        numbers = review.select(RowFilter())
        review.set_place({"row": numbers[2], "filter": {"states": ["rejected"]}})
        with open_page(browser, url, viewport=DESKTOP) as page:
            wait_for(page, TEXTS[2])
            assert page.locator("#filter-show").input_value() == ""
            for number in numbers:
                review.accept(number, review.find(number).version)
            page.reload()
            page.locator("#rows .row").nth(5).click()
            wait_for(page, TEXTS[5])
            press(page, "Enter")  # the last one
            page.get_by_role("button", name="Finish").nth(1).click()
            page.wait_for_selector("#ended:not([hidden])")
