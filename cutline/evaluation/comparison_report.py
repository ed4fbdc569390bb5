"""HTML report of a comparison."""

from pathlib import Path

from cutline.config import REPORT_IMAGES
from cutline.evaluation.comparison import SIGNIFICANCE_LEVEL, Comparison
from cutline.evaluation.comparison_gallery import show_compared_images
from cutline.evaluation.evaluation_findings import make_message_problem
from cutline.messages import count_noun
from cutline.metrics import METRIC_NAMES, Difference
from cutline.progress import Progress, no_progress
from cutline.report import (
    About,
    Block,
    IntervalChart,
    IntervalRow,
    Problem,
    Problems,
    Report,
    Section,
    SideBySide,
    Table,
    Text,
    format_interval,
    format_signed,
    write_report,
)
from cutline.web import hide_credentials

_METHOD = (
    "Intervals are those of a paired bootstrap over images, p-values those of an approximate "
    f"randomization test. A difference is significant if p < {SIGNIFICANCE_LEVEL}."
)


def write_comparison_report(
    path: str | Path,
    comparison: Comparison,
    about: About | None = None,
    num_images: int = REPORT_IMAGES,
    progress: Progress = no_progress,
) -> None:
    """Write an HTML report of a comparison.

    Args:
        path: The HTML file.
        comparison: The result of `compare_captions`.
        about: What was compared, and how; its data are the references.
        num_images: Largest number of images on the page.
        progress: Shows how many images are done.
    """
    report = make_comparison_report(comparison, about or About(), num_images)
    write_report(path, report, progress)


def make_comparison_report(
    comparison: Comparison, about: About, num_images: int = REPORT_IMAGES
) -> Report:
    """Return the report of a comparison, with at most so many images."""
    first, second = comparison.names
    problems = _list_problems(comparison)
    differences = SideBySide([_draw_differences(comparison), _make_score_table(comparison)])
    verdict: list[Block] = [Text(comparison.verdict, is_lead=True), differences, Text(_METHOD)]
    sections = [
        Section("Verdict", verdict),
        *([Section("Findings", [Problems(problems)])] if problems else []),
        Section("Images", show_compared_images(comparison, num_images)),
    ]
    data = f" on {hide_credentials(about.data)}" if about.data else ""
    intro = f"Images with references and a caption in both files: {len(comparison.images):,}."
    return Report(f"Comparison of {first} and {second}{data}", about, sections, intro)


def _draw_differences(comparison: Comparison) -> IntervalChart:
    """Return a chart of the differences relative to the first score, as scales differ."""
    first, second = comparison.names
    rows = [
        _make_row(METRIC_NAMES[name], difference)
        for name, difference in comparison.differences.items()
        if difference.first > 0
    ]
    return IntervalChart(f"{second} minus {first}, in % of the score of {first}", rows, "%")


def _make_row(name: str, difference: Difference) -> IntervalRow:
    value, low, high = (
        100 * number / difference.first for number in (difference.value, *difference.interval)
    )
    text = f"{format_signed(difference.value, 3)} {_format_interval(difference)}"
    is_significant = difference.p_value < SIGNIFICANCE_LEVEL
    return IntervalRow(name, value, low, high, text, is_significant)


def _format_interval(difference: Difference) -> str:
    return format_interval(*difference.interval, 3, signed=True)


def _make_score_table(comparison: Comparison) -> Table:
    rows = [
        [
            METRIC_NAMES[name],
            difference.first,
            difference.second,
            difference.value,
            _format_interval(difference),
            difference.value / difference.first if difference.first else None,
            f"{difference.p_value:.3f}" if difference.p_value >= 0.001 else "< 0.001",
        ]
        for name, difference in comparison.differences.items()
    ]
    header = ["metric", *comparison.names, "difference", "95 % interval", "relative", "p-value"]
    return Table(rows, header, ("difference", "relative"), ("relative",), "Scores of all images")


def _list_problems(comparison: Comparison) -> list[Problem]:
    advice = (
        "Each is an image that only one file has, a caption of an image without references, or a "
        "second one of its image. Make paths, file names or ids agree."
    )
    count = count_noun(len(comparison.left_out), "caption is", "captions are")
    problem = make_message_problem(f"{count} not compared", advice, comparison.left_out)
    problems = [problem] if problem else []
    if comparison.num_uncaptioned:
        title = comparison.describe_uncaptioned().removesuffix(".")
        problems.append(Problem("note", title, "They are not compared."))
    return problems
