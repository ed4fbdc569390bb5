"""A strict HTML parser, and images read back from a page."""

import base64
import io
from html.parser import HTMLParser

from hypothesis import strategies as st
from PIL import Image

RED_IMAGE = Image.new("RGB", (64, 64), (200, 30, 40))
PRINTABLE = st.text(st.characters(exclude_categories=("Cs", "Cc", "Co", "Cn")))


class HtmlReader(HTMLParser):
    """Tags, attributes and texts of a page; fails on tags that are not closed in order."""

    void = frozenset({"meta", "img"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def read_images(page: str) -> list[Image.Image]:
    sources = [value or "" for name, value in HtmlReader(page).attributes if name == "src"]
    encoded = [source.partition(";base64,")[2] for source in sources]
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in encoded]
