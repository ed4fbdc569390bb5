"""The images of a check's report, each with what was found."""

import sys
from collections.abc import Collection, Sequence

from cutline.check.captions import count_words, split_chunk
from cutline.check.findings import CheckResult
from cutline.check.kinds import ERRORS, KINDS
from cutline.check.selection import ImageFindings
from cutline.config import CaptionText
from cutline.data import Sample
from cutline.report import Card, Column, Gallery, Line, Mark, Tone
from cutline.tokenizer import clean_caption

OTHER, CLEAN = "other dataset", "without findings"
"""tags of images that are not those of findings"""
COLUMNS = (Column("width", 0), Column("height", 0), Column("captions", 0), Column("words", 0))
"""the last one is about the longest caption"""
MAX_DETAILS = 4
"""findings that the note of an image tells"""
UNREADABLE = {"missing", "unreadable"}
"""kinds of images that a report does not try to open again: one may have killed a process"""


def make_check_gallery(findings: ImageFindings, samples: Sequence[Sample]) -> Gallery:
    """Return a gallery of images that `findings` has chosen."""
    cards = [make_check_card(sample, findings) for sample in samples]
    tags: dict[str, Tone] = {
        kind.tag: "bad" if name in ERRORS else "" for name, kind in KINDS.items() if kind.tag
    }
    tags |= {OTHER: "", CLEAN: "good"}
    order, heading = "findings first", "All captions"
    return Gallery(cards, COLUMNS, tags, given_order=order, reference_heading=heading)


def make_check_card(sample: Sample, findings: ImageFindings) -> Card:
    """Return an image with its captions, what was found, and the group of copies that it is in."""
    result, kinds = findings.result, findings.list_kinds(sample)
    tags = [kind.tag for name, kind in KINDS.items() if name in kinds]
    if findings.is_other(sample):
        tags.append(OTHER)
    return Card(
        None if kinds & UNREADABLE else sample.image,
        [_choose_line(sample, result)],
        sample.name,
        sample.local_path or sample.url,
        sample.captions if len(sample.captions) > 1 else (),
        _measure(sample, result),
        tags or [CLEAN],
        _write_note(sample, findings),
    )


def _choose_line(sample: Sample, result: CheckResult) -> Line:
    """Return the first caption that has a word that is not in the vocabulary, else the first."""
    lines = [
        Line(caption, marks=mark_words(caption, result.unknown_words, result.text))
        for caption in sample.captions
    ]
    return next((line for line in lines if line.marks), lines[0] if lines else Line(""))


def mark_words(caption: str, unknown: Collection[str], text: CaptionText) -> list[Mark]:
    """Return where a caption, as it is written, has one of some words of cleaned captions."""
    marks: list[Mark] = []
    end = 0
    for word in (word for chunk in caption.split() for word in split_chunk(chunk)):
        start = caption.index(word, end)
        end = start + len(word)
        if clean_caption(word, text.clean, 1) in unknown:
            marks.append((start, end, "wrong"))
    return marks


def _measure(sample: Sample, result: CheckResult) -> list[float | None]:
    """Return the numbers for COLUMNS."""
    size = result.sizes.get(sample.name)
    cleaned = (
        clean_caption(caption, result.text.clean, sys.maxsize) for caption in sample.captions
    )
    num_words = max(map(count_words, cleaned), default=0)
    return [
        size.width if size else None,
        size.height if size else None,
        len(sample.captions),
        num_words,
    ]


def _write_note(sample: Sample, findings: ImageFindings) -> str:
    details = [finding.own_detail for finding in findings.find(sample)]
    if group := findings.find_group(sample):
        details.insert(0, f"group {group.number} ({len(group):,} images)")
    if len(details) > MAX_DETAILS:
        details[MAX_DETAILS:] = [f"and {len(details) - MAX_DETAILS:,} more"]
    return " · ".join(details)
