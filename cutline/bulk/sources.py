"""`Collection`: the sources that were named, as one stream of samples with unique ids."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, TypeAlias

from cutline.bulk.output import Output
from cutline.data import Sample
from cutline.data.remote import open_remote
from cutline.data.sample import is_url
from cutline.errors import CutlineError, DataError
from cutline.files import relative_path
from cutline.web import hide_credentials

STDIN = "-"

Samples: TypeAlias = Iterator[Sample | CutlineError]
"""samples, and errors for parts of the data that cannot be read"""


@dataclass(frozen=True)
class Input:
    """One of the sources of a collection."""

    read: Callable[[], Samples]
    """yields its samples, with ids that are unique within it"""
    count: Callable[[], int | None]
    """counts its samples, if that is cheap"""
    shard: str = ""
    """path or address of the tar shard, if it is one"""
    prefix: str = ""
    """what the ids of the shard's samples begin with, before a slash and the key"""
    place: str = ""
    """shard or address that has its images, if they are certainly no local files"""
    path: str = ""
    """path of the local folder or table, if it is one"""
    read_images: Callable[[], Samples] | None = None
    """yields the samples without the captions beside them, which is faster"""

    def iter_samples(self, output: Output, needs_texts: bool = False) -> Samples:
        """Yield the samples, and tell the output where a shard begins and ends."""
        if self.read_images and not (needs_texts or output.has_original_captions):
            yield from self.read_images()
        elif not self.shard:
            yield from self.read()
        elif output.begin_shard(self.shard, self.prefix):
            yield from self.read()
            output.end_shard()


@dataclass(frozen=True)
class Collection:
    """All images that a run captions.

    Attributes:
        inputs: The sources, in order.
        folder: The folder that holds all local ones.
        names: What was named as source, by which a later run knows that it is the same: kinds with
            paths or addresses.
        settings: How data is read, where it is not as by default.
        title: What a report calls it.
        open_shard: Opens one of the shards for reading from front to back.
    """

    inputs: Sequence[Input]
    folder: Path
    names: Sequence[tuple[str, str]] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    title: str = ""
    open_shard: Callable[[str], IO[bytes]] = open_remote

    def describe(self, state: Path) -> dict[str, Any]:
        """Return what a manifest in the folder `state` keeps of the source.

        Local paths are relative to the folder, so that both can be moved together.
        """
        sources = [f"{kind} {_relative_to(path, state)}" for kind, path in self.names]
        return {"source": sources, **self.settings}

    def iter_samples(self, output: Output, needs_texts: bool = False) -> Samples:
        """Yield the samples of all sources, and the error of each that cannot be read.

        Args:
            output: Where the captions go.
            needs_texts: Whether captions of the source are read although none are written there.

        Raises:
            DataError: The only source cannot be read.
        """
        for source in self.inputs:
            try:
                for sample in source.iter_samples(output, needs_texts):
                    yield _hide_credentials(sample) if isinstance(sample, Sample) else sample
            except DataError as error:
                if len(self.inputs) == 1:
                    raise
                yield error

    def count(self) -> int | None:
        """Count the samples; None if that takes too long."""
        counts = [source.count() for source in self.inputs]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None

    @property
    def from_shards(self) -> bool:
        """Return whether all sources are tar shards."""
        return bool(self.inputs) and all(source.shard for source in self.inputs)


def _relative_to(path: str, folder: Path) -> str:
    """Return a local path relative to a folder; addresses and `-` stay."""
    return path if path == STDIN or is_url(path) else relative_path(path, folder)


def _hide_credentials(sample: Sample) -> Sample:
    """Return a sample that can be written anywhere: only reading its image needs the password."""
    if "@" not in sample.id and "@" not in sample.url:
        return sample
    return replace(sample, id=hide_credentials(sample.id), url=hide_credentials(sample.url))
