"""HTML report of a search: the images that were found."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from PIL import Image

from cutline.errors import ImageError
from cutline.image import ImageSource, open_thumbnail
from cutline.messages import format_text
from cutline.report import (
    THUMBNAIL_SIZE,
    Card,
    render_gallery,
    render_key_figures,
    write_report,
)
from cutline.retrieval.search_index import SearchHit, SearchIndex


def write_search_report(
    path: str | Path, index: SearchIndex, question: str | ImageSource, hits: Sequence[SearchHit]
) -> None:
    """Write an HTML report of a search.

    Args:
        path: The HTML file.
        index: The index.
        question: What was asked.
        hits: What was found, best first.
    """
    title = f"“{question}”" if isinstance(question, str) else "Images like this one"
    figures = [(f"{len(hits):,}", "images found"), (f"{len(index):,}", "images searched")]
    sections = [("Result", render_key_figures(figures))]
    if not isinstance(question, str):
        card = Card(_open_thumbnail(question), "the question")
        sections.insert(0, ("Question", render_gallery([card])))
    sections.append(("Images", render_gallery(list(_make_cards(index, hits)))))
    intro = "Images in the order in which they were found, with their scores."
    write_report(path, title, intro, sections)


def _make_cards(index: SearchIndex, hits: Sequence[SearchHit]) -> Iterator[Card]:
    for number, (hit, image) in enumerate(zip(hits, index.find(hits), strict=True), 1):
        note = f"{number} · cosine {hit.score:.4f}"
        if hit.match is not None:
            note += f" · match {hit.match:.4f}"
        thumbnail = None if image is None else _open_thumbnail(image)
        name = format_text(index.images.image(hit.row).name)
        yield Card(thumbnail, name, note if thumbnail else f"{note} · cannot be read any more")


def _open_thumbnail(image: ImageSource) -> Image.Image | None:
    with suppress(ImageError):
        return open_thumbnail(image, THUMBNAIL_SIZE)
    return None
