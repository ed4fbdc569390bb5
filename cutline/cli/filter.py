"""`cutline filter`, and what it shares with `cutline capfilt`."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, Suppress, arg

from cutline.cli.caption import SourceFlags, find_collection, print_failure, print_summary
from cutline.cli.console import print_message, stderr_console
from cutline.cli.flags import (
    DATA_HELP,
    Flags,
    MatcherFlags,
    Output,
    ReportFlags,
    ReportOutput,
    check_report,
    select_settings,
)
from cutline.config import (
    CaptionStyle,
    FilterConfig,
    InferenceConfig,
    MatcherOptions,
    OutputConfig,
    RatioOptions,
    RunConfig,
)
from cutline.config.collection import CAPTION_FIELD
from cutline.errors import ConfigError

if TYPE_CHECKING:
    from cutline.capfilt import FilterJob

FilteredData = Positional[
    Annotated[list[str], arg(metavar="DATA [DATA …]", help=f"{DATA_HELP}; several of them, too")]
]


@dataclass(frozen=True)
class FilterReportFlags(ReportFlags):
    """Report: one HTML page, to search, filter and sort."""

    report: ReportOutput = ""
    """HTML report: share of noise, histograms of scores, and images chosen at random with the texts
    that are kept and dropped"""


@dataclass(frozen=True)
class SelectionOutputFlags(OutputConfig):
    """Output: where texts go, and how they are written."""

    output: Output = ""
    """file or folder to write: kept.jsonl, .csv or .parquet (a row for each text), metadata.jsonl
    for Hugging Face's imagefolder, a folder of .txt files (a line for each text) or of tar shards,
    a .tar file, or .txt or .caption for a file beside each image"""
    dropped: Annotated[str, arg(metavar="FILE")] = ""
    """table of the texts that are not kept, with their scores: dropped.jsonl, .csv or .parquet"""
    report: Annotated[FilterReportFlags, Flags] = field(default_factory=FilterReportFlags)
    style: Suppress[CaptionStyle] = "plain"
    caption_template: Suppress[str] = CAPTION_FIELD
    words: Suppress[bool] = False
    min_confidence: Suppress[float] = 0.0


@dataclass(frozen=True)
class FilterFlags(MatcherFlags):
    """Matcher: which checkpoint scores the texts."""

    filter: Annotated[FilterConfig, Flags] = field(default_factory=FilterConfig)


@dataclass(frozen=True)
class RatioFlags(RatioOptions):
    """Captioner: which checkpoint scores the texts with --score ratio, in place of a matcher."""

    captioner: Annotated[str, arg(metavar="CAPTIONER")] = ""
    """captioner for --score ratio: hub id, .pth, Hugging Face folder, cutline folder or training
    run"""
    background: Annotated[str, arg(metavar="DATA")] = ""
    """images like those of the data, such as the captioner's training data: a text is compared with
    some of them, chosen at random. A folder, a table of images on this machine in a column of a
    default name, or a tar shard"""


def filter_command(
    data: FilteredData,
    *,
    matcher: Annotated[FilterFlags, Flags] = FilterFlags(),
    captioner: Annotated[RatioFlags, Flags] = RatioFlags(),
    outputs: Annotated[SelectionOutputFlags, Flags] = SelectionOutputFlags(),
    source: Annotated[SourceFlags, Flags] = SourceFlags(),
    run: Annotated[RunConfig, Flags] = RunConfig(),
    inference: Annotated[InferenceConfig, Flags] = InferenceConfig(),
) -> int:
    """Keep the captions of a dataset that match their images, by the score of a matcher.

    A caption is kept if its score reaches the threshold; scores are written with it, so that a
    higher threshold needs no second run. An image without such a caption is left out. What is kept
    can be read again as a dataset, by `cutline train` too. Without a matcher, a captioner can
    score: with --score ratio, a caption is kept if it is likelier given its image than given
    others.

    Captions are scored as they come. The same command goes on where it was stopped or killed, and
    scores only what is missing.

    Examples:
        cutline filter captions.jsonl --matcher runs/matcher -o kept.jsonl --dropped dropped.jsonl

        cutline filter photos --matcher runs/matcher -o kept/ --folder-format shards

        cutline filter 'shards/*.tar' --matcher runs/matcher -o kept/ --threshold 0.8

        cutline filter captions.csv --matcher runs/matcher -o kept.csv --score itc --threshold 0.3

        cutline filter web.jsonl --captioner C --score ratio --background train.jsonl -o kept.jsonl
    """
    from cutline.capfilt import FilterJob

    job = FilterJob(choose_scorer(matcher, captioner), matcher.filter, inference)
    return run_selection(data, job, outputs, source, run)


def choose_scorer(matcher: FilterFlags, captioner: RatioFlags) -> MatcherOptions | RatioOptions:
    """Return the options of what scores texts, of which one is given.

    Raises:
        ConfigError: Both are given.
    """
    if matcher.matcher and captioner.captioner:
        raise ConfigError(
            "--matcher and --captioner are both given: a matcher scores with --score itm or itc, a "
            "captioner with --score ratio; `cutline capfilt` adds texts of a captioner"
        )
    if captioner.captioner or (matcher.filter.score == "ratio" and not matcher.matcher):
        return select_settings(RatioOptions, captioner)
    return select_settings(MatcherOptions, matcher)


def run_selection(
    data: list[str],
    job: "FilterJob",
    outputs: SelectionOutputFlags,
    source: SourceFlags,
    run: RunConfig,
) -> int:
    """Filter a collection, tell what happens on stderr, and return the exit code."""
    from cutline.bulk.progress import RunProgress
    from cutline.bulk.run import Listener
    from cutline.capfilt import FilterSettings, run_filter

    if not data and not source.from_list:
        raise ConfigError("name the data to filter: a table, a folder, or tar shards")
    if not outputs.output:
        raise ConfigError("name the file or folder to write, such as -o kept.jsonl")
    check_report(outputs.report.report)
    settings = FilterSettings(job, outputs.output, outputs.dropped, outputs.report, outputs, run)
    collection = find_collection(data, source)
    console = stderr_console()
    with RunProgress(console, print_message, collection.count, "filtering") as progress:
        listener = Listener(progress.update, print_failure, progress=progress.track)
        summary = run_filter(collection, settings, listener)
    return print_summary(summary, "filtered")
