"""Findings as a few lines of text."""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from cutline.check.findings import HARMFUL, KINDS, Finding, Findings, Histogram, Size

EXAMPLES = 3
"""of each kind of finding"""
_COLUMN = 12  # characters, of the names of numbers
_UNPRINTABLE = re.compile("[\ud800-\udfff\x00-\x09\x0b-\x1f\x7f-\x9f]")


def summarize(findings: Findings) -> str:
    """The numbers, and a few examples of each kind of finding, harmful ones first; lines of text that any stream can take."""
    lines = [f"{name:<{_COLUMN}}{value}" for name, value in describe(findings)]
    for heading, harmful in (("To be mended", True), ("Worth a look", False)):
        rows = [row for row in findings.rows if (row.kind in HARMFUL) is harmful]
        if rows:
            lines += ["", heading, *_list_kinds(rows)]
    if not findings.rows:
        lines += ["", "Nothing is wrong."]
    return printable("\n".join(lines) + "\n")


def describe(findings: Findings) -> list[tuple[str, str]]:
    """Names and values of the numbers."""
    lines = [("images", f"{len(findings.samples):,}, {findings.num_readable:,} of them readable")]
    if findings.smallest and findings.largest:
        lines.append(("sizes", f"{_size(findings.smallest)} to {_size(findings.largest)}"))
    if findings.traits:
        lines.append(("of these", _tally(findings.traits)))
    lines.append(
        ("captions", f"{findings.captions.sum:,}, {_spread(findings.captions, 'a picture')}")
    )
    if findings.captions.sum:
        lines.append(("words", _spread(findings.words, "a caption")))
    if findings.tokens and findings.tokens.total:
        lines.append(("tokens", _spread(findings.tokens, "a caption, prompt included")))
    if findings.scripts:
        lines.append(("characters", _tally(findings.scripts)))
    if findings.unknown_words:
        lines.append(
            ("[UNK]", f"{sum(findings.unknown_words.values()):,} words, {_unknown(findings)}")
        )
    if findings.num_others:
        lines.append(("against", f"{findings.num_against:,} of {findings.num_others:,} readable"))
    return lines


def by_kind(rows: Iterable[Finding]) -> list[tuple[str, list[Finding]]]:
    """Rows of each kind, under a sentence with their number."""
    return [
        (say(kind, len(same := list(group))), same)
        for kind, group in groupby(rows, lambda row: row.kind)
    ]


def say(kind: str, count: int) -> str:
    """What `count` findings of a kind are: `2 images cannot be read`."""
    one, several = KINDS[kind]
    return f"{count:,} {one if count == 1 else several}"


def printable(text: str) -> str:
    """`text` with control characters and lone surrogates escaped: the latter, from file names that are not UTF-8, no stream takes."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _list_kinds(rows: Sequence[Finding]) -> list[str]:
    lines = []
    for sentence, same in by_kind(rows):
        lines.append(f"  {sentence}")
        lines += [f"    {_example(row)}" for row in same[:EXAMPLES]]
        if len(same) > EXAMPLES:
            lines.append(f"    and {len(same) - EXAMPLES:,} more")
    return lines


def _example(row: Finding) -> str:
    return (
        row.detail
        if not row.image or row.detail.startswith(row.image)
        else f"{row.image}: {row.detail}"
    )


def _size(size: Size) -> str:
    return f"{size.width} x {size.height}"


def _spread(spread: Histogram, of_what: str) -> str:
    if spread.low == spread.high:
        return f"{spread.low:,} {of_what}"
    return f"{spread.low:,} to {spread.high:,} {of_what}, {spread.mean:.1f} on average"


def _tally(counts: Mapping[str, int], most: int = 6) -> str:
    parts = [f"{count:,} {name}" for name, count in list(counts.items())[:most]]
    return ", ".join([*parts, f"and {len(counts) - most} more"] if len(counts) > most else parts)


def _unknown(findings: Findings, most: int = 12) -> str:
    characters = list(findings.unknown_characters)
    if not characters:
        return "each of whose characters is known by itself"
    more = f" and {len(characters) - most} more" if len(characters) > most else ""
    return f"for want of {' '.join(characters[:most])}{more}"
