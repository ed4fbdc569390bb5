"""`cutline compare`."""

import json
import sys
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from cutline.cli.console import warn
from cutline.cli.flags import DataFlags, Flags
from cutline.config import ExtraMetric, MetricTokenizer
from cutline.files import write_text

if TYPE_CHECKING:
    from cutline.evaluation import Comparison


def compare(
    first: Positional[Annotated[str, arg(metavar="A")]],
    second: Positional[Annotated[str, arg(metavar="B")]],
    *,
    references: str,
    report: str = "",
    json_file: Annotated[str, arg(name="json")] = "",
    where: Annotated[DataFlags, Flags] = DataFlags(),  # frozen
    tokens: MetricTokenizer = "auto",
    metrics: tuple[ExtraMetric, ...] = (),
    resamples: int = 10_000,
    seed: int = 0,
) -> int:
    """Compare two files of captions of the same images: each score of both, the difference, and whether it is more than chance.

    Captions are matched to references by the image's path, else by its file name, else by its id; what matches nothing is listed and
    left out (exit code 3). References of more images do no harm. `[low, high]` holds the difference in 95 % of a paired bootstrap over
    images; p says how often a difference as large, either way, comes about when the two captions of each image are swapped by chance.

    Args:
        first: captions, .jsonl or .csv, as `cutline caption -o` and `cutline evaluate -o` write them.
        second: other captions of the same images.
        references: the data set with the captions that people wrote.
        report: also write an HTML page with the images that differ most, both ways.
        json_file: also write the numbers to this file, as JSON.
        tokens: what counts as a word: ptb, words, characters or auto, as `cutline evaluate --help` explains.
        metrics: more metrics, for English: `--metrics meteor spice`. They need Java and `pip install 'cutline[coco]'`.
        resamples: resamples for the intervals, and trials for p.
        seed: the same seed gives the same intervals and p.
    """
    from cutline.evaluation import compare_captions, write_comparison_report

    found = compare_captions(
        first,
        second,
        references,
        image_root=where.image_root,
        split=where.split,
        columns=where.columns,
        tokens=tokens,
        metrics=metrics,
        resamples=resamples,
        seed=seed,
    )
    for sentence in found.left_out:
        warn(f"left out: {sentence}")
    if found.num_untouched:
        warn(found.say_untouched().removesuffix("."))
    sys.stdout.writelines(f"{line}\n" for line in lines(found))
    if json_file:
        write_text(json_file, json.dumps(found.numbers(), ensure_ascii=False, indent=1) + "\n")
    if report:
        write_comparison_report(report, found)
    return 3 if found.left_out else 0


def lines(found: "Comparison") -> list[str]:
    """A line per metric, and the verdict."""
    width = max(10, *(len(name) + 2 for name in found.names))
    head = f"{'':<10}" + "".join(f"{name:>{width}}" for name in found.names) + f"{'difference':>12}"
    rows = [
        f"{name:<10}{one.first:>{width}.4f}{one.second:>{width}.4f}{one.value:>+12.4f}"
        f"  [{one.interval[0]:+.4f}, {one.interval[1]:+.4f}]  p = {one.p_value:.4f}"
        for name, one in found.differences.items()
    ]
    return [head, *rows, f"{len(found.pictures)} images", "", found.verdict()]
