"""`cutline compare`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from cutline.cli.console import print_message, print_result
from cutline.cli.evaluation_outputs import print_list, write_json_output
from cutline.cli.flags import (
    DataFlags,
    DataPathFlag,
    Flags,
    JsonOutput,
    ReportFlags,
    ReportOutput,
    check_outputs,
)
from cutline.config import MetricConfig
from cutline.progress import progress_bar
from cutline.web import hide_credentials

if TYPE_CHECKING:
    from cutline.evaluation import Comparison


@dataclass(frozen=True)
class ComparisonReportFlags(ReportFlags):
    """Report: one HTML page, to search, filter and sort."""

    report: ReportOutput = ""
    """HTML report: the differences with their intervals, and the images beyond noise, with the
    words in which their captions differ"""


def compare_command(
    first: Positional[Annotated[str, arg(metavar="A")]],
    second: Positional[Annotated[str, arg(metavar="B")]],
    *,
    references: DataPathFlag,
    report: Annotated[ComparisonReportFlags, Flags] = ComparisonReportFlags(),
    json_file: JsonOutput = "",
    source: Annotated[DataFlags, Flags] = DataFlags(),
    metrics: Annotated[MetricConfig, Flags] = MetricConfig(resamples=10_000),
    seed: int = 0,
) -> int:
    """Compare two caption files of the same images, and test the differences for significance.

    For each metric it prints both scores, the difference, its 95 % interval from a paired bootstrap
    over images, and the p-value of an approximate randomization test.

    Captions are matched to references by image path, then by file name, then by id. Captions that
    match nothing are listed and left out (exit code 3). Images need not exist.

    Examples:
        cutline compare before.jsonl after.jsonl --references photos --report comparison.html

        cutline compare theirs.json ours.json --references coco_karpathy_test_gt.json

    Args:
        first: Captions, as `cutline caption -o` and `cutline evaluate -o` write them (.jsonl, .csv,
            .parquet), or COCO results (.json).
        second: Other captions of the same images.
        references: The dataset with the reference captions.
        json_file: Results as JSON.
        seed: Seed of the intervals and the p-values.
    """
    from cutline.evaluation import compare_captions, write_comparison_report
    from cutline.report import About, flatten_settings

    check_outputs(report.report, json_file, inputs=[first, second, references])
    data = source.source(references)
    comparison = compare_captions(first, second, data, metrics=metrics, seed=seed)
    print_list("left out", comparison.left_out)
    if comparison.num_uncaptioned:
        print_message(comparison.describe_uncaptioned().removesuffix("."))
    if json_file:
        write_json_output(json_file, comparison.to_dict())
    if report.report:
        files = {"First file": hide_credentials(first), "Second file": hide_credentials(second)}
        settings = {**flatten_settings(metrics), "seed": seed, "split": data.split}
        about = About(references, others=files, settings=settings)
        write_comparison_report(
            report.report, comparison, about, report.report_images, progress_bar
        )
    print_result("".join(f"{line}\n" for line in format_comparison(comparison)))
    return 3 if comparison.left_out else 0


def format_comparison(comparison: "Comparison") -> list[str]:
    """Return a line per metric, and the verdict."""
    width = max(10, *(len(name) + 2 for name in comparison.names))
    names = "".join(f"{name:>{width}}" for name in comparison.names)
    rows = [
        f"{name:<10}{metric.first:>{width}.4f}{metric.second:>{width}.4f}{metric.value:>+12.4f}"
        f"  [{metric.interval[0]:+.4f}, {metric.interval[1]:+.4f}]  p = {metric.p_value:.4f}"
        for name, metric in comparison.differences.items()
    ]
    header = f"{'':<10}{names}{'difference':>12}"
    return [header, *rows, f"{len(comparison.images)} images", "", comparison.verdict]
