"""Make an index of images, or update it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cutline.bulk.collection import write_failures
from cutline.bulk.record import Failure
from cutline.bulk.state import lock_state, make_folders, remove_folders
from cutline.config import InferenceConfig, InferencePrecision, MatcherOptions, UrlPolicy, to_dict
from cutline.errors import ConfigError, CutlineError, DataError
from cutline.files import remove_partial
from cutline.messages import format_text
from cutline.retrieval.embedding import make_absolute, matcher_from_checkpoint, read_matcher
from cutline.retrieval.info import INFO_NAME, IndexInfo, is_index, read_index_info
from cutline.retrieval.run import IndexCounts, IndexListener, IndexRun
from cutline.retrieval.sources import ImageSources, iter_images
from cutline.retrieval.update import (
    IndexUpdate,
    check_only_index,
    holds_images,
    remove_arrays,
    remove_parts,
)

FAILURES_NAME = "failed.jsonl"
NOBODY = IndexListener()


@dataclass(frozen=True)
class IndexSettings:
    """How an index is made."""

    matcher: MatcherOptions
    index: str = ""
    """folder of the index (default: `.cutline/index` in the folder of images)"""
    new_index: bool = False
    """forget the index that is there"""
    inference: InferenceConfig = field(default_factory=InferenceConfig)


@dataclass(frozen=True)
class IndexSummary:
    """What came of a run."""

    folder: Path
    """of the index"""
    count: int
    """images in the index"""
    counts: IndexCounts
    failures: tuple[Failure, ...] = ()
    """also in the file failed.jsonl of the index"""


def build_index(
    images: str | Path | Sequence[str | Path],
    matcher: str | Path,
    index: str | Path = "",
    *,
    new_index: bool = False,
    device: str = "auto",
    precision: InferencePrecision = "auto",
    batch_size: int = 8,
) -> IndexSummary:
    """Embed images with a matcher, so that `cutline.search` finds them.

    An index that is there is updated for what was added, changed or removed; other images are not
    embedded again. A run that was stopped or killed goes on where it was.

    Args:
        images: A folder; or files, folders, patterns, tables, tar shards and addresses.
        matcher: A hub id, .pth file, Hugging Face folder, cutline folder or training run.
        index: Folder of the index (default: `.cutline/index` in the folder of images).
        new_index: Whether to forget the index that is there.
        device: As for `cutline.load`.
        precision: As for `cutline.load`.
        batch_size: Number of images embedded together.

    Returns:
        What became of the images; those that cannot be read are left out, and listed.

    Raises:
        ConfigError: The index has another matcher or other images, or a setting is invalid.
        CheckpointError: The matcher cannot be read.
        DataError: There are no images, or the index cannot be written, or is damaged.
    """
    paths = [images] if isinstance(images, str | Path) else images
    inference = InferenceConfig(device, precision, batch_size=batch_size)
    settings = IndexSettings(MatcherOptions(str(matcher)), str(index), new_index, inference)
    return update_index(ImageSources(list(map(str, paths))), settings)


def update_index(
    sources: ImageSources, settings: IndexSettings, listener: IndexListener = NOBODY
) -> IndexSummary:
    """Make an index, or update it for what was added, changed or removed.

    Args:
        sources: The images.
        settings: How they are embedded, and where the index is.
        listener: What is told of the run.

    Raises:
        ConfigError: The index has another matcher, or other images.
        Interrupted: A signal stopped the run; the next one goes on from there.
        CutlineError: The run cannot go on.
    """
    index = sources.choose_index(settings.index)
    described = sources.describe(index)
    fingerprint = read_matcher(settings.matcher).fingerprint()
    info = IndexInfo(make_absolute(settings.matcher), fingerprint, described)
    with _lock_index(index):
        update = IndexUpdate(index, _begin(index, info, settings.new_index))
        run = IndexRun(
            update,
            str(sources.collection.folder),
            lambda: matcher_from_checkpoint(read_matcher(settings.matcher), settings.inference),
            settings.inference,
            listener,
        )
        info = run.run(iter_images(sources.collection))
        write_failures(index / FAILURES_NAME, run.failures)
    return IndexSummary(index, info.count, run.counts, tuple(run.failures))


def _begin(index: Path, info: IndexInfo, new_index: bool) -> IndexInfo:
    """Return what the index holds now, which may be nothing; `info` is what it is to hold."""
    if is_index(index) and not new_index:
        recorded = read_index_info(index)
        _check_same(index, recorded, info)
        # The matcher may have been moved.
        return replace(recorded, matcher=info.matcher, sources=info.sources)
    if not is_index(index):
        check_only_index(index)
    remove_partial([index / INFO_NAME])
    remove_parts(index)  # before index.json says that parts are those of this matcher
    info.write(index)
    remove_arrays(index, kept=0)
    return info


def _check_same(index: Path, recorded: IndexInfo, info: IndexInfo) -> None:
    """Raise ConfigError unless an index has this matcher, and these images."""
    if recorded.fingerprint != info.fingerprint:
        raise ConfigError(
            f"{index}: made with another matcher, {format_text(recorded.matcher.matcher)}; "
            "use that one, name another index with -o, or start again with --new-index"
        )
    if _describe_sources(recorded) != _describe_sources(info):
        names = format_text(", ".join(name.strip() for name in recorded.sources.names))
        raise ConfigError(
            f"{index}: an index of other images ({names}, relative to it), or read in another way; "
            "name the same ones, name another index with -o, or start again with --new-index"
        )


def _describe_sources(info: IndexInfo) -> dict[str, Any]:
    """Return what decides which images an index has."""
    return to_dict(replace(info.sources, paths=(), urls=UrlPolicy()))


@contextmanager
def _lock_index(index: Path) -> Iterator[None]:
    """Create the folder of an index and lock it; leave no trace of a run that did not begin.

    Raises:
        DataError: The folder cannot be written, or another run uses it.
    """
    try:
        created = make_folders(index)
        lock = lock_state(index)
    except OSError as error:
        raise DataError(
            f"{index}: the index cannot be written there ({error.strerror}); "
            "name another folder with -o"
        ) from None
    try:
        yield
    except CutlineError:
        lock.release()
        if created and not holds_images(index):
            remove_folders(created)
        raise
    finally:
        lock.release()
