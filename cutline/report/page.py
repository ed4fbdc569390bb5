"""The page of a report: one HTML file with its style sheet, script, images and data.

The content security policy allows only this script and this style sheet, by their hashes, and
images inside the page: nothing is loaded from elsewhere.
"""

import base64
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup, escape

from cutline.progress import Progress
from cutline.report.gallery import Gallery
from cutline.report.thumbnails import Thumbnails
from cutline.web import hide_credentials, is_web_address

if TYPE_CHECKING:
    from cutline.report.report import Report

SCRIPTS = (
    "page.js",
    "tables.js",
    "charts.js",
    "filters.js",
    "gallery.js",
    "enlarged.js",
    "word_maps.js",
    "start.js",
)
"""in the order in which they stand on the page"""
_FOLDER = Path(__file__).parent
_CODE = re.compile("`([^`]+)`")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def render_page(report: "Report", path: Path, progress: Progress) -> str:
    """Return the HTML of a report.

    Args:
        report: The report.
        path: Where the page will be, which links to images are relative to.
        progress: Shows how many images are done.
    """
    thumbnails = Thumbnails()
    galleries = {
        id(gallery): _number_thumbnails(gallery, thumbnails) for gallery in _find_galleries(report)
    }
    images = _find_problem_images(report, thumbnails)
    uris = thumbnails.encode(progress)
    style, script = read_assets()

    def describe_gallery(gallery: Gallery) -> dict[str, Any]:
        links = {card.file: make_link(card.file, path) for card in gallery.cards}
        return gallery.to_json(galleries[id(gallery)], links)

    page = (
        _make_environment()
        .get_template("page.html")
        .render(
            report=report,
            blocks=[[*_group_charts(section.blocks)] for section in report.sections],
            style=Markup(style),
            script=Markup(script),
            policy=make_policy(style, script),
            thumbnails=uris,
            images=images,
            describe_gallery=describe_gallery,
        )
    )
    # Control characters are not allowed in HTML, and surrogates not in UTF-8.
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], page)


def make_policy(style: str, script: str) -> str:
    """Return the content security policy of a page with this style sheet and script."""
    rules = {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": _hash(style),
        "script-src": _hash(script),
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


@cache
def read_assets() -> tuple[str, str]:
    """Return the style sheet and the script of all pages."""
    folder = _FOLDER / "assets"
    scripts = ((folder / name).read_text(encoding="utf-8") for name in SCRIPTS)
    style = (folder / "report.css").read_text(encoding="utf-8")
    return f"\n{style}", '\n"use strict";\n' + "\n".join(scripts)


def make_link(file: str, page: Path) -> str:
    """Return the link from a page to an image: relative for files, "" for what browsers lack.

    Addresses lose the user and password that they may contain.

    Args:
        file: Path or address of the image.
        page: Path of the page.
    """
    if is_web_address(file):
        return hide_credentials(file).replace("://…@", "://", 1)
    if not file or "://" in file:
        return ""
    try:
        relative = os.path.relpath(file, page.parent)
    except ValueError:  # on another drive of Windows
        return Path(file).absolute().as_uri()
    try:
        return quote(os.fsencode(relative.replace(os.sep, "/")))
    except UnicodeEncodeError:  # half of a surrogate pair, which no file name has
        return ""


@cache
def _make_environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["script_json"] = _dump_json
    environment.filters["code"] = _mark_code
    environment.filters["hide_credentials"] = hide_credentials
    environment.tests["chart"] = _is_chart
    environment.filters["kind"] = lambda block: type(block).__name__
    environment.filters["id_of"] = id
    return environment


def _dump_json(value: object) -> Markup:
    """Return JSON that can stand inside a script element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    text = _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028"))


def _mark_code(text: str) -> Markup:
    """Return text whose parts in backticks, such as `--max-words`, are code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))


def _is_chart(block: object) -> bool:
    return hasattr(block, "plot")


def _group_charts(blocks: Any) -> Iterator[list[Any]]:
    """Yield blocks one by one, and charts that follow each other together."""
    charts: list[Any] = []
    for block in blocks:
        if _is_chart(block):
            charts.append(block)
            continue
        if charts:
            yield charts
            charts = []
        yield [block]
    if charts:
        yield charts


def _find_galleries(report: "Report") -> Iterator[Gallery]:
    for section in report.sections:
        yield from (block for block in section.blocks if isinstance(block, Gallery))


def _number_thumbnails(gallery: Gallery, thumbnails: Thumbnails) -> Mapping[int, int]:
    return {
        index: thumbnails.add(card.image)
        for index, card in enumerate(gallery.cards)
        if card.image is not None
    }


def _find_problem_images(report: "Report", thumbnails: Thumbnails) -> dict[int, list[list[int]]]:
    """Return the numbers of the images of each problem, by group."""
    images = {}
    for section in report.sections:
        for block in section.blocks:
            for problem in getattr(block, "problems", ()):
                groups = [*([image] for image in problem.images), *problem.groups]
                images[id(problem)] = [[*map(thumbnails.add, group)] for group in groups]
    return images
