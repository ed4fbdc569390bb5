"""What `cutline explain` writes: a self-contained page, images and arrays."""

import base64
import io
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cutline.errors import ConfigError
from cutline.explanation import ExplainedImage, Explanation, WordMap
from cutline.explanation.colors import (
    SHEET_SIZE,
    color_map,
    draw_overlay,
    draw_sheet,
    make_overlay,
)
from cutline.explanation.output import make_file_name, open_explanation_output
from cutline.report import About

WORDS = ["<b>", "a/b", "..", "狗狗", "a/b", "x" * 300]


def explain_by_hand(size: tuple[int, int], words: list[str]) -> ExplainedImage:
    """Return an explanation in which word number n points at patch n."""
    text, maps, start = " ".join(words), [], 0
    for number, word in enumerate(words):
        heat = np.zeros((4, 4), dtype=np.float32)
        heat.flat[number] = 1
        maps.append(WordMap(word, start, start + len(word), heat, size[::-1]))
        start += len(word) + 1
    image = Image.new("RGB", size, (90, 160, 90))
    return ExplainedImage(image, Explanation(text, tuple(maps), "gradient"))


def decode_image(source: str) -> Image.Image:
    """Return the image in a data URI."""
    return Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))


def lay_over_gray(overlay: Image.Image) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return what is seen of an overlay on a gray image."""
    pixels = np.asarray(overlay.convert("RGBA")).astype(np.float64)
    alpha = pixels[..., 3:] / 255
    seen: np.ndarray[Any, np.dtype[np.float64]] = pixels[..., :3] * alpha + 128 * (1 - alpha)
    return seen


def write_example_report(path: Path) -> None:
    """Write a page of a dozen drawn images."""
    output = open_explanation_output(str(path), About("photos", "runs/my-run"))
    for number in range(12):
        size = (48, 40) if number % 2 else (40, 48)
        output.add(f"{number:02}.png", explain_by_hand(size, ["a", "red", f"star{number}", "and"]))
    output.close()


def test_a_page_is_self_contained_and_shows_all_words(tmp_path: Path) -> None:
    about = About("photos", "runs/my-run", settings={"method": "gradient"})
    output = open_explanation_output(str(tmp_path / "page.html"), about)
    output.add('<"one">.png', explain_by_hand((40, 30), WORDS))
    output.add("two.png", explain_by_hand((600, 400), []))
    assert not (tmp_path / "page.html").exists()
    output.close()
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    sources = re.findall(r'<image[^>]* href="([^"]*)"', page)
    assert len(sources) == 2 + len(WORDS)
    assert all(source.startswith("data:image/") for source in sources)
    words = explain_by_hand((40, 30), WORDS).explanation.words
    for source, word in zip(sources[1:], words, strict=False):
        actual, expected = map(lay_over_gray, (decode_image(source), make_overlay(word)))
        assert np.abs(actual - expected).mean() < 1
    assert page.count('class="word"') == page.count('tabindex="0" role="button"') == len(WORDS)
    assert "<b>" not in page
    assert "&lt;b&gt;" in page
    assert "狗狗" in page
    assert 'viewBox="0 0 40 30"' in page
    assert "<h1>Where the captioner looked in photos</h1>" in page
    for fact in ("runs/my-run", "method", "gradient"):
        assert f"<dt>{fact}</dt>" in page or f"<dd>{fact}</dd>" in page


def test_arrays_hold_everything(tmp_path: Path) -> None:
    output = open_explanation_output(str(tmp_path / "maps.npz"))
    explained = explain_by_hand((40, 30), WORDS)
    for name in ("one.png", "two.png"):
        output.add(name, explained)
    output.close()
    with np.load(tmp_path / "maps.npz") as arrays:
        assert arrays["images"].tolist() == ["one.png", "two.png"]
        assert arrays["captions"].tolist() == [explained.explanation.text] * 2
        assert arrays["sizes"].tolist() == [[30, 40]] * 2
        assert arrays["image"].tolist() == [0] * len(WORDS) + [1] * len(WORDS)
        assert arrays["words"].tolist() == WORDS * 2
        text = explained.explanation.text
        assert [text[start:end] for start, end in arrays["spans"][: len(WORDS)]] == WORDS
        assert arrays["maps"].shape == (2 * len(WORDS), 4, 4)
        peaks = arrays["maps"].reshape(-1, 16).argmax(1)
        assert peaks.tolist() == [*range(len(WORDS))] * 2


def test_a_folder_has_an_image_for_each_word(tmp_path: Path) -> None:
    """Whatever the words and paths are."""
    output = open_explanation_output(str(tmp_path / "out"))
    explained = explain_by_hand((40, 30), WORDS)
    for name in ("a/same.png", "b/same.png", "../x\\..\\狗.png", "-"):
        output.add(name, explained)
    output.close()
    folders = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert [name[:5] for name in folders] == ["0001-", "0002-", "0003-", "0004-"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    for folder in (tmp_path / "out").iterdir():
        files = sorted(folder.iterdir())
        assert len(files) == len(WORDS) + 1
        assert files[-1].name == "words.png"
        for number, file in enumerate(files[:-1]):
            assert file.name.startswith(f"{number + 1:02}-")
            with Image.open(file) as image:
                expected = draw_overlay(explained.image, explained.explanation.words[number])
                assert image.size == (40, 30)
                assert np.array_equal(np.asarray(image), np.asarray(expected))


@settings(max_examples=100, derandomize=True)
@given(st.text())
def test_file_names_are_safe(text: str) -> None:
    name = make_file_name(text)
    assert not set(name) & set('/\\:*?"<>|.\0\n ')
    assert len(name.encode(sys.getfilesystemencoding())) <= 200


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("page.pdf", r"explain writes \.html, \.npz, or a folder"),
        ("file", "a file; name a folder"),
        ("folder.html", "a folder; name a file"),
        ("full", "is not empty; name another folder"),
        ("-", "explain does not write to stdout"),
    ],
)
def test_outputs_that_are_refused(
    tmp_path: Path, path: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        open_explanation_output(path)


def test_overlays_are_brightest_where_the_map_is() -> None:
    word = explain_by_hand((64, 64), [*"abcdefg"]).explanation.words[6]  # row 1, column 2
    overlay = np.asarray(make_overlay(word, 64)).astype(int)
    assert overlay[23, 39, 3] == overlay[..., 3].max() == pytest.approx(255 * 0.8, abs=1)
    assert overlay[39, 23, 3] < 0.5 * overlay[23, 39, 3]
    assert overlay[56, 56, 3] < 0.2 * overlay[23, 39, 3]


@pytest.mark.parametrize("size", [(40, 30), (900, 300), (1, 500)])
def test_a_sheet_shows_the_map_of_each_word(size: tuple[int, int]) -> None:
    """Its tiles are as wide as their labels at least."""
    words = ["one", "four", "photographically", "a", "b", "c", "d"]
    explained = explain_by_hand(size, words)
    sheet = np.asarray(draw_sheet(explained.image, explained.explanation)).astype(int)
    small = Image.new("RGB", size, (90, 160, 90))
    scale = SHEET_SIZE / max(size)
    small = small.resize([max(1, round(side * scale)) for side in size])
    tiles = [small] + [draw_overlay(small, word) for word in explained.explanation.words]
    height, width = (sheet.shape[0] - 6) // 2, (sheet.shape[1] - 6) // 6
    assert width >= max(small.width, 100)
    for number, tile in enumerate(tiles):
        top, left = 6 + number // 6 * height, 6 + number % 6 * width
        found = sheet[top : top + tile.height, left : left + tile.width]
        assert np.abs(found - np.asarray(tile)).max() <= 2


def test_images_of_words_are_small(tmp_path: Path) -> None:
    output = open_explanation_output(str(tmp_path / "out"))
    output.add("a.png", explain_by_hand((4000, 1000), ["a"]))
    with Image.open(tmp_path / "out" / "0001-a" / "01-a.png") as image:
        assert image.size == (1024, 256)


def test_colors_get_lighter_with_the_value() -> None:
    values = np.linspace(0, 1, 101, dtype=np.float32)[None]
    pixels = np.asarray(color_map(values).convert("RGB").convert("L"))[0].astype(int)
    assert (np.diff(pixels) >= 0).all()
    assert pixels[-1] - pixels[0] > 200
