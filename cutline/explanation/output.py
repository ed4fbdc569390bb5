"""Outputs of `cutline explain`: an HTML page, a folder of PNG images, or an .npz file of arrays."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from cutline.errors import ConfigError
from cutline.explanation.colors import draw_overlay, draw_sheet, make_overlay
from cutline.explanation.explainer import ExplainedImage
from cutline.explanation.explanation import Explanation
from cutline.files import MAX_NAME_BYTES, atomic_write, check_writable
from cutline.messages import format_text
from cutline.report import (
    About,
    Report,
    Section,
    Text,
    WordMapCard,
    WordMaps,
    WordOverlay,
    make_word_map_card,
    write_report,
)

SHEET_NAME = "words.png"
"""file of all words of an image, in a folder"""
MAX_IMAGE_SIZE = 1024
"""longer side of the image of a word, in pixels"""


class ExplanationOutput(Protocol):
    """Takes explanations one by one.

    Attributes:
        count: The number of images so far.
    """

    count: int

    def add(self, name: str, explained: ExplainedImage) -> None:
        """Add the explanation of an image, of which `name` is the path."""

    def close(self) -> None:
        """Write what is not yet written; without this call, a file is left as it was."""


def open_explanation_output(path: str, about: About | None = None) -> ExplanationOutput:
    """Return the output at a path: .html, .npz, or a folder.

    Args:
        path: The path.
        about: What a page says that it is of.

    Raises:
        ConfigError: It has another suffix, a folder has the name of a file, or is not empty.
        CutlineError: It cannot be written.
    """
    suffix = Path(path).suffix.lower()
    kinds: dict[str, Callable[[Path], ExplanationOutput]] = {
        ".html": partial(PageOutput, about=about or About()),
        ".htm": partial(PageOutput, about=about or About()),
        ".npz": ArrayOutput,
    }
    if path == "-":
        raise ConfigError(
            "explain does not write to stdout: name an .html or .npz file, or a folder"
        )
    is_folder = Path(path).is_dir()
    if suffix in kinds and is_folder:
        raise ConfigError(f"{path}: a folder; name a file")
    if suffix not in (*kinds, "") and not is_folder:
        raise ConfigError(f"{path}: explain writes .html, .npz, or a folder of PNG images")
    if not suffix and Path(path).exists() and not is_folder:
        raise ConfigError(f"{path}: a file; name a folder, or a file that ends with .html or .npz")
    if is_folder and any(Path(path).iterdir()):
        raise ConfigError(f"{path}: is not empty; name another folder, or remove its files")
    check_writable(path)
    return kinds.get(suffix, FolderOutput)(Path(path))


@dataclass
class PageOutput:
    """An HTML page, which contains its images: pointing at a word shows its map."""

    path: Path
    about: About
    count: int = 0
    _cards: list[WordMapCard] = field(default_factory=list)

    def add(self, name: str, explained: ExplainedImage) -> None:
        """Add the explanation of an image."""
        self.count += 1
        text, words = explained.explanation.text, explained.explanation.words
        overlays = [WordOverlay(word.start, word.end, make_overlay(word)) for word in words]
        # Much smaller than the image and its maps.
        self._cards.append(make_word_map_card(explained.image, text, overlays, format_text(name)))

    def close(self) -> None:
        """Write the page."""
        write_report(self.path, self.make_report())

    def make_report(self) -> Report:
        """Return the page."""
        intro = "Point at a word, tap it or move to it with Tab to see where the captioner looked."
        note = Text(
            "Bright is much, and each word has a scale of its own. A map says which parts of the "
            "image made the word likely, not whether it is true."
        )
        title = "Where the captioner looked"
        title += f" in {self.about.data}" if self.about.data else ""
        sections = [Section("Images", [note, WordMaps(self._cards)])]
        return Report(title, self.about, sections, intro)


@dataclass
class ArrayOutput:
    """An .npz file with the maps of all words of all images."""

    path: Path
    count: int = 0
    _names: list[str] = field(default_factory=list)
    _explanations: list[Explanation] = field(default_factory=list)
    _sizes: list[tuple[int, int]] = field(default_factory=list)

    def add(self, name: str, explained: ExplainedImage) -> None:
        """Add the explanation of an image."""
        self.count += 1
        self._names.append(name)
        self._explanations.append(explained.explanation)
        self._sizes.append(explained.image.size[::-1])

    def close(self) -> None:
        """Write the file."""
        words = [
            (number, word)
            for number, explanation in enumerate(self._explanations)
            for word in explanation.words
        ]
        spans = [(word.start, word.end) for _, word in words]
        arrays: dict[str, npt.NDArray[Any]] = {
            "images": np.array(self._names, dtype=np.str_),
            "captions": np.array([each.text for each in self._explanations], dtype=np.str_),
            "sizes": np.array(self._sizes, dtype=np.int64).reshape(-1, 2),
            "image": np.array([number for number, _ in words], dtype=np.int64),
            "words": np.array([word.text for _, word in words], dtype=np.str_),
            "spans": np.array(spans, dtype=np.int64).reshape(-1, 2),
            "maps": np.stack([word.map for _, word in words]) if words else np.empty((0, 0, 0)),
        }
        with atomic_write(self.path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


@dataclass
class FolderOutput:
    """A folder with a subfolder for each image: a PNG image for each word, and one of all."""

    path: Path
    count: int = 0

    def add(self, name: str, explained: ExplainedImage) -> None:
        """Write the images of an explanation."""
        self.count += 1
        image, explanation = explained.image.copy(), explained.explanation
        image.thumbnail((MAX_IMAGE_SIZE, MAX_IMAGE_SIZE))
        stem = re.split(r"[/\\]", name)[-1].rpartition(".")[0] or name
        folder = self.path / f"{self.count:04}-{make_file_name(stem)}"
        _save(draw_sheet(image, explanation), folder / SHEET_NAME)
        for number, word in enumerate(explanation.words, 1):
            _save(
                draw_overlay(image, word), folder / f"{number:02}-{make_file_name(word.text)}.png"
            )

    def close(self) -> None:
        """Do nothing: all images are written."""


def make_file_name(text: str) -> str:
    """Return a text as a part of a file name that any system allows: letters, digits, - and _."""
    name = re.sub(r"[^\w-]+", "_", text)
    return name.encode()[: MAX_NAME_BYTES - 20].decode("utf-8", "ignore")


def _save(image: Image.Image, path: Path) -> None:
    with atomic_write(path) as temporary:
        image.save(temporary, "PNG")
