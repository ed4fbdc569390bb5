"""`cutline compare`."""

from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from cutline.cli.console import print_message, print_result
from cutline.cli.evaluation_outputs import print_list, write_json_output
from cutline.cli.flags import (
    DataFlags,
    DataPathFlag,
    Flags,
    JsonOutput,
    ReportOutput,
    check_outputs,
)
from cutline.config import MetricConfig

if TYPE_CHECKING:
    from cutline.evaluation import Comparison


def compare_command(
    first: Positional[Annotated[str, arg(metavar="A")]],
    second: Positional[Annotated[str, arg(metavar="B")]],
    *,
    references: DataPathFlag,
    report: ReportOutput = "",
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
        report: HTML report with the images that differ most.
        json_file: Results as JSON.
        seed: Seed of the intervals and the p-values.
    """
    from cutline.evaluation import compare_captions, write_comparison_report

    check_outputs(report, json_file, inputs=[first, second, references])
    comparison = compare_captions(
        first, second, source.source(references), metrics=metrics, seed=seed
    )
    print_list("left out", comparison.left_out)
    if comparison.num_uncaptioned:
        print_message(comparison.describe_uncaptioned().removesuffix("."))
    if json_file:
        write_json_output(json_file, comparison.to_dict())
    if report:
        write_comparison_report(report, comparison)
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
