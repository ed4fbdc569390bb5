"""`cutline caption`."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from cutline.cli.console import (
    escape_name,
    print_message,
    print_result,
    read_stdin,
    stderr_console,
)
from cutline.cli.flags import (
    DataFlags,
    Flags,
    ModelFlags,
    Output,
    ReportFlags,
    ReportOutput,
    check_report,
    select_settings,
)
from cutline.config import (
    GenerationConfig,
    InferenceConfig,
    LoadOptions,
    OutputConfig,
    RerankConfig,
    RunConfig,
    SourceConfig,
    UrlPolicy,
)
from cutline.errors import ConfigError, CutlineError

if TYPE_CHECKING:
    from cutline.bulk.collection import CollectionSettings, Summary
    from cutline.bulk.engine import CaptionJob
    from cutline.bulk.record import Failure, Record
    from cutline.bulk.run import Counts
    from cutline.bulk.sources import Collection
    from cutline.report import About

SHOWN_OUTPUTS = ("style", "caption_template", "min_confidence")
"""settings of outputs that change captions"""


@dataclass(frozen=True)
class SourceFlags(SourceConfig):
    """Source: which images are captioned, beyond those named on the command line."""

    urls: Annotated[UrlPolicy, Flags] = field(default_factory=UrlPolicy)
    data: Annotated[DataFlags, Flags] = field(default_factory=DataFlags)


@dataclass(frozen=True)
class CaptionReportFlags(ReportFlags):
    """Report: one HTML page, to search, filter and sort."""

    report: ReportOutput = ""
    """HTML report: how long and how sure the captions are, what failed, and images chosen at
    random"""


@dataclass(frozen=True)
class OutputFlags(OutputConfig):
    """Output: where captions go, and how they are written."""

    output: Output = ""
    """file or folder to write: captions.jsonl, .csv or .parquet, results.json for the servers of
    COCO and NoCaps, metadata.jsonl for Hugging Face's imagefolder, a folder of .txt files or of tar
    shards, a .tar file, or .txt, .caption or .xmp for a file beside each image"""
    report: Annotated[CaptionReportFlags, Flags] = field(default_factory=CaptionReportFlags)


@dataclass(frozen=True)
class RerankedModelFlags(ModelFlags):
    """Captioner: which checkpoint to load."""

    reranking: Annotated[RerankConfig, Flags] = field(default_factory=RerankConfig)


def caption_command(
    images: Positional[Annotated[list[str], arg(metavar="IMAGE [IMAGE …]")]],
    *,
    prompt: str | None = None,
    source: Annotated[SourceFlags, Flags] = SourceFlags(),
    outputs: Annotated[OutputFlags, Flags] = OutputFlags(),
    run: Annotated[RunConfig, Flags] = RunConfig(),
    model: Annotated[RerankedModelFlags, Flags] = RerankedModelFlags(),
    inference: Annotated[InferenceConfig, Flags] = InferenceConfig(),
    generation: Annotated[GenerationConfig, Flags] = GenerationConfig(),
) -> int:
    """Caption images and collections: `path<TAB>caption` lines on stdout, or an output.

    With an output, captions are kept as they come, in a folder beside it. The same command goes on
    where it was stopped or killed, and captions only what is missing.

    Examples:
        cutline caption photos --model runs/my-run -o captions.jsonl

        cutline caption 'photos/*.jpg' --num-beams 5 --num-captions 3

        cutline caption photos --sample --num-captions 40 --rerank itm --matcher M --keep 1

        cutline caption photos -o .txt --existing append

        cutline caption 'shards/*.tar' -o captioned/ --devices cuda:0 cuda:1

        cutline caption nocaps_test_image_info.json --image-root nocaps/test -o results.json

    Args:
        images: Files, folders, patterns such as 'photos/*.jpg', tables (.jsonl, .csv, .tsv,
            .parquet), tar shards, addresses (https://, s3://, hf://), or - for one image on stdin.
        prompt: Prompt of every caption, which the model is given and which is cut from the caption
            (default: that of each image in the data, else the model's own).
    """
    from cutline.bulk.collection import CollectionSettings
    from cutline.bulk.engine import CaptionJob

    if not images and not source.from_list:
        raise ConfigError(
            "name the images to caption: files, folders, patterns such as 'photos/*.jpg', "
            "or - for stdin"
        )
    check_report(outputs.report.report)
    options = select_settings(LoadOptions, model)
    job = CaptionJob(model.name, options, inference, generation, prompt, model.reranking)
    collection = find_collection(images, source)
    about = describe_captioning(collection, job, outputs)
    settings = CollectionSettings(job, outputs.output, outputs, run, outputs.report, about)
    return run_collection(collection, settings)


def describe_captioning(
    collection: "Collection", job: "CaptionJob", outputs: OutputConfig
) -> "About":
    """Return what a report says of a run that captions a collection."""
    from cutline.report import About, flatten_settings

    settings = {
        "prompt": job.prompt,
        **flatten_settings(job.generation),
        **flatten_settings(job.reranking),
        **flatten_settings(job.checkpoint),
        **flatten_settings(job.inference),
        **{name: getattr(outputs, name) for name in SHOWN_OUTPUTS},
    }
    return About(collection.title, job.model, settings=settings)


def find_collection(paths: list[str], source: SourceFlags) -> "Collection":
    """Return the images that the command line names."""
    from cutline.bulk.inputs import open_collection, open_stdin
    from cutline.bulk.sources import STDIN

    if STDIN in paths:
        if len(paths) > 1 or source.from_list:
            raise ConfigError("- is one image on stdin, and stands alone; name files instead")
        return open_stdin(read_stdin())
    return open_collection(paths, source, source.data.source(""), source.urls)


def run_collection(collection: "Collection", settings: "CollectionSettings") -> int:
    """Caption a collection, tell what happens on stderr, and return the exit code."""
    from cutline.bulk.collection import process_collection
    from cutline.bulk.progress import RunProgress
    from cutline.bulk.run import Listener

    with RunProgress(stderr_console(), print_message, collection.count) as progress:
        listener = Listener(progress.update, print_failure, progress=progress.track)
        summary = process_collection(collection, settings, print_record, listener)
    return print_summary(summary)


def print_record(record: "Record") -> None:
    """Print a `name<TAB>caption` line for each alternative, unless the caption is not accepted."""
    row = record.row
    name = escape_name(row["image"])
    if record.not_accepted:
        print_message(
            f"not accepted: {name}: {row['caption']} (confidence {row['confidence']:.3f})"
        )
        return
    texts = [each["caption"] for each in row.get("alternatives", ())] or [row["caption"]]
    print_result("".join(f"{name}\t{text}\n" for text in texts))


def print_failure(failure: "Failure") -> None:
    """Print why an image was not captioned."""
    print_message(f"skipped: {failure.reason}")


def print_summary(summary: "Summary", done: str = "captioned") -> int:
    """Print what was written where, and return the exit code.

    Args:
        summary: What came of the run.
        done: What was done with images.
    """
    counts = summary.counts
    for line in (*summary.written, *describe_skipped(counts, done)):
        print_message(line)
    num_failed = counts.all_failed
    if not num_failed:
        return 0
    if num_failed == counts.total:
        raise CutlineError(f"no image could be {done}: the messages above say why")
    place = f"in {summary.failures}" if summary.failures else "above"
    print_message(
        f"{num_failed:,} of {counts.total:,} images could not be {done}; they are listed {place}"
    )
    return 3


def describe_skipped(counts: "Counts", done: str) -> Iterator[str]:
    """Yield how many images have no caption in the output, and why."""
    if counts.not_accepted:
        yield f"not accepted, of less confidence than min_confidence: {counts.not_accepted:,}"
    if counts.done_before:
        yield f"{done} by an earlier run: {counts.done_before:,}"
    if counts.failed_before:
        yield f"failed in an earlier run: {counts.failed_before:,}; --retry-failed tries them again"
    if counts.existing:
        yield (
            f"skipped, because they have a caption already: {counts.existing:,}; "
            "--existing overwrite, append or prepend changes it"
        )
    if counts.gone:
        yield f"left out, because the sources do not contain them any more: {counts.gone:,}"
    if counts.repeated:
        yield f"skipped, because the sources contain them several times: {counts.repeated:,}"
