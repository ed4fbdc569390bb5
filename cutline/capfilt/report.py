"""HTML report of a filtered collection: share of noise, scores, and walls of kept and dropped."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from cutline.bulk.record import Record
from cutline.bulk.report import render_failures
from cutline.bulk.run import CaptionRun
from cutline.capfilt.counts import BAR_WIDTHS, TextCounts, find_scores
from cutline.data import Sample
from cutline.errors import ImageError
from cutline.image import open_thumbnail
from cutline.report import (
    THUMBNAIL_SIZE,
    Card,
    render_gallery,
    render_histogram,
    render_key_figures,
    render_table,
    write_report,
)

NUM_CARDS = 48
TITLES = {
    "itm": "Match probability (ITM)",
    "itc": "Cosine of the embeddings (ITC)",
    "ratio": "Likelihood ratio, as a logarithm",
}


def write_filter_report(
    path: str, run: CaptionRun, samples: Iterable[Sample], counts: TextCounts
) -> None:
    """Write an HTML report of what was kept and dropped.

    Args:
        path: The HTML file.
        run: The run.
        samples: Images chosen at random, for the walls.
        counts: Counts of all texts.
    """
    records = list(_find_records(run, samples))
    sections = [("Result", _render_figures(run, counts)), ("Texts", _render_counts(counts))]
    sections += [(name, "".join(_render_scores(counts, name))) for name in counts.score_names]
    for title, field in (("Kept", "kept"), ("Dropped", "dropped")):
        cards = islice(_make_cards(records, field), NUM_CARDS)
        sections.append((title, render_gallery(list(cards))))
    sections += render_failures(run)
    intro = "Which texts match their images, by their scores; images chosen at random."
    write_report(path, "Filtered texts", intro, sections)


def _render_figures(run: CaptionRun, counts: TextCounts) -> str:
    figures = [
        (f"{counts.kept.total():,}", "texts kept"),
        (f"{counts.dropped.total():,}", "texts dropped"),
        (f"{counts.num_images - counts.num_empty:,}", "images kept"),
        (f"{counts.num_empty:,}", "images without a text that matches"),
        (f"{run.counts.all_failed:,}", "images failed"),
    ]
    return render_key_figures(figures)


def _render_counts(counts: TextCounts) -> str:
    rows = [
        (
            origin,
            counts.total(origin),
            counts.kept[origin],
            counts.dropped[origin],
            f"{counts.noise(origin):.1%}",
        )
        for origin in counts.origins
    ]
    return render_table(rows, ("origin", "texts", "kept", "dropped", "share of noise"))


def _render_scores(counts: TextCounts, name: str) -> Iterator[str]:
    for origin in counts.origins:
        title = f"{TITLES[name]}, {origin} texts"
        scores = counts.scores[origin, name]
        yield render_histogram(scores, title, name, "texts", BAR_WIDTHS[name])


def _find_records(run: CaptionRun, samples: Iterable[Sample]) -> Iterator[tuple[Sample, Record]]:
    for sample in samples:
        record = run.manifest.find_record(sample.id)
        if record and not record.kind:
            yield sample, record


def _make_cards(records: Sequence[tuple[Sample, Record]], field: str) -> Iterator[Card]:
    for sample, record in records:
        texts: Sequence[Mapping[str, Any]] = getattr(record, field)
        if not texts:
            continue
        try:
            image = open_thumbnail(sample.image, THUMBNAIL_SIZE)
        except ImageError:  # removed since it was scored
            continue
        yield Card(image, " · ".join(map(_describe_text, texts)), sample.id)


def _describe_text(text: Mapping[str, Any]) -> str:
    scores = ", ".join(f"{name} {text[name]:.2f}" for name in find_scores(text))
    origin = f"({text['origin']}) " if "origin" in text else ""
    return f"{scores} {origin}{text['caption']}"
