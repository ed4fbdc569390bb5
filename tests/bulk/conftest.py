"""A small captioner in a folder, images, and the captions that it makes of them."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from bulk_outputs import FAST, Caption, Captions, read_lines
from bulk_sources import Images
from random_captioner import save_captioner, write_images
from random_matcher import save_matcher
from web_server import WebServer

from cutline.cli.main import run_command


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a captioner with random weights."""
    folder = tmp_path_factory.mktemp("bulk") / "model"
    save_captioner(folder)
    return str(folder)


@pytest.fixture(scope="session")
def matcher(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a matcher with random weights."""
    folder = tmp_path_factory.mktemp("bulk") / "matcher"
    save_matcher(folder)
    return str(folder)


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return twelve images, which tests link or copy."""
    return write_images(tmp_path_factory.mktemp("bulk") / "scenes", 12)


@pytest.fixture(scope="session")
def plain_captions(scenes: list[Path], model: str) -> Captions:
    """Return the captions that the command prints for one image after the other."""
    stdout = io.StringIO()
    with contextlib.redirect_stdout(stdout):
        for path in scenes:
            assert run_command(["caption", str(path), "-m", model, *FAST]) == 0
    captions = read_lines(stdout.getvalue())
    assert len(captions) == len(scenes)
    assert len(set(captions.values())) > len(scenes) / 2
    return captions


@pytest.fixture(scope="session")
def server() -> Iterator[WebServer]:
    """Return a web server."""
    with WebServer() as server:
        yield server


@pytest.fixture
def images(
    scenes: list[Path], tmp_path: Path, server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Images]:
    """Return the images, from which sources are made in a temporary folder."""
    monkeypatch.chdir(tmp_path)  # where a list on stdin leaves its state
    yield Images(scenes, tmp_path, server)
    filesystem = fsspec.filesystem("memory")
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]


@pytest.fixture
def caption(model: str, capsys: pytest.CaptureFixture[str]) -> Caption:
    """Return a function that runs `cutline caption` with some words.

    It returns the exit code, and what was printed to stdout and stderr.
    """

    def run(*words: object) -> tuple[int, str, str]:
        code = run_command(["caption", "-m", model, *FAST, *map(str, words)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run
