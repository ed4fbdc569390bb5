"""A browser and a server that the tests of a module share, and images for them."""

import base64
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from browser import open_browser
from random_captioner import draw_images
from serving_process import RunningServer, start_server

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")  # while it is open, `asyncio.run` fails in the same thread
def browser() -> "Iterator[Browser]":
    """Return a headless browser."""
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")  # other tests count, or kill, all child processes
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Return a running server, which fetches addresses of this machine."""
    folder = tmp_path_factory.mktemp("api")
    flags = ("--allow-urls", "--allow-private-hosts", "127.0.0.0/8", "--max-candidates", "16")
    with start_server(folder, *flags) as server:
        yield server


@pytest.fixture(scope="session")
def api_images() -> list[bytes]:
    """Return images whose captions differ."""
    files = []
    for image in draw_images(3):
        file = io.BytesIO()
        image.save(file, "PNG")
        files.append(file.getvalue())
    return files


@pytest.fixture(scope="session")
def api_base64(api_images: list[bytes]) -> list[str]:
    """Return the images in Base64."""
    return [base64.b64encode(image).decode() for image in api_images]
