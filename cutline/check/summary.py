"""Findings as a few lines of text."""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from cutline.check.findings import ERRORS, KINDS, Finding, Findings, Histogram, ImageSize

MAX_EXAMPLES = 3
"""maximum number of findings of a kind that the text lists"""
_COLUMN_WIDTH = 12
_UNPRINTABLE = re.compile("[\ud800-\udfff\x00-\x09\x0b-\x1f\x7f-\x9f]")


def summarize(findings: Findings) -> str:
    """Return the statistics and a few examples of each kind of finding, errors first.

    Control characters and lone surrogates are escaped, so that any UTF-8 stream accepts the text.
    """
    lines = [f"{name:<{_COLUMN_WIDTH}}{value}" for name, value in describe_data(findings)]
    errors = [row for row in findings.rows if row.kind in ERRORS]
    warnings = [row for row in findings.rows if row.kind not in ERRORS]
    for heading, rows in (("Errors", errors), ("Warnings", warnings)):
        if rows:
            lines += ["", heading, *_list_examples(rows)]
    if not findings.rows:
        lines += ["", "No problems."]
    return escape_unprintable("\n".join(lines) + "\n")


def describe_data(findings: Findings) -> list[tuple[str, str]]:
    """Return names and values of the statistics of the data set."""
    lines = [("images", f"{len(findings.samples):,}, {findings.num_readable:,} readable")]
    if findings.smallest and findings.largest:
        sizes = f"{_format_size(findings.smallest)} to {_format_size(findings.largest)} pixels"
        lines.append(("sizes", sizes))
    if findings.attributes:
        lines.append(("attributes", _format_counts(findings.attributes)))
    captions = findings.captions
    lines.append(("captions", f"{captions.sum:,}, {_format_range(captions, 'per image')}"))
    if captions.sum:
        lines.append(("words", _format_range(findings.words, "per caption")))
    if findings.tokens and findings.tokens.count:
        unit = "per caption including the prompt"
        lines.append(("tokens", _format_range(findings.tokens, unit)))
    if findings.scripts:
        lines.append(("characters", _format_counts(findings.scripts)))
    if findings.unknown_words:
        lines.append(("[UNK]", _format_unknown(findings)))
    if findings.num_against:
        readable = f"{findings.num_against_readable:,} of {findings.num_against:,} images readable"
        lines.append(("against", readable))
    return lines


def group_by_kind(rows: Iterable[Finding]) -> list[tuple[str, list[Finding]]]:
    """Return the findings of each kind with a heading such as `2 images cannot be read`.

    Args:
        rows: Findings in the order of KINDS.
    """
    groups = [(kind, list(group)) for kind, group in groupby(rows, lambda row: row.kind)]
    return [(_format_heading(kind, len(group)), group) for kind, group in groups]


def _format_heading(kind: str, count: int) -> str:
    singular, plural = KINDS[kind]
    return f"{count:,} {singular if count == 1 else plural}"


def escape_unprintable(text: str) -> str:
    """Return `text` with control characters and lone surrogates escaped.

    Surrogates stand for bytes of file names that are not UTF-8; no stream can encode them.
    """
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def _list_examples(rows: Sequence[Finding]) -> list[str]:
    lines = []
    for heading, group in group_by_kind(rows):
        lines.append(f"  {heading}")
        lines += [f"    {_format_finding(row)}" for row in group[:MAX_EXAMPLES]]
        if len(group) > MAX_EXAMPLES:
            lines.append(f"    and {len(group) - MAX_EXAMPLES:,} more")
    return lines


def _format_finding(row: Finding) -> str:
    named = not row.image or row.detail.startswith(row.image)
    return row.detail if named else f"{row.image}: {row.detail}"


def _format_size(size: ImageSize) -> str:
    return f"{size.width} x {size.height}"


def _format_range(values: Histogram, unit: str) -> str:
    if values.minimum == values.maximum:
        return f"{values.minimum:,} {unit}"
    return f"{values.minimum:,} to {values.maximum:,} {unit}, {values.mean:.1f} on average"


def _format_counts(counts: Mapping[str, int], max_items: int = 6) -> str:
    parts = [f"{count:,} {name}" for name, count in list(counts.items())[:max_items]]
    if len(counts) > max_items:
        parts.append(f"and {len(counts) - max_items} more")
    return ", ".join(parts)


def _format_unknown(findings: Findings, max_characters: int = 12) -> str:
    """Return the number of unknown words and the characters that the vocabulary lacks."""
    count = f"{sum(findings.unknown_words.values()):,} words"
    characters = list(findings.unknown_characters)
    if not characters:
        return f"{count}, although the vocabulary has each of their characters"
    more = len(characters) - max_characters
    suffix = f" and {more} more" if more > 0 else ""
    return f"{count}; missing characters: {' '.join(characters[:max_characters])}{suffix}"
