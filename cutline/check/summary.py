"""The result of a check as a few lines of text."""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from operator import attrgetter

from cutline.check.findings import CheckResult, Finding, ImageSize
from cutline.check.kinds import ERRORS, KINDS
from cutline.messages import count_noun
from cutline.metrics import Histogram

MAX_EXAMPLES = 3
"""maximum number of findings of a kind that the text lists"""
_COLUMN_WIDTH = 12
_UNPRINTABLE = re.compile("[\ud800-\udfff\x00-\x09\x0b-\x1f\x7f-\x9f]")


def summarize(result: CheckResult) -> str:
    """Return the statistics and a few examples of each kind of finding, errors first.

    Control characters and lone surrogates are escaped, so that any UTF-8 stream accepts the text.
    """
    lines = [f"{name:<{_COLUMN_WIDTH}}{value}" for name, value in describe_data(result)]
    errors = [finding for finding in result.findings if finding.kind in ERRORS]
    warnings = [finding for finding in result.findings if finding.kind not in ERRORS]
    for heading, findings in (("Errors", errors), ("Warnings", warnings)):
        if findings:
            lines += ["", heading, *_list_examples(findings)]
    if not result.findings:
        lines += ["", "No problems."]
    return escape_unprintable("\n".join(lines) + "\n")


def describe_data(result: CheckResult) -> list[tuple[str, str]]:
    """Return names and values of the statistics of the dataset."""
    statistics = [("images", f"{len(result.samples):,}, {result.num_readable:,} readable")]
    if result.smallest and result.largest:
        sizes = f"{_format_size(result.smallest)} to {_format_size(result.largest)} pixels"
        statistics.append(("sizes", sizes))
    if result.attributes:
        statistics.append(("attributes", _format_counts(result.attributes)))
    captions = result.captions
    statistics.append(("captions", f"{captions.sum:,}, {_format_range(captions, 'per image')}"))
    if captions.sum:
        statistics.append(("words", _format_range(result.words, "per caption")))
    if result.tokens and result.tokens.count:
        unit = "per caption including the prompt"
        statistics.append(("tokens", _format_range(result.tokens, unit)))
    if result.scripts:
        statistics.append(("characters", _format_counts(result.scripts)))
    if result.unknown_words:
        statistics.append(("[UNK]", _format_unknown(result)))
    if result.num_other_images:
        readable = f"{result.num_other_readable:,} of {result.num_other_images:,} images readable"
        statistics.append(("against", readable))
    if result.num_held_out:
        statistics.append(("held out", f"{result.num_held_out:,} images, as the recipe says"))
    return statistics


def group_by_kind(findings: Iterable[Finding]) -> list[tuple[str, list[Finding]]]:
    """Return each kind of finding with its findings.

    Args:
        findings: Findings in the order of KINDS.
    """
    return [(kind, list(group)) for kind, group in groupby(findings, attrgetter("kind"))]


def describe_kind(kind: str, count: int) -> str:
    """Return what a number of findings of a kind say, such as `2 images cannot be read`."""
    return count_noun(count, KINDS[kind].singular, KINDS[kind].plural)


def escape_unprintable(text: str) -> str:
    """Return `text` with control characters and lone surrogates escaped.

    Surrogates stand for bytes of file names that are not UTF-8; no stream can encode them.
    """
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def _list_examples(findings: Sequence[Finding]) -> list[str]:
    lines = []
    for kind, group in group_by_kind(findings):
        lines.append(f"  {describe_kind(kind, len(group))}")
        lines += [f"    {_format_finding(finding)}" for finding in group[:MAX_EXAMPLES]]
        if len(group) > MAX_EXAMPLES:
            lines.append(f"    and {len(group) - MAX_EXAMPLES:,} more")
    return lines


def _format_finding(finding: Finding) -> str:
    image, detail = finding.image, finding.detail
    is_complete = not image or detail.startswith(image)
    return detail if is_complete else f"{image}: {detail}"


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


def _format_unknown(result: CheckResult, max_characters: int = 12) -> str:
    """Return the number of unknown words and the characters that the vocabulary lacks."""
    count = f"{sum(result.unknown_words.values()):,} words"
    characters = list(result.unknown_characters)
    if not characters:
        return f"{count}, although the vocabulary has each of their characters"
    more = len(characters) - max_characters
    suffix = f" and {more} more" if more > 0 else ""
    return f"{count}; missing characters: {' '.join(characters[:max_characters])}{suffix}"
