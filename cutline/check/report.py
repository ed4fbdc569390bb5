"""The result of a check as an HTML page."""

import random
from collections.abc import Sequence
from pathlib import Path

from cutline.check.findings import ERRORS, CheckResult, Finding
from cutline.check.summary import describe_data, escape_unprintable, group_by_kind
from cutline.data import Sample
from cutline.errors import ImageError
from cutline.image import open_thumbnail
from cutline.metrics import Histogram
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
    path: str | Path, result: CheckResult, num_examples: int = 24, seed: int = 0
) -> None:
    """Write an HTML page with statistics, findings, duplicates side by side, and sample images.

    Args:
        path: File to write.
        result: The result of `check_data`.
        num_examples: Number of sample images.
        seed: Seed that chooses the sample images.
    """
    sections = [
        ("Statistics", _render_statistics(result)),
        ("Caption lengths", _render_length_charts(result)),
        *((heading, _render_findings(group)) for heading, group in group_by_kind(result.findings)),
    ]
    if result.duplicates:
        sections.append(("Exact duplicates", _render_groups(result.duplicates)))
    if result.near_duplicates:
        sections.append(("Near duplicates", _render_groups(result.near_duplicates)))
    samples = list(result.samples)
    examples = random.Random(seed).sample(samples, min(num_examples, len(samples)))
    sections.append(("Sample images", render_gallery(_make_cards(examples))))
    num_errors = sum(finding.kind in ERRORS for finding in result.findings)
    intro = (
        f"{len(samples):,} images with {result.captions.sum:,} captions. "
        f"Errors: {num_errors:,}. Warnings: {len(result.findings) - num_errors:,}."
    )
    escaped = [(heading, escape_unprintable(content)) for heading, content in sections]
    write_report(path, "Data check", intro, escaped)


def _render_statistics(result: CheckResult) -> str:
    numbers = [
        (f"{result.num_readable:,}", f"of {len(result.samples):,} images can be read"),
        (f"{result.captions.sum:,}", "captions"),
        (f"{result.captions.mean:.1f}", "captions per image"),
        (f"{result.words.mean:.1f}", "words per caption"),
    ]
    return render_key_figures(numbers) + render_table(describe_data(result))


def _render_length_charts(result: CheckResult) -> str:
    charts = _render_length_chart(result.words, "Words per caption", "words", result.max_words)
    if result.tokens:
        title = "Tokens per caption, including the prompt"
        charts += _render_length_chart(result.tokens, title, "tokens", result.max_tokens)
    return charts


def _render_length_chart(lengths: Histogram, title: str, unit: str, limit: int) -> str:
    """Return a chart of caption lengths; training truncates them after `limit`.

    All lengths of 2 * `limit` or more share one bar: a caption of a thousand words would otherwise
    flatten all other bars.
    """
    counts = {length: count for length, count in lengths.counts.items() if length < 2 * limit}
    num_longer = lengths.count - sum(counts.values())
    if num_longer:
        counts[2 * limit] = num_longer
    return render_histogram(
        counts, title, f"{unit}; limit {limit}, shown up to {2 * limit}", "captions"
    )


def _render_findings(findings: Sequence[Finding]) -> str:
    cells = [(finding.image, finding.detail) for finding in findings[:MAX_ROWS]]
    return render_table(cells, ("image", "finding")) + _render_omitted(len(findings) - MAX_ROWS)


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
