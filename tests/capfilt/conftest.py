"""A small captioner and matcher in folders, images with texts, and which of these match."""

import contextlib
import io
import itertools
from pathlib import Path

import pytest
from filter_data import FAST, Run, Texts, Truth
from random_captioner import save_captioner, write_images
from random_matcher import make_matcher, save_matcher

from cutline.cli.main import run_command
from cutline.matcher import Matcher

WORDS = ("red", "blue", "green", "circle", "star", "above", "below", "left", "one", "two", "three")


@pytest.fixture(scope="session")
def matcher() -> Matcher:
    return make_matcher()


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a captioner and a matcher, both with random weights."""
    folder = tmp_path_factory.mktemp("capfilt")
    save_captioner(folder / "captioner")
    save_matcher(folder / "matcher")
    return folder


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return twelve images, which tests link or copy."""
    return write_images(tmp_path_factory.mktemp("capfilt") / "scenes", 12)


@pytest.fixture(scope="session")
def texts(scenes: list[Path]) -> Texts:
    """Return texts of the images: two or three each, of different lengths."""
    found: Texts = {}
    for number, path in enumerate(scenes):
        count = 2 + number % 2
        found[path.stem] = [
            " ".join(WORDS[(number * 3 + row * 5 + word) % len(WORDS)] for word in range(2 + row))
            for row in range(count)
        ]
    return found


@pytest.fixture(scope="session")
def truth(scenes: list[Path], texts: Texts, matcher: Matcher) -> Truth:
    """Return which texts should be kept, with a threshold far from all scores.

    It is that of an image of which nothing is kept, or above.
    """
    scores = {path.stem: matcher.match(path, texts[path.stem]).tolist() for path in scenes}
    lowest = min(max(row) for row in scores.values())
    values = sorted(value for row in scores.values() for value in row)
    pairs = [pair for pair in itertools.pairwise(values) if pair[0] >= lowest]
    low, high = max(pairs[: len(pairs) // 2], key=lambda pair: pair[1] - pair[0])
    threshold = (low + high) / 2
    kept: Texts = {}
    dropped: Texts = {}
    for name, row in scores.items():
        for text, value in zip(texts[name], row, strict=True):
            (kept if value >= threshold else dropped).setdefault(name, []).append(text)
    assert 0 < len(kept) < len(scenes)
    assert dropped
    return Truth(threshold, kept, dropped)


@pytest.fixture
def run(models: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs `cutline filter` or `cutline capfilt`."""

    def run_words(command: str, *words: object) -> tuple[int, str]:
        flags = ["--matcher", str(models / "matcher"), *FAST]
        if command == "capfilt":
            flags += ["--captioner", str(models / "captioner"), "--max-length", "12"]
        with contextlib.redirect_stdout(io.StringIO()) as stdout:
            code = run_command([command, *map(str, words), *flags])
        assert stdout.getvalue() == ""
        return code, capsys.readouterr().err

    return run_words
