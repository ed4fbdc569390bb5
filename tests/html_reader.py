"""A strict HTML parser, and the data of a report read back from its page."""

import base64
import io
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from PIL import Image

RED_IMAGE = Image.new("RGB", (64, 64), (200, 30, 40))
PRINTABLE = st.text(st.characters(exclude_categories=("Cs", "Cc", "Co", "Cn")))


class HtmlReader(HTMLParser):
    """Tags, attributes and texts of a page; fails on tags that are not closed in order.

    Attributes:
        scripts: The texts of script elements, each with its type.
    """

    void = frozenset({"meta", "img"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.scripts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.kind = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self.kind = dict(attrs).get("type") or ""
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append((self.kind, data))
        elif self.open[-1:] != ["style"]:
            self.texts.append(data)


def read_page(path: Path) -> HtmlReader:
    """Return the page of a report."""
    return HtmlReader(path.read_text(encoding="utf-8"))


def read_galleries(page: HtmlReader) -> list[dict[str, Any]]:
    """Return the galleries of a page, as its script reads them."""
    data = [json.loads(text) for kind, text in page.scripts if kind == "application/json"]
    return [each for each in data if isinstance(each, dict)]


def read_card_texts(gallery: dict[str, Any]) -> list[str]:
    """Return the text of each card, its lines joined by line breaks."""
    return [
        "\n".join("".join(text for text, _ in runs) for _, runs in card["lines"])
        for card in gallery["cards"]
    ]


def read_thumbnails(page: HtmlReader) -> list[Image.Image | None]:
    """Return the images of a page; None for those that could not be read."""
    [uris] = [
        data
        for kind, text in page.scripts
        if kind == "application/json"
        and isinstance(data := json.loads(text), list)
        and all(isinstance(each, str) for each in data)
    ]
    return [decode_data_uri(uri) if uri else None for uri in uris]


def decode_data_uri(uri: str) -> Image.Image:
    """Return the image of a data URI."""
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(";base64,")[2])))
