"""HTML report of a run: how long and how sure its captions are, its failures, and images."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cutline.bulk.caption_counts import BAR_WIDTH, CaptionCounts, count_records
from cutline.bulk.failures import make_failure_problems
from cutline.bulk.random_samples import RandomSamples
from cutline.bulk.record import Record
from cutline.bulk.run import CaptionRun
from cutline.config import OutputConfig
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
    Mark,
    Report,
    Section,
    Text,
    Tone,
    format_fixed,
    format_number,
    write_report,
)

MIN_WORD_CONFIDENCE = 0.5
"""words of less confidence are marked: they are wrong as likely as not"""
MAX_LINES = 5
"""captions of an image that its card shows"""
ACCEPTED, NOT_ACCEPTED, UNSURE = "accepted", "not accepted", "unsure words"
TAGS: dict[str, Tone] = {ACCEPTED: "good", NOT_ACCEPTED: "bad", UNSURE: "bad"}
SCORE_NAMES = {"confidence": "confidence", "match": "match probability", "score": "score"}


def write_collection_report(
    path: str | Path, run: CaptionRun, samples: RandomSamples, about: About | None = None
) -> None:
    """Write an HTML report of all captions of a manifest.

    Args:
        path: The HTML file.
        run: The run, whose listener is told how much of the report is done.
        samples: Images to show.
        about: What the report is of.
    """
    report = make_collection_report(run, samples, about or About())
    write_report(path, report, run.listener.progress)


def make_collection_report(run: CaptionRun, samples: RandomSamples, about: About) -> Report:
    """Return the report that `write_collection_report` writes."""
    records = run.manifest.iter_records(seen_only=run.complete)
    total = len(run.manifest.index.order(seen_only=run.complete))
    counts = count_records(
        run.listener.progress(records, total, "counting captions"), run.output_config
    )
    sections = [Section("Result", [_make_figures(run, counts)])]
    problems = make_failure_problems(run.iter_failures())
    if problems.problems:
        sections.append(Section("Failures", [problems]))
    sections.append(Section("Lengths and scores", _make_charts(run, counts)))
    cards = find_records(run, samples)
    gallery = _make_gallery(cards, run.output_config)
    sections.append(Section("Images", [Text(_describe_choice(gallery, counts)), gallery]))
    title = f"Captions of {about.data}" if about.data else "Captions"
    return Report(title, about, sections)


def find_records(run: CaptionRun, samples: RandomSamples) -> list[tuple[Sample, Record]]:
    """Return the samples that did not fail, with their records."""
    pairs = ((sample, run.manifest.find_record(sample.id)) for sample in samples)
    return [(sample, record) for sample, record in pairs if record and not record.kind]


def describe_shown(num_shown: int, num_images: int) -> str:
    """Return how many images a report shows, and how they were chosen."""
    if num_shown >= num_images:
        return "All images."
    return (
        f"{num_shown:,} of {num_images:,} images, chosen at random; `--report-images` shows "
        "more, or fewer that are larger."
    )


def _make_figures(run: CaptionRun, counts: CaptionCounts) -> Figures:
    figures = [
        (f"{counts.num_captions:,}", "captions"),
        (f"{run.counts.all_failed:,}", "failed"),
    ]
    if counts.num_captions > run.counts.captioned:
        figures.insert(1, (f"{run.counts.captioned:,}", "of this run"))
    if run.output_config.min_confidence:
        figures.append((f"{counts.num_not_accepted:,}", "not accepted"))
    if counts.num_captions:
        mean_length = counts.num_words / counts.num_captions
        figures.append((format_fixed(mean_length, 1), "words per caption"))
    figures += [
        (format_fixed(counts.average(name), 2), f"mean {SCORE_NAMES[name]}")
        for name in counts.scores
    ]
    return Figures(figures)


def _make_charts(run: CaptionRun, counts: CaptionCounts) -> list[HistogramChart]:
    minimum = run.output_config.min_confidence
    limits = {"confidence": {f"accepted from {format_number(minimum)}": minimum}} if minimum else {}
    lengths = HistogramChart("Words per caption", {"captions": counts.lengths}, "words", "captions")
    return [lengths] + [
        HistogramChart(
            SCORE_NAMES[name].capitalize(),
            {"captions": scores},
            SCORE_NAMES[name],
            "captions",
            BAR_WIDTH,
            are_ranges=True,
            limits=limits.get(name, {}),
        )
        for name, scores in counts.scores.items()
    ]


def _describe_choice(gallery: Gallery, counts: CaptionCounts) -> str:
    text = describe_shown(len(gallery.cards), counts.num_captions)
    if any(line.marks for card in gallery.cards for line in card.lines):
        text += f" Words of less confidence than {MIN_WORD_CONFIDENCE:g} are underlined."
    return text


def _make_gallery(records: Sequence[tuple[Sample, Record]], outputs: OutputConfig) -> Gallery:
    names = [name for name in SCORE_NAMES if any(name in record.row for _, record in records)]
    columns = [Column(SCORE_NAMES[name]) for name in names] + [Column("words", 0)]
    cards = [_make_card(sample, record, names, outputs) for sample, record in records]
    return Gallery(cards, columns, TAGS)


def _make_card(sample: Sample, record: Record, names: Sequence[str], outputs: OutputConfig) -> Card:
    row = record.row
    texts: Sequence[Mapping[str, Any]] = row.get("alternatives", [row])
    lines = [_make_line(text, len(texts) > 1) for text in texts[:MAX_LINES]]
    tags = []
    if outputs.min_confidence:
        tags.append(ACCEPTED if outputs.accepts(row["confidence"]) else NOT_ACCEPTED)
    if lines[0].marks:
        tags.append(UNSURE)
    omitted = len(texts) - len(lines)
    return Card(
        sample.image,
        lines,
        format_text(sample.id),
        sample.local_path or sample.url,
        sample.captions,
        [*(row.get(name) for name in names), len(row["caption"].split())],
        tags,
        f"and {omitted:,} more captions" if omitted else "",
    )


def _make_line(text: Mapping[str, Any], has_label: bool) -> Line:
    label = f"score {format_fixed(text['score'], 2)}" if has_label else ""
    return Line(text["caption"], label, list(_mark_unsure(text)))


def _mark_unsure(text: Mapping[str, Any]) -> Iterator[Mark]:
    for word in text.get("words", ()):
        if word["confidence"] < MIN_WORD_CONFIDENCE:
            yield word["start"], word["end"], "unsure"
