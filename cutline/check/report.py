"""Findings as an HTML page."""

import random
from collections.abc import Sequence
from pathlib import Path

from cutline.check.findings import ERRORS, Finding, Findings, Histogram
from cutline.check.summary import describe_data, escape_unprintable, group_by_kind
from cutline.data import Sample
from cutline.errors import ImageError
from cutline.image import open_thumbnail
from cutline.report import (
    THUMBNAIL_SIZE,
    Card,
    render_gallery,
    render_histogram,
    render_key_figures,
    render_paragraph,
    render_table,
    write_report,
)

MAX_ROWS = 100
"""maximum number of findings of a kind that the page lists"""
MAX_GROUPS = 24
"""maximum number of groups of duplicates that the page shows"""
_MAX_GROUP_IMAGES = 6


def write_check_report(
    path: str | Path, findings: Findings, count: int = 24, seed: int = 0
) -> None:
    """Write an HTML page with statistics, findings, duplicates side by side, and sample images.

    Args:
        path: File to write.
        findings: The result of `check_data`.
        count: Number of sample images.
        seed: Seed that chooses the sample images.
    """
    sections = [
        ("Statistics", _render_statistics(findings)),
        ("Caption lengths", _render_length_charts(findings)),
        *((heading, _render_findings(rows)) for heading, rows in group_by_kind(findings.rows)),
    ]
    if findings.duplicates:
        sections.append(("Equal images", _render_groups(findings.duplicates)))
    if findings.near_duplicates:
        sections.append(("Images that look alike", _render_groups(findings.near_duplicates)))
    samples = list(findings.samples)
    chosen = random.Random(seed).sample(samples, min(count, len(samples)))
    sections.append(("Sample images", render_gallery(_make_cards(chosen))))
    num_errors = sum(row.kind in ERRORS for row in findings.rows)
    intro = (
        f"{len(samples):,} images with {findings.captions.sum:,} captions. "
        f"Errors: {num_errors:,}. Warnings: {len(findings.rows) - num_errors:,}."
    )
    escaped = [(heading, escape_unprintable(content)) for heading, content in sections]
    write_report(path, "Data check", intro, escaped)


def _render_statistics(findings: Findings) -> str:
    numbers = [
        (f"{findings.num_readable:,}", f"of {len(findings.samples):,} images can be read"),
        (f"{findings.captions.sum:,}", "captions"),
        (f"{findings.captions.mean:.1f}", "captions per image"),
        (f"{findings.words.mean:.1f}", "words per caption"),
    ]
    return render_key_figures(numbers) + render_table(describe_data(findings))


def _render_length_charts(findings: Findings) -> str:
    charts = _render_length_chart(findings.words, "Words per caption", "words", findings.max_words)
    if findings.tokens:
        title = "Tokens per caption, including the prompt"
        charts += _render_length_chart(findings.tokens, title, "tokens", findings.max_tokens)
    return charts


def _render_length_chart(lengths: Histogram, title: str, unit: str, limit: int) -> str:
    """Return a chart of caption lengths; training cuts captions after `limit`.

    All lengths of 2 * `limit` or more share one bar: a caption of a thousand words would otherwise
    flatten all other bars.
    """
    counts = {length: count for length, count in lengths.counts.items() if length < 2 * limit}
    beyond = lengths.count - sum(counts.values())
    if beyond:
        counts[2 * limit] = beyond
    return render_histogram(
        counts, title, f"{unit}; limit {limit}, shown up to {2 * limit}", "captions"
    )


def _render_findings(rows: Sequence[Finding]) -> str:
    cells = [(row.image, row.detail) for row in rows[:MAX_ROWS]]
    return render_table(cells, ("image", "finding")) + _render_omitted(len(rows) - MAX_ROWS)


def _render_groups(groups: Sequence[Sequence[Sample]]) -> str:
    galleries = [
        render_paragraph(f"{len(group):,} images:")
        + render_gallery(_make_cards(group[:_MAX_GROUP_IMAGES]))
        for group in groups[:MAX_GROUPS]
    ]
    return "".join(galleries) + _render_omitted(len(groups) - MAX_GROUPS)


def _render_omitted(count: int) -> str:
    return render_paragraph(f"and {count:,} more") if count > 0 else ""


def _make_cards(samples: Sequence[Sample]) -> list[Card]:
    """Return a card for each readable image: a caption, and as a note the others and the name."""
    cards = []
    for sample in samples:
        try:
            image = open_thumbnail(sample.image, THUMBNAIL_SIZE)
        except ImageError:
            continue  # it is listed among the findings
        caption, *others = sample.captions or ("",)
        cards.append(Card(image, caption, " · ".join([*others, sample.name])))
    return cards
