"""The page beside ONNX graphs, in a real browser, with onnxruntime-web from npm."""

import functools
import random
import re
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browser import assert_accessible, needs_browser, open_browser, open_page
from onnx_graphs import MICRO, make_graphs

import cutline
from cutline.onnx_export.folder import read_asset
from cutline.tokenizer.text import join_tokens

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [needs_browser, pytest.mark.slow]
WAIT = 60_000
"""milliseconds until a model of this size has been loaded, or has captioned"""


class QuietHandler(SimpleHTTPRequestHandler):
    """A static file server that logs nothing."""

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@contextmanager
def serve_files(folder: Path) -> Iterator[str]:
    """Serve a folder, and yield its address."""
    handler = functools.partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:  # or a test that fails would never end
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    with open_browser() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the files of onnxruntime-web from npm; skip without them."""
    npm, folder = shutil.which("npm"), tmp_path_factory.mktemp("npm")
    if npm is None:
        pytest.skip("npm is not installed: the page was not tried")
    command = [npm, "pack", "onnxruntime-web", "--silent"]
    result = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", timeout=300)
    if result.returncode:
        pytest.skip("npm cannot download onnxruntime-web: the page was not tried")
    (package,) = folder.glob("*.tgz")
    with tarfile.open(package) as archive:
        archive.extractall(folder, filter="data")
    return folder / "package" / "dist"


@pytest.fixture(scope="module", params=["fp32", "int8"])
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, library: Path
) -> Path:
    """Return graphs with the library beside them."""
    folder = tmp_path_factory.mktemp("site") / "graphs"
    shutil.copytree(make_graphs(tmp_path_factory, MICRO, request.param), folder)
    (folder / "ort").mkdir()
    for file in library.glob("*ort*wasm*"):
        shutil.copy(file, folder / "ort")
    return folder


def test_the_page_captions_as_the_script_does(browser: "Browser", site: Path) -> None:
    images = MICRO.images[:4]
    expected = [each.text for each in cutline.load(site).caption(images, num_beams=1)]
    assert len(set(expected)) > 1
    with serve_files(site) as address, open_page(browser, address) as page:
        page.get_by_text("Choose an image.").wait_for(timeout=WAIT)
        for scheme in ("dark", "light"):
            page.emulate_media(color_scheme=scheme)
            assert_accessible(page, f"ready, {scheme}")
        found = []
        for image in images:
            page.get_by_label("Image").set_input_files(image)
            page.get_by_label("Image").and_(page.locator(":enabled")).wait_for(timeout=WAIT)
            found.append(page.locator("output").inner_text())
        assert_accessible(page, "captioned")
    assert found == expected


def test_the_page_joins_tokens_as_cutline_does(browser: "Browser") -> None:
    source = read_asset("index.html")
    parts = (r"^const WIDE = .*?(?=^async function)", r"^function decode\(.*?^}$")
    found = [re.search(part, source, re.M | re.S) for part in parts]
    code = "\n".join(match[0] for match in found if match)
    tokens = re.split(
        " ", "a ##b ##5 n ' t n't 's 've . , ? ! 今 日 カ ん ， 。 3 ٣ ５ — … “ ” 𠀀 é"
    )
    rows = [random.Random(seed).choices(tokens, k=9) for seed in range(500)]
    page = browser.new_page()
    texts = page.evaluate(
        f"""rows => {{
            {code}
            return rows.map(row => decode(
                {{ tokens: new Map(row.entries()), special: new Set(), prefix: "##" }},
                [...row.keys()]));
        }}""",
        rows,
    )
    page.close()
    assert texts == [join_tokens(row) for row in rows]


def test_the_page_says_what_is_wrong(browser: "Browser", site: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.png"
    text.write_text("no image")
    with serve_files(site) as address, browser.new_context() as context:
        page = context.new_page()
        page.goto(address)
        page.get_by_text("Choose an image.").wait_for(timeout=WAIT)
        page.get_by_label("Image").set_input_files(text)
        page.get_by_text("text.png: not an image that this browser can read").wait_for()
        page.get_by_label("Image").and_(page.locator(":enabled")).wait_for()
        page.get_by_label("Image").set_input_files(MICRO.images[0])
        [caption] = cutline.load(site).caption(MICRO.images[0], num_beams=1)
        page.get_by_text(caption.text, exact=True).wait_for(timeout=WAIT)


def test_the_page_says_how_to_serve_it(
    browser: "Browser", tmp_path_factory: pytest.TempPathFactory
) -> None:
    graphs = make_graphs(tmp_path_factory, MICRO)
    with serve_files(graphs) as address, browser.new_context() as context:
        page = context.new_page()
        for place, advice in (
            (address, "This did not work: ort/ lacks onnxruntime-web. Put the files of its"),
            (
                (graphs / "index.html").as_uri(),
                "Serve the folder: python -m http.server --directory FOLDER",
            ),
        ):
            page.goto(place)
            page.get_by_text(advice).wait_for(timeout=WAIT)
            assert page.get_by_label("Image").is_disabled()
