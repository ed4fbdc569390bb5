"""What the page shows when things take long or go wrong, and whether everybody can use it."""

import base64
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from browser import assert_accessible, needs_browser, open_page
from golden_folder import GoldenFolder
from onnx_graphs import make_graphs
from page_actions import (
    DESKTOP,
    HOSTILE,
    PHONE,
    add_files,
    card_of,
    make_file,
    read_texts,
    wait_for_captions,
)
from page_server import PageServer, load_captioner, serve_page, write_folder
from PIL import Image

import cutline
from cutline.captioner import Captioner

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [needs_browser, pytest.mark.slow]

MAX_BYTES = 50_000
MAX_PIXELS = 10_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def captioner(folder: Path) -> Captioner:
    return load_captioner(folder / "model")


@pytest.fixture(scope="module")
def server(captioner: Captioner) -> Iterator[PageServer]:
    with serve_page(captioner, max_image_bytes=MAX_BYTES, max_pixels=MAX_PIXELS) as server:
        yield server


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_every_state_is_accessible(
    browser: "Browser", server: PageServer, folder: Path, scheme: str, size: dict[str, int]
) -> None:
    with open_page(browser, server.url, color_scheme=scheme, viewport=size) as page:
        assert_accessible(page, "empty")
        page.evaluate(DRAG)
        assert_accessible(page, "dragging")
        page.evaluate("() => document.body.classList.remove('is-dragging')")
        add_files(page, [*(folder / name for name in ("a.png", "b.png", HOSTILE))])
        wait_for_captions(page, 3)
        assert_accessible(page, "captions")
        page.locator(".word").first.hover()
        page.locator(".heat-map.is-shown").wait_for()
        assert_accessible(page, "heat-map")
        page.locator("#download summary").click()
        assert_accessible(page, "menu")
        page.keyboard.press("Escape")
        if page.locator("#settings").is_hidden():
            page.locator("#open-settings").click()
        assert_accessible(page, "settings")
        page.locator("#num_captions").fill("3")
        page.locator(".alternatives label").first.wait_for()
        wait_for_captions(page, 3)
        page.locator("input[value=true]").check(force=True)
        page.locator("#settings-problem").wait_for(state="hidden")
        assert_accessible(page, "alternatives, sampling")
        page.locator("#close-settings").click()
        page.get_by_role("button", name="Edit: a.png").click()
        assert_accessible(page, "editing")
        page.keyboard.type(" and more")
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Remove: b.png").click()
        assert_accessible(page, "edited, message")
        add_files(page, [make_file("notes.txt", b"hello", "text/plain"), make_file("c.png", b"no")])
        wait_for_captions(page, 4)
        page.locator("footer summary").click()
        assert_accessible(page, "errors, keys")
        assert is_within_width(page)


DRAG = """() => {
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File(["x"], "a.png", {type: "image/png"}));
  document.body.dispatchEvent(new DragEvent("dragenter", {dataTransfer, bubbles: true}));
}"""


def is_within_width(page: "Page") -> bool:
    """Return whether the page need not be scrolled sideways."""
    width: bool = page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    return width


def test_onnx_graphs_are_not_asked_for_heat_maps(
    browser: "Browser", folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    micro = GoldenFolder(Path(__file__).parents[1] / "golden" / "salesforce-micro")
    graphs = cutline.load(make_graphs(tmp_path_factory, micro))
    with serve_page(graphs) as server, open_page(browser, server.url) as page:
        paths: list[str] = []
        page.on("request", lambda request: paths.append(urlsplit(request.url).path))
        add_files(page, [folder / "a.png"])
        wait_for_captions(page, 1)
        word = page.locator(".word").first
        word.hover()
        page.get_by_text(f"{word.inner_text()} · ").wait_for()
        page.wait_for_timeout(500)
        assert page.get_by_text("heat-map").is_hidden()
        assert "/v1/captions" in paths
        assert "/v1/explanations" not in paths


def test_images_that_the_server_would_refuse_are_not_sent(
    browser: "Browser", server: PageServer, folder: Path
) -> None:
    large = folder / "large.png"
    Image.new("RGB", (200, 200)).save(large)
    files = [
        make_file("notes.txt", b"hello", "text/plain"),
        make_file("empty.png", b""),
        make_file("heavy.jpg", bytes(MAX_BYTES + 1), "image/jpeg"),
        make_file("large.png", large.read_bytes()),
    ]
    with open_page(browser, server.url) as page:
        sent: list[str] = []
        page.on("request", lambda request: sent.append(request.method))
        add_files(page, files)
        wait_for_captions(page, len(files))
        assert "POST" not in sent
        reasons = ("not an image", "empty", "takes 49 kB", "0 megapixels")
        for file, reason in zip(files, reasons, strict=True):
            assert reason in card_of(page, file["name"]).inner_text()
        # What only the server can tell is said in its words.
        add_files(page, [make_file("broken.png", b"no image")])
        wait_for_captions(page, len(files) + 1)
        assert "Not an image that can be read" in card_of(page, "broken.png").inner_text()


def test_pasted_and_dropped_images_are_captioned(
    browser: "Browser", server: PageServer, captioner: Captioner, folder: Path
) -> None:
    data = base64.b64encode((folder / "a.png").read_bytes()).decode()
    expected = captioner.caption(str(folder / "a.png"))[0].text
    with open_page(browser, server.url) as page:
        page.evaluate(GIVE, ["paste", "image.png", data])
        page.evaluate(GIVE, ["drop", "dropped.png", data])
        page.evaluate(GIVE, ["drop", "dropped.png", data])
        wait_for_captions(page, 3)
        assert read_texts(page) == [expected] * 3
        pasted, *others = page.locator("h3").all_inner_texts()
        assert pasted.startswith("Pasted ")
        assert others == ["dropped.png"] * 2


GIVE = """async ([type, name, data]) => {
  const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, {type: "image/png"}));
  const options = {bubbles: true, cancelable: true};
  document.body.dispatchEvent(type === "paste"
    ? new ClipboardEvent("paste", {...options, clipboardData: transfer})
    : new DragEvent("drop", {...options, dataTransfer: transfer}));
}"""


def test_asks_for_a_token_and_waits_for_the_model(
    browser: "Browser", captioner: Captioner, folder: Path
) -> None:
    with (
        serve_page(None, tokens=(b"secret",)) as server,
        open_page(browser, server.url) as page,
    ):
        page.get_by_role("dialog").wait_for()
        assert_accessible(page, "token")
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        page.get_by_text("did not accept").wait_for()
        assert_accessible(page, "wrong token")
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Enter a token").click()
        page.get_by_role("dialog").wait_for()
        page.keyboard.type("secret")
        page.keyboard.press("Enter")
        page.get_by_text("The model is loading").wait_for()
        assert_accessible(page, "loading")
        add_files(page, [folder / "a.png"])
        server.start(captioner)
        wait_for_captions(page, 1)
        assert read_texts(page) == [captioner.caption(str(folder / "a.png"))[0].text]
        page.get_by_text("The model is loading").wait_for(state="hidden")
        assert page.url == server.url
        stores = "() => [sessionStorage.length, localStorage.length, document.cookie]"
        assert page.evaluate(stores) == [1, 0, ""]


def test_tries_again_while_the_server_is_busy(
    browser: "Browser", captioner: Captioner, folder: Path
) -> None:
    with serve_page(None, max_queue=0) as server, open_page(browser, server.url) as page:
        server.start(captioner, batch_size=1)
        statuses: list[int] = []
        page.on("response", lambda response: statuses.append(response.status))
        content = (folder / "a.png").read_bytes()
        add_files(page, [make_file(f"{number}.png", content) for number in range(6)])
        wait_for_captions(page, 6)
        assert 429 in statuses
        assert read_texts(page) == [captioner.caption(str(folder / "a.png"))[0].text] * 6


def test_goes_on_when_the_network_is_back(
    browser: "Browser", server: PageServer, captioner: Captioner, folder: Path
) -> None:
    with open_page(browser, server.url) as page:
        page.get_by_text("up to 49 kB each").wait_for()
        page.context.set_offline(True)
        add_files(page, [folder / "a.png"])
        page.get_by_text("The server cannot be reached").wait_for()
        assert_accessible(page, "offline")
        page.context.set_offline(False)
        wait_for_captions(page, 1)
        assert read_texts(page) == [captioner.caption(str(folder / "a.png"))[0].text]
        page.get_by_text("The server cannot be reached").wait_for(state="hidden")


def test_last_settings_win(
    browser: "Browser", server: PageServer, captioner: Captioner, folder: Path
) -> None:
    """Changes in quick succession end requests that run; the last one counts; Reset goes back."""
    files = [folder / "a.png", folder / "b.png"]
    paths = list(map(str, files))
    with open_page(browser, server.url, viewport=DESKTOP) as page:
        add_files(page, files)
        page.locator("#num_beams").fill("5")
        for length in ("8", "12", "9"):
            page.locator("#max_length").fill(length)
            time.sleep(0.41)  # just longer than the page waits for further changes
        page.locator("#prompt").fill("a picture of two")
        page.get_by_text("Prompt “a picture of two”: captioning 2 images again.").wait_for()
        wait_for_captions(page, 2)
        settings = {"num_beams": 5, "max_length": 9, "prompt": "a picture of two"}
        captions = captioner.caption(paths, **settings)  # type: ignore[arg-type]
        assert read_texts(page) == [caption.text for caption in captions]
        page.locator("#reset").click()
        page.get_by_text("Back to the defaults: captioning 2 images again.").wait_for()
        wait_for_captions(page, 2)
        assert read_texts(page) == [caption.text for caption in captioner.caption(paths)]

        page.locator("input[value=true]").check(force=True)
        page.locator("#seed").fill("7")
        page.locator("#num_captions").fill("3")
        page.locator(".alternatives label").first.wait_for()
        wait_for_captions(page, 2)
        sampled = captioner.caption(paths, sample=True, seed=7, num_captions=3)
        shown = page.locator(".alternatives .text").all_inner_texts()
        assert shown == [each.text for caption in sampled for each in caption.alternatives]
        page.locator(".alternatives input").nth(2).check()
        assert read_texts(page)[0] == shown[2]


def test_a_setting_that_the_server_refuses_is_named(
    browser: "Browser", server: PageServer, folder: Path
) -> None:
    with open_page(browser, server.url, viewport=DESKTOP) as page:
        add_files(page, [folder / "a.png"])
        wait_for_captions(page, 1)
        page.locator("#prompt").fill("a picture of one two three " * 9)  # too long for max_length
        page.locator("#settings-problem").wait_for()
        assert page.locator("#max_length").get_attribute("aria-invalid") == "true"
        assert "do not work" in card_of(page, "a.png").inner_text()
        problem = page.locator("#settings-problem").inner_text()
        assert "“Longest”" in problem
        assert "max_length" not in problem
        page.locator("#reset").click()
        assert page.evaluate("document.activeElement.id") == "settings"
        wait_for_captions(page, 1)
        page.locator("#settings-problem").wait_for(state="hidden")
        assert "do not work" not in card_of(page, "a.png").inner_text()


@pytest.mark.parametrize("edits", [False, True])
def test_warns_before_unsaved_edits_are_lost(
    browser: "Browser", server: PageServer, folder: Path, edits: bool
) -> None:
    with open_page(browser, server.url) as page:
        add_files(page, [folder / "a.png"])
        wait_for_captions(page, 1)
        questions: list[str] = []
        page.on("dialog", lambda dialog: (questions.append(dialog.type), dialog.accept()))
        page.get_by_role("button", name="Edit").click()
        page.keyboard.type(" mine" if edits else "")
        page.keyboard.press("Enter")
        page.reload()
        assert questions == (["beforeunload"] if edits else [])


def test_scripts_of_others_do_not_run(browser: "Browser", server: PageServer) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(server.url)
        for script in ("window.x = 1", "import('data:text/javascript,window.x = 1')"):
            page.evaluate(INJECT, script)
        page.wait_for_timeout(50)
        assert page.evaluate("() => window.x === undefined")


INJECT = """(text) => {
  const script = document.createElement("script");
  script.textContent = text;
  document.head.append(script);
}"""
