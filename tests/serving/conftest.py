"""A server that the tests of a module share, and images for it."""

import base64
import io
from collections.abc import Iterator

import pytest
from random_captioner import draw_images
from serving_process import RunningServer, start_server


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
