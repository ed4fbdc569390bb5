"""`cutline index`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from cutline.cli.caption import SourceFlags, print_failure
from cutline.cli.console import print_message, stderr_console
from cutline.cli.flags import Flags, MatcherFlags
from cutline.config import InferenceConfig
from cutline.errors import ConfigError, CutlineError

if TYPE_CHECKING:
    from cutline.retrieval import IndexCounts, IndexSummary

IndexOutput = Annotated[str, arg(aliases=["-o"], metavar="INDEX")]


def index_command(
    images: Positional[Annotated[list[str], arg(metavar="IMAGE [IMAGE …]")]],
    *,
    output: IndexOutput = "",
    new_index: bool = False,
    matcher: Annotated[MatcherFlags, Flags] = MatcherFlags(),
    source: Annotated[SourceFlags, Flags] = SourceFlags(),
    inference: Annotated[InferenceConfig, Flags] = InferenceConfig(),
) -> int:
    """Embed images with a matcher, so that `cutline search` finds them by text or by image.

    The same command, given again, updates the index for what was added, changed or removed; other
    images are not embedded again. It also goes on where it was stopped or killed.

    Examples:
        cutline index photos --matcher Salesforce/blip-itm-base-coco

        cutline search "two dogs on a beach" --in photos

        cutline index 'shards/*.tar' --matcher runs/matcher -o index

    Args:
        images: Files, folders, patterns such as 'photos/*.jpg', tables (.jsonl, .csv, .tsv,
            .parquet), tar shards, addresses (https://, s3://, hf://).
        output: Folder of the index (default: .cutline/index in the folder of images, if one folder
            is named).
        new_index: Start again: forget the index that is there, such as one of another matcher.
    """
    from cutline.bulk.progress import RunProgress
    from cutline.retrieval import ImageSources, IndexListener, IndexSettings, update_index

    if not images and not source.from_list:
        raise ConfigError("name the images to index: a folder, files, patterns such as 'a/*.jpg'")
    if not matcher.matcher:
        raise ConfigError("name the matcher that embeds them, such as --matcher runs/matcher")
    sources = ImageSources(images, source, source.data.source(""), source.urls)
    settings = IndexSettings(matcher, output, new_index, inference)
    count = sources.collection.count
    with RunProgress(stderr_console(), print_message, count, "indexing") as progress:
        listener = IndexListener(progress.update, print_failure)
        summary = update_index(sources, settings, listener)
    return print_index_summary(summary)


def print_index_summary(summary: "IndexSummary") -> int:
    """Print what the index holds, and return the exit code."""
    counts = summary.counts
    print_message(f"{summary.folder}: {summary.count:,} images; {', '.join(describe(counts))}")
    if not counts.all_failed:
        return 0
    if not summary.count:
        raise CutlineError("no image could be indexed: the messages above say why")
    print_message(
        f"{counts.all_failed:,} of {counts.total:,} images could not be read, and are not in the "
        f"index; they are listed in {summary.folder / 'failed.jsonl'}"
    )
    return 3


def describe(counts: "IndexCounts") -> Iterator[str]:
    """Yield what became of the images."""
    yield f"{counts.embedded:,} embedded"
    if counts.unchanged:
        yield f"{counts.unchanged:,} unchanged"
    if counts.removed:
        yield f"{counts.removed:,} removed"
    if counts.repeated:
        yield f"{counts.repeated:,} named several times"
