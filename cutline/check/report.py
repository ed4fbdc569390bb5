"""The result of a check as an HTML page."""

from collections.abc import Sequence
from pathlib import Path

from cutline.check.findings import CheckResult, Finding
from cutline.check.gallery import UNREADABLE, make_check_gallery
from cutline.check.kinds import ERRORS, KINDS
from cutline.check.run import MAX_ASPECT, MIN_SIDE
from cutline.check.selection import COPIES, ImageFindings
from cutline.check.summary import describe_data, describe_kind, group_by_kind
from cutline.config import REPORT_IMAGES
from cutline.data import Sample
from cutline.messages import count_noun
from cutline.metrics import Histogram
from cutline.progress import Progress, no_progress
from cutline.report import (
    About,
    Block,
    Figures,
    HistogramChart,
    Problem,
    Problems,
    Report,
    Section,
    Table,
    Text,
    write_report,
)
from cutline.web import hide_credentials

MAX_ROWS = 100
"""findings of a kind that the page lists"""
MAX_STRIP = 10
"""images, or half as many groups of them, that are shown with a kind of finding"""
_MAX_GROUP_STRIP = 4  # images of such a group


def write_check_report(
    path: str | Path,
    result: CheckResult,
    about: About | None = None,
    num_images: int = REPORT_IMAGES,
    progress: Progress = no_progress,
) -> None:
    """Write an HTML page with findings, statistics and images.

    Args:
        path: File to write.
        result: The result of `check_data`.
        about: What was checked, and how.
        num_images: Largest number of images on the page.
        progress: Shows how many images are done.
    """
    write_report(path, make_check_report(result, about or About(), num_images), progress)


def make_check_report(result: CheckResult, about: About, num_images: int) -> Report:
    """Return a page with findings, statistics, and at most so many images."""
    findings = ImageFindings(result)
    samples = findings.choose(num_images)
    num_errors = sum(finding.kind in ERRORS for finding in result.findings)
    gallery = make_check_gallery(findings, samples)
    sections = [
        Section("Findings", [_list_problems(findings, samples)]),
        Section("Data", _describe_data(result)),
        Section("Images", [Text(_describe_choice(findings, samples)), gallery]),
    ]
    intro = (
        f"{count_noun(len(result.samples), 'image')} with "
        f"{count_noun(result.captions.sum, 'caption')}: "
        f"{count_noun(num_errors, 'error')}, "
        f"{count_noun(len(result.findings) - num_errors, 'warning')}."
    )
    data = hide_credentials(about.data)
    return Report(f"Check of {data}" if data else "Check of a dataset", about, sections, intro)


def _list_problems(findings: ImageFindings, samples: Sequence[Sample]) -> Problems:
    kinds = group_by_kind(findings.result.findings)
    return Problems([_make_problem(kind, group, findings, samples) for kind, group in kinds])


def _make_problem(
    name: str, group: Sequence[Finding], findings: ImageFindings, samples: Sequence[Sample]
) -> Problem:
    """Return what is wrong, with the images among `samples` that have this kind of finding."""
    kind = KINDS[name]
    shown = [sample for sample in samples if name in findings.list_kinds(sample)]
    readable = [sample for sample in shown if not UNREADABLE & findings.list_kinds(sample)]
    is_group = name in COPIES
    return Problem(
        kind.severity,
        describe_kind(name, len(group)),
        kind.advice,
        [(finding.image, finding.own_detail) for finding in group[:MAX_ROWS]],
        () if is_group else [sample.image for sample in readable[:MAX_STRIP]],
        kind.tag,
        len(group),
        _list_groups(readable, findings) if is_group else (),
    )


def _list_groups(samples: Sequence[Sample], findings: ImageFindings) -> list[Sequence[object]]:
    """Return a few images of the first groups of copies."""
    groups = dict.fromkeys(filter(None, map(findings.find_group, samples)))
    strips: list[Sequence[object]] = []
    for group in list(groups)[: MAX_STRIP // 2]:
        others = group.others[: _MAX_GROUP_STRIP // 2]
        members = [*group.samples[: _MAX_GROUP_STRIP - len(others)], *others]
        strips.append([sample.image for sample in members])
    return strips


def _describe_choice(findings: ImageFindings, samples: Sequence[Sample]) -> str:
    """Return which images are shown."""
    own = [sample for sample in samples if not findings.is_other(sample)]
    total, num_others = len(findings.result.samples), len(samples) - len(own)
    text = f"All {total:,} images" if len(own) == total else f"{len(own):,} of {total:,} images"
    if num_others:
        text += f", and {num_others:,} copies of them in the other dataset"
    if len(own) < total:
        return f"{text}: those with findings, then others, chosen at random."
    return f"{text}: those with findings come first."


def _describe_data(result: CheckResult) -> list[Block]:
    numbers = [
        (f"{result.num_readable:,}", f"of {len(result.samples):,} images can be read"),
        (f"{result.captions.sum:,}", "captions"),
        (f"{result.captions.mean:.1f}", "captions per image"),
        (f"{result.words.mean:.1f}", "words per caption"),
    ]
    return [Figures(numbers), *_draw_charts(result), _list_statistics(result)]


def _list_statistics(result: CheckResult) -> Table:
    names = {"[UNK]": "not in the vocabulary", "against": "other dataset"}
    rows = [(names.get(name, name), value) for name, value in describe_data(result)]
    return Table(rows, ("property", "value"))


def _draw_charts(result: CheckResult) -> list[HistogramChart]:
    charts = [_draw_lengths(result.words, "Words per caption", "words", result.text.max_words)]
    if result.tokens:
        title = "Tokens per caption, including the prompt"
        charts.append(_draw_lengths(result.tokens, title, "tokens", result.text.max_tokens))
    names = {sample.name for sample in result.samples}
    sizes = [size for name, size in result.sizes.items() if name in names]
    sides = [sorted((size.width, size.height)) for size in sizes]
    small = {f"very small below {MIN_SIDE}": MIN_SIDE - 0.5}
    extreme = {f"extreme above {MAX_ASPECT}": MAX_ASPECT - 0.05}
    aspects = Histogram.from_values(10 * longer // shorter for shorter, longer in sides)
    return [
        *charts,
        HistogramChart(
            "Shorter side of the images",
            {"images": Histogram.from_values(shorter for shorter, _ in sides).counts},
            "pixels",
            "images",
            limits=small,
        ),
        HistogramChart(
            "Longer side relative to the shorter one",
            {"images": _merge_tail(aspects, 20 * MAX_ASPECT)},
            _describe_tail("times", aspects, 20 * MAX_ASPECT, 0.1),
            "images",
            unit=0.1,
            limits=extreme,
        ),
    ]


def _draw_lengths(lengths: Histogram, title: str, unit: str, limit: int) -> HistogramChart:
    """Return a chart of caption lengths; training truncates them after `limit`."""
    return HistogramChart(
        title,
        {"captions": _merge_tail(lengths, 2 * limit)},
        _describe_tail(unit, lengths, 2 * limit),
        "captions",
        limits={f"limit {limit}": limit + 0.5},
    )


def _merge_tail(histogram: Histogram, last: int) -> dict[int, int]:
    """Return the counts, those of `last` and more in one bar.

    A caption of a thousand words would otherwise flatten all other bars.
    """
    counts = {value: count for value, count in histogram.counts.items() if value < last}
    num_more = histogram.count - sum(counts.values())
    return counts | ({last: num_more} if num_more else {})


def _describe_tail(unit: str, histogram: Histogram, last: int, factor: float = 1) -> str:
    if histogram.maximum <= last:
        return unit
    return f"{unit}; the last bar has {last * factor:g} and more"
