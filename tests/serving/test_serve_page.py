"""The page of the server, in a real browser."""

import csv
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from browser import assert_accessible, needs_browser, open_page
from page_actions import DESKTOP, NAMES, add_files, card_of, download, read_texts, wait_for_captions
from page_server import PageServer, load_captioner, serve_page, write_folder

import cutline
from cutline.captioner import Captioner
from cutline.explanation.explanation import resize_map

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = needs_browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def captioner(folder: Path) -> Captioner:
    return load_captioner(folder / "model")


@pytest.fixture(scope="module")
def server(captioner: Captioner) -> Iterator[PageServer]:
    with serve_page(captioner) as server:
        yield server


def test_captions_are_written_word_by_word(
    browser: "Browser", server: PageServer, captioner: Captioner, folder: Path
) -> None:
    files = [folder / name for name in NAMES]
    with open_page(browser, server.url, viewport=DESKTOP) as page:
        page.evaluate(RECORD_STREAM)
        add_files(page, files)
        wait_for_captions(page, len(files))
        expected = [caption.text for caption in captioner.caption(list(map(str, files)))]
        assert read_texts(page) == expected
        stream = page.evaluate("() => window.stream")
        for text, seen in zip(expected, stream, strict=True):
            settled = [each[0] for each in seen]
            assert all(map(text.startswith, settled))
            assert settled == sorted(settled, key=len)
            assert len(set(settled)) > 1
            assert any(draft.strip() for _, draft in seen)
        assert page.locator("h3").all_inner_texts() == list(NAMES)  # as text, not as HTML
        assert "cannot show TIFF" in card_of(page, "scan.tiff").inner_text()

        # A setting changes them all; an edited one stays, and says what the model writes now.
        card_of(page, "b.png").get_by_role("button", name="Edit").click()
        page.keyboard.press("ControlOrMeta+A")
        page.keyboard.type("  mine,\u00a0<b>not yours</b>")
        page.keyboard.press("Enter")
        page.locator("#num_beams").fill("1")
        page.get_by_text("Beams 3 → 1: captioning 4 images again.").wait_for()
        wait_for_captions(page, len(files))
        greedy = [each.text for each in captioner.caption(list(map(str, files)), num_beams=1)]
        assert greedy != expected
        assert read_texts(page) == [greedy[0], "mine, <b>not yours</b>", *greedy[2:]]
        assert greedy[1] in card_of(page, "b.png").inner_text()

        rows = [json.loads(line) for line in download(page, "JSON Lines").splitlines()]
        assert [row["image"] for row in rows] == list(NAMES)
        assert [row["caption"] for row in rows] == read_texts(page)
        assert [set(row) >= {"score", "confidence"} for row in rows] == [True, False, True, True]
        table = list(csv.DictReader(io.StringIO(download(page, "CSV").decode())))
        assert [row["caption"] for row in table] == read_texts(page)
        archive = zipfile.ZipFile(io.BytesIO(download(page, "Text files")))
        assert archive.testzip() is None
        hostile = "_img src=x onerror=alert(1)_.txt"
        assert archive.namelist() == ["a.txt", "b.txt", hostile, "scan.txt"]
        assert archive.read("b.txt").decode() == "mine, <b>not yours</b>\n"
        assert_accessible(page, "captions")


RECORD_STREAM = """() => {
  window.stream = [];
  new MutationObserver(() => {
    document.querySelectorAll(".caption").forEach((caption, index) => {
      const [settled, draft] = caption.children;
      if (settled?.className !== "settled") return;
      (window.stream[index] ??= []).push([settled.textContent, draft.textContent]);
    });
  }).observe(document.body, {childList: true, subtree: true, characterData: true});
}"""


def test_keyboard_alone_is_enough(
    browser: "Browser", server: PageServer, captioner: Captioner, folder: Path
) -> None:
    with open_page(browser, server.url, viewport=DESKTOP) as page:
        add_files(page, [folder / "a.png", folder / "b.png"])
        wait_for_captions(page, 2)
        caption = captioner.caption(str(folder / "a.png"))[0]
        page.get_by_text(f"a.png: {caption.text}").wait_for(state="attached")  # is read out
        page.locator("#remove-all").focus()
        page.keyboard.press("Tab")
        page.keyboard.press("ArrowRight")
        option = page.get_by_role("option", selected=True)
        word = caption.words[1]
        assert option.inner_text() == word.text
        assert (option.get_attribute("aria-label") or "").startswith(f"{word.text}, ")
        check_heat_map(page, captioner, folder / "a.png", caption.text, 1)

        page.keyboard.press("Enter")
        page.keyboard.type(" at dusk")
        page.keyboard.press("Escape")
        assert read_texts(page)[0] == caption.text
        page.keyboard.press("Enter")
        page.keyboard.type(" at dusk")
        page.keyboard.press("Enter")
        assert read_texts(page)[0] == f"{caption.text} at dusk"
        page.keyboard.press("ArrowDown")
        address = page.locator(".photo img").nth(1).get_attribute("src")
        page.keyboard.press("Delete")
        assert page.locator("h3").all_inner_texts() == ["a.png"]
        load = "src => new Promise(end => Object.assign(new Image(), {src, onerror: end}))"
        page.evaluate(load, address)  # its file is forgotten
        page.get_by_role("button", name="Undo").focus()
        page.keyboard.press("Enter")
        assert page.locator("h3").all_inner_texts() == ["a.png", "b.png"]
        page.locator(".photo img").nth(1).evaluate("image => image.decode()")


def check_heat_map(
    page: "Page", captioner: Captioner, image: Path, caption: str, index: int
) -> None:
    """Check that the brightest pixel is at the maximum of the map of a word."""
    page.locator(".heat-map.is-shown").wait_for()
    alpha = np.array(page.evaluate(READ_ALPHA))
    explanation = cutline.explain(captioner, str(image), caption, method="gradient")
    expected = resize_map(explanation.words[index].map, alpha.shape)
    assert np.allclose(alpha, 204 * expected / expected.max(), atol=2)  # 80 % of 255


READ_ALPHA = """() => {
  const canvas = document.querySelector(".heat-map.is-shown");
  const {width, height} = canvas;
  const {data} = canvas.getContext("2d").getImageData(0, 0, width, height);
  return Array.from({length: height}, (_, y) =>
    Array.from({length: width}, (_, x) => data[4 * (y * width + x) + 3]));
}"""


def test_downloads_hold_any_name_and_text(browser: "Browser", server: PageServer) -> None:
    """Tables are read back as they were; names in a zip are safe, and none is there twice."""
    ids = ["a.jpg", "a.png", "A.JPG", "b/c.png", "../../etc/passwd", "/x.png", "con.png", "ä ☃.png"]
    ids += ["x:y|z?.png", "noext", "a (2).jpg", "dots. .png", ".png", "..", "\ud800.png"]
    texts = ['a "quoted", text', "=1+1", "ein Schäf\nchen", "", "<b>", "\u2028", "x\ty"]
    rows = [
        {"image": id, "id": id, "caption": texts[index % len(texts)], "score": -1.5}
        for index, id in enumerate(ids)
    ]
    with open_page(browser, server.url) as page:
        csv_text, jsonl, data = page.evaluate(MAKE_DOWNLOADS, rows)
    table = list(csv.DictReader(io.StringIO(csv_text), quoting=csv.QUOTE_NONNUMERIC, strict=True))
    assert table == rows
    assert [json.loads(line) for line in jsonl.split("\n")[:-1]] == rows
    archive = zipfile.ZipFile(io.BytesIO(bytes(data)))
    assert archive.testzip() is None
    names = archive.namelist()
    assert names[:4] == ["a.jpg.txt", "a.png.txt", "A.JPG (2).txt", "b/c.txt"]
    assert "_con.txt" in names  # a device of Windows
    assert len({name.lower() for name in names}) == len(ids)
    for name, row in zip(names, rows, strict=True):
        assert not {"", ".", ".."} & set(name.split("/")), name
        assert not set(name) & set('<>:"|?*\\'), name
        assert archive.read(name).decode() == f"{row['caption']}\n"


MAKE_DOWNLOADS = """async (rows) => {
  const {toCsv, toJsonl, toSidecars} = await import("/static/download.js");
  const zip = await toSidecars(rows).arrayBuffer();
  return [toCsv(rows), toJsonl(rows), [...new Uint8Array(zip)]];
}"""
