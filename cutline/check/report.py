"""Findings as a page to look at."""

import random
from collections.abc import Sequence
from pathlib import Path

from cutline.check.findings import HARMFUL, Finding, Findings, Histogram, name_of
from cutline.check.summary import by_kind, describe, printable
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

MOST_ROWS = 100
"""findings of a kind that are listed"""
MOST_GROUPS = 24
"""groups of copies that are shown"""
_ABREAST = 6  # images shown of a group


def write_check_report(
    path: str | Path, findings: Findings, count: int = 24, seed: int = 0
) -> None:
    """Write an HTML page: numbers, lengths of captions, findings, copies side by side, and `count` images drawn with `seed`."""
    sections = [("Numbers", _numbers(findings)), ("Lengths of captions", _lengths(findings))]
    sections += [(sentence, _table(rows)) for sentence, rows in by_kind(findings.rows)]
    for heading, groups in (
        ("Equal images", findings.duplicates),
        ("Images that look alike", findings.near_duplicates),
    ):
        if groups:
            sections.append((heading, _copies(groups)))
    drawn = random.Random(seed).sample(list(findings.samples), min(count, len(findings.samples)))
    sections.append(("A sample of the images", render_gallery(_cards(drawn))))
    mended = sum(row.kind in HARMFUL for row in findings.rows)
    intro = f"{len(findings.samples):,} images with {findings.captions.sum:,} captions. To be mended: {mended:,}."
    write_report(
        path, "Data", intro, [(heading, printable(content)) for heading, content in sections]
    )


def _numbers(findings: Findings) -> str:
    large = [
        (f"{findings.num_readable:,}", f"of {len(findings.samples):,} images can be read"),
        (f"{findings.captions.sum:,}", "captions"),
        (f"{findings.captions.mean:.1f}", "captions per image"),
        (f"{findings.words.mean:.1f}", "words per caption"),
    ]
    return render_key_figures(large) + render_table(describe(findings))


def _lengths(findings: Findings) -> str:
    charts = render_histogram(
        _clipped(findings.words, 2 * findings.max_words),
        "Words per caption",
        _axis("words", findings.max_words),
        "captions",
    )
    if findings.tokens:
        tokens = _clipped(findings.tokens, 2 * findings.max_tokens)
        charts += render_histogram(
            tokens,
            "Tokens per caption, prompt included",
            _axis("tokens", findings.max_tokens),
            "captions",
        )
    return charts


def _axis(name: str, most: int) -> str:
    return f"{name}; cut after {most}, drawn up to {2 * most}"


def _clipped(spread: Histogram, most: int) -> dict[int, int]:
    """One caption of a thousand words must not flatten the others."""
    counts = {number: count for number, count in spread.counts.items() if number < most}
    beyond = spread.total - sum(counts.values())
    return counts | ({most: beyond} if beyond else {})


def _table(rows: Sequence[Finding]) -> str:
    return render_table(
        [(row.image, row.detail) for row in rows[:MOST_ROWS]], ("image", "finding")
    ) + _more(len(rows) - MOST_ROWS)


def _copies(groups: Sequence[Sequence[Sample]]) -> str:
    shown = "".join(
        render_paragraph(f"{len(group):,} images:") + render_gallery(_cards(group[:_ABREAST]))
        for group in groups[:MOST_GROUPS]
    )
    return shown + _more(len(groups) - MOST_GROUPS)


def _more(count: int) -> str:
    return render_paragraph(f"and {count:,} more") if count > 0 else ""


def _cards(samples: Sequence[Sample]) -> list[Card]:
    """The images that can be read, each with its first caption, and its name and other captions as the note."""
    cards = []
    for sample in samples:
        try:
            image = open_thumbnail(sample.image, THUMBNAIL_SIZE)
        except ImageError:
            continue  # it stands among the findings
        first, *rest = sample.captions or ("",)
        cards.append(Card(image, first, " · ".join([*rest, name_of(sample)])))
    return cards
