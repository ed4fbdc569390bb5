"""HTML report of a search: the images that were found."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from cutline.config import REPORT_IMAGES
from cutline.data.sample import is_url
from cutline.image import ImageSource
from cutline.messages import format_text
from cutline.progress import Progress, no_progress
from cutline.report import (
    About,
    Block,
    Card,
    Column,
    Figures,
    Gallery,
    Line,
    Report,
    Section,
    Text,
    write_report,
)
from cutline.retrieval.search_index import SearchHit, SearchIndex


def write_search_report(
    path: str | Path,
    index: SearchIndex,
    question: str | ImageSource,
    hits: Sequence[SearchHit],
    about: About | None = None,
    num_images: int = REPORT_IMAGES,
    progress: Progress = no_progress,
) -> None:
    """Write an HTML report of a search.

    Args:
        path: The HTML file.
        index: The index.
        question: What was asked.
        hits: What was found, best first.
        about: What the report is of.
        num_images: Images that it shows, at most: the best ones.
        progress: Shows how many images are done.
    """
    report = make_search_report(index, question, hits, about or About(), num_images)
    write_report(path, report, progress)


def make_search_report(
    index: SearchIndex,
    question: str | ImageSource,
    hits: Sequence[SearchHit],
    about: About,
    num_images: int = REPORT_IMAGES,
) -> Report:
    """Return the report that `write_search_report` writes."""
    shown = hits[:num_images]
    blocks: list[Block] = [Figures(list(_make_figures(index, hits)))]
    if len(shown) < len(hits):
        blocks.append(Text(f"The best {len(shown):,} of {len(hits):,} images."))
    sections = [Section("Images", [*blocks, _make_gallery(index, shown)])]
    if isinstance(question, str):
        title, intro = f"“{question}”", "The images that match best, first."
    else:
        title = f"Images like {_name_question(question)}"
        intro = "The most similar images, first."
        sections.insert(0, Section("Question", [_show_question(question)]))
    title += f" in {about.data}" if about.data else ""
    return Report(title, about, sections, intro)


def _show_question(question: ImageSource) -> Gallery:
    name = _name_question(question)
    file = str(question) if isinstance(question, str | Path) else ""
    return Gallery([Card(question, [Line(name)], name, file)])


def _name_question(question: ImageSource) -> str:
    return format_text(Path(question).name) if isinstance(question, str | Path) else "this one"


def _make_figures(index: SearchIndex, hits: Sequence[SearchHit]) -> Iterator[tuple[str, str]]:
    yield f"{len(hits):,}", "images found"
    yield f"{len(index):,}", "images searched"
    if num_ranked := sum(hit.match is not None for hit in hits):
        yield f"{num_ranked:,}", "re-ranked by match probability"


def _make_gallery(index: SearchIndex, hits: Sequence[SearchHit]) -> Gallery:
    columns = [Column("rank", 0), Column("cosine", 4)]
    if has_match := any(hit.match is not None for hit in hits):
        columns.append(Column("match", 4))
    pairs = zip(hits, index.find(hits), strict=True)
    cards = [
        _make_card(index, rank, hit, image, has_match) for rank, (hit, image) in enumerate(pairs, 1)
    ]
    return Gallery(cards, columns, sort=("rank", "lowest"))


def _make_card(
    index: SearchIndex, rank: int, hit: SearchHit, image: ImageSource | None, has_match: bool
) -> Card:
    entry = index.images.image(hit.row)
    name = format_text(entry.name)
    return Card(
        image,
        [Line(name)],
        name,
        hit.image if entry.is_file or is_url(hit.image) else "",
        numbers=[rank, hit.score, *([hit.match] if has_match else [])],
        note="" if image is not None else "cannot be read any more",
    )
