"""HTML report of a filtered collection: share of noise, scores, and images with their texts."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cutline.bulk.failures import make_failure_problems
from cutline.bulk.random_samples import RandomSamples
from cutline.bulk.record import Record
from cutline.bulk.report import describe_shown, find_records
from cutline.bulk.run import CaptionRun
from cutline.capfilt.counts import BAR_WIDTHS, TextCounts, find_scores
from cutline.config import FilterConfig
from cutline.data import Sample
from cutline.messages import format_text
from cutline.report import (
    About,
    Card,
    Column,
    Figures,
    Gallery,
    HistogramChart,
    Line,
    Report,
    Section,
    Table,
    Text,
    Tone,
    format_fixed,
    format_number,
    format_percent,
    write_report,
)

TITLES = {
    "itm": "Match probability (ITM)",
    "itc": "Cosine of the embeddings (ITC)",
    "ratio": "Likelihood ratio, as a logarithm",
}
SCORE_NAMES = {"itm": "match", "itc": "cosine", "ratio": "ratio"}
MAX_LINES = 5
"""texts of an image that its card shows"""
KEPT, DROPPED = "kept", "dropped"
TAGS: dict[str, Tone] = {
    "all kept": "good",
    "some dropped": "",
    "all dropped": "bad",
}


def write_filter_report(
    path: str,
    run: CaptionRun,
    samples: RandomSamples,
    counts: TextCounts,
    config: FilterConfig,
    about: About | None = None,
) -> None:
    """Write an HTML report of what was kept and dropped.

    Args:
        path: The HTML file.
        run: The run, whose listener is told how much of the report is done.
        samples: Images to show.
        counts: Counts of all texts.
        config: Which texts are kept.
        about: What the report is of.
    """
    report = make_filter_report(run, samples, counts, config, about or About())
    write_report(path, report, run.listener.progress)


def make_filter_report(
    run: CaptionRun,
    samples: RandomSamples,
    counts: TextCounts,
    config: FilterConfig,
    about: About,
) -> Report:
    """Return the report that `write_filter_report` writes."""
    by_origin = [_make_table(counts)] if len(counts.origins) > 1 else []
    sections = [Section("Result", [_make_figures(run, counts), *by_origin])]
    problems = make_failure_problems(run.iter_failures())
    if problems.problems:
        sections.append(Section("Failures", [problems]))
    sections.append(Section("Scores", list(_make_charts(counts, config))))
    gallery = _make_gallery(find_records(run, samples), config)
    shown = describe_shown(len(gallery.cards), counts.num_images)
    text = Text(f"{shown} First come those with a text that is closest to the threshold.")
    sections.append(Section("Images", [text, gallery]))
    title = f"Filtered texts of {about.data}" if about.data else "Filtered texts"
    minimum = format_number(config.minimum)
    intro = f"A text is kept if its {SCORE_NAMES[config.score]} is {minimum} or more."
    return Report(title, about, sections, intro)


def _make_figures(run: CaptionRun, counts: TextCounts) -> Figures:
    kept, dropped = counts.kept.total(), counts.dropped.total()
    return Figures(
        [
            (f"{kept:,}", "texts kept"),
            (f"{dropped:,}", "texts dropped"),
            (format_percent(dropped / max(1, kept + dropped)), "share of noise"),
            (f"{counts.num_images - counts.num_empty:,}", "images kept"),
            (f"{counts.num_empty:,}", "images without a text that matches"),
            (f"{run.counts.all_failed:,}", "images failed"),
        ]
    )


def _make_table(counts: TextCounts) -> Table:
    rows = [
        (
            origin,
            counts.total(origin),
            counts.kept[origin],
            counts.dropped[origin],
            counts.noise(origin),
        )
        for origin in counts.origins
    ]
    header = ("origin", "texts", KEPT, DROPPED, "share of noise")
    return Table(rows, header, percent=["share of noise"], caption="Texts by origin")


def _make_charts(counts: TextCounts, config: FilterConfig) -> Iterator[HistogramChart]:
    limit = {f"kept from {format_number(config.minimum)}": config.minimum}
    for name in counts.score_names:
        series = {
            f"{origin} texts": counts.scores[origin, name]
            for origin in counts.origins
            if (origin, name) in counts.scores
        }
        unit = "texts" if len(series) == 1 else "share of texts"
        yield HistogramChart(
            TITLES[name],
            series,
            SCORE_NAMES[name],
            unit,
            BAR_WIDTHS[name],
            are_ranges=True,
            limits=limit if name == config.score else {},
        )


def _make_gallery(records: Sequence[tuple[Sample, Record]], config: FilterConfig) -> Gallery:
    name = SCORE_NAMES[config.score]
    columns = [Column(f"highest {name}"), Column(f"lowest {name}"), Column("from threshold", 3)]
    cards = [_make_card(sample, record, config) for sample, record in records]
    return Gallery(cards, columns, TAGS, ("from threshold", "lowest"))


def _make_card(sample: Sample, record: Record, config: FilterConfig) -> Card:
    lines = [_make_line(text, KEPT) for text in record.kept]
    lines += [_make_line(text, DROPPED) for text in record.dropped]
    scores = [text[config.score] for text in (*record.kept, *record.dropped)]
    distance = min(abs(score - config.minimum) for score in scores)
    tags, omitted = list(TAGS), max(0, len(lines) - MAX_LINES)
    return Card(
        sample.image,
        lines[:MAX_LINES],
        format_text(sample.id),
        sample.local_path or sample.url,
        numbers=[max(scores), min(scores), distance],
        tags=[tags[0] if not record.dropped else tags[1] if record.kept else tags[2]],
        note=f"and {omitted:,} more texts" if omitted else "",
    )


def _make_line(text: Mapping[str, Any], fate: str) -> Line:
    scores = (f"{SCORE_NAMES[name]} {format_fixed(text[name], 2)}" for name in find_scores(text))
    label = " · ".join([fate, *([text["origin"]] if "origin" in text else []), *scores])
    caption = text["caption"]
    return Line(caption, label, [(0, len(caption), "removed")] if fate == DROPPED else [])
