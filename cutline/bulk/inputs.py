"""`Collection`: the sources that were named, as one stream of samples with unique ids."""

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeAlias

from cutline.bulk.output import Output
from cutline.config import DataSource, SourceConfig, UrlPolicy
from cutline.data import Sample, count_data, iter_data, iter_list, list_shards
from cutline.data.folder import match_paths
from cutline.data.iterate import iter_streamed_shard
from cutline.data.names import is_image, natural_sort_key
from cutline.data.remote import RemoteImage, is_remote_address, open_remote
from cutline.data.remote_folder import walk_remote
from cutline.data.shards import is_shards
from cutline.data.text import read_lines
from cutline.data.urls import UrlImage, open_url
from cutline.errors import CutlineError, DataError
from cutline.files import is_device
from cutline.messages import format_text
from cutline.web import hide_credentials, is_web_address

STDIN = "-"
_WILDCARD = re.compile(r"[*?\[]")
_DATA_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".token", ".parquet")

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

    def iter_samples(self, output: Output) -> Samples:
        """Yield the samples, and tell the output where a shard begins and ends."""
        if not self.shard:
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
        open_shard: Opens one of the shards for reading from front to back.
    """

    inputs: Sequence[Input]
    folder: Path
    names: Sequence[tuple[str, str]] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    open_shard: Callable[[str], IO[bytes]] = open_remote

    def describe(self, state: Path) -> dict[str, Any]:
        """Return what a manifest in the folder `state` keeps of the source.

        Local paths are relative to the folder, so that both can be moved together.
        """
        sources = [f"{kind} {_relative_to(path, state)}" for kind, path in self.names]
        return {"source": sources, **self.settings}

    def iter_samples(self, output: Output) -> Samples:
        """Yield the samples of all sources, and the error of each that cannot be read.

        Args:
            output: Where the captions go.

        Raises:
            DataError: The only source cannot be read.
        """
        for source in self.inputs:
            try:
                yield from source.iter_samples(output)
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


@dataclass(frozen=True, slots=True)
class _Found:
    """What one of the named paths is."""

    kind: str
    """file, folder, table, shard, address (of an image) or remote (an address of fsspec)"""
    path: str
    folder: str = ""
    """local folder that its images are relative to; empty if there is none"""


def open_collection(
    paths: Sequence[str], config: SourceConfig, source: DataSource, policy: UrlPolicy
) -> Collection:
    """Find the sources that paths name; they are not read yet.

    Args:
        paths: Files, folders, patterns such as `photos/**/*.jpg`, tables, tar shards, addresses.
        config: A list of further ones, and how folders and addresses are read.
        source: Settings for tables and folders; its path is not used.
        policy: Which addresses are fetched, and how.

    Raises:
        DataError: The only path does not exist, or has no images.
    """
    found: list[_Found | DataError] = []
    for path in paths:
        try:
            found += _find(os.path.expanduser(path))  # noqa: PTH111
        except DataError as error:
            if len(paths) == 1 and not config.from_list:
                raise
            found.append(error)
    collection = _Opener(found, config, source, policy).open()
    return replace(
        collection,
        names=_name_sources(paths, config, str(collection.folder)),
        settings=_changed_settings(config, source),
    )


def open_stdin(image: bytes) -> Collection:
    """Return the collection of one image, which stdin contained."""
    sample = Sample(image, (), STDIN)
    return Collection([Input(lambda: iter([sample]), lambda: 1)], Path(), [("", STDIN)])


def _name_sources(paths: Sequence[str], config: SourceConfig, folder: str) -> list[tuple[str, str]]:
    """Return kind and path of what was named; files, which a shell may have named, by folder."""
    files = set(filter(os.path.isfile, paths))
    one_file = len(paths) == 1 and bool(files) and _found_file(paths[0]).kind != "file"
    names = [("", path) for path in paths if path not in files or one_file]
    if files and not one_file:
        names.append(("files in", folder))
    if config.from_list:
        names.append(("list", config.from_list))
    return names


def _changed_settings(config: SourceConfig, source: DataSource) -> dict[str, str]:
    values = {"recursive": config.recursive, **asdict(replace(source, path=""))}
    defaults = {"recursive": True, **asdict(DataSource(""))}
    return {name: str(value) for name, value in values.items() if value != defaults[name]}


def _find(path: str) -> list[_Found]:
    """Return what a path names: one source, or all that match a pattern."""
    if is_web_address(path) or is_remote_address(path):
        kind = "address" if is_web_address(path) else "remote"
        return [_Found("shard" if is_shards(path) else kind, path)]
    if is_shards(path):
        return [_found_shard(shard) for shard in list_shards(path)]
    if os.path.isdir(path):  # noqa: PTH112  # Path.is_dir() raises if the name is too long
        return [_Found("folder", path, path)]
    if os.path.isfile(path):  # noqa: PTH113
        return [_found_file(path)]
    if is_device(path):
        raise DataError(f"{path}: a pipe or a device, not an image file; give - to read stdin")
    return _match(path)


def _found_shard(shard: str) -> _Found:
    is_local = "://" not in shard and not shard.lstrip().lower().startswith("pipe:")
    return _Found("shard", shard, os.path.dirname(shard) or "." if is_local else "")  # noqa: PTH120


def _found_file(path: str, folder: str = "") -> _Found:
    is_table = path.lower().endswith(_DATA_SUFFIXES)
    folder = folder or os.path.dirname(path) or "."  # noqa: PTH120
    return _Found("table" if is_table else "file", path, folder)


def _match(pattern: str) -> list[_Found]:
    """Return the images and folders that match a pattern or, without any, the tables."""
    head = os.path.dirname(_WILDCARD.split(pattern)[0]) or "."  # noqa: PTH120
    found = [
        _Found("folder", path, head) if os.path.isdir(path) else _found_file(path, head)  # noqa: PTH112
        for path in sorted(set(match_paths(pattern)), key=natural_sort_key)
    ]
    images = [each for each in found if each.kind == "folder" or is_image(each.path)]
    chosen = images or [each for each in found if each.kind == "table"]
    if not chosen:
        raise DataError(
            f"{format_text(pattern)}: no images found; give image files, folders that contain "
            "images, or patterns such as 'photos/*.jpg'"
        )
    return chosen


class _Opener:
    """Makes the inputs of what was found."""

    def __init__(
        self,
        found: Sequence[_Found | DataError],
        config: SourceConfig,
        source: DataSource,
        policy: UrlPolicy,
    ) -> None:
        self._found, self._config, self._source, self._policy = found, config, source, policy
        folders = [each.folder for each in found if isinstance(each, _Found) and each.folder]
        if config.from_list:
            is_stdin = config.from_list == STDIN
            default = "." if is_stdin else os.path.dirname(config.from_list) or "."  # noqa: PTH120
            folders.append(source.image_root or default)
        self._folder = _find_common_folder(folders)
        self._is_single = len(found) + bool(config.from_list) == 1

    def open(self) -> Collection:
        inputs: list[Input] = []
        files: list[str] = []
        for each in self._found:
            if isinstance(each, DataError):
                inputs.append(_error_input(each))
            elif each.kind == "file":
                if not files:  # all files are one input, however many a shell names
                    inputs.append(self._open_files(files))
                files.append(each.path)
            else:
                inputs.append(self._open(each))
        if self._config.from_list:
            inputs.append(self._open_list(self._config.from_list))
        return Collection(inputs, Path(self._folder), open_shard=self.open_shard)

    def _open(self, found: _Found) -> Input:
        match found.kind:
            case "folder" | "table":
                return self._open_data(found)
            case "shard":
                return self._open_shard(found)
            case "address":
                sample = Sample(UrlImage(found.path, self._policy), (), found.path, url=found.path)
                return Input(lambda: iter([sample]), lambda: 1, place=sample.name)
        place = hide_credentials(found.path)
        return Input(partial(self._iter_remote, found.path), _unknown, place=place)

    def _iter_remote(self, address: str) -> Samples:
        """Yield the images at an address that fsspec knows."""
        for image in walk_remote(address):
            yield Sample(image, (), image.name if self._is_single else str(image))

    def _open_files(self, files: Sequence[str]) -> Input:
        def read() -> Samples:
            for path in files:
                yield Sample(path, (), self._relative(path))

        return Input(read, lambda: len(files))

    def _open_data(self, found: _Found) -> Input:
        source = replace(self._source, path=found.path)
        recursive = self._config.recursive

        def read() -> Samples:
            samples = iter_data(source, recursive=recursive, allow_urls=self._config.allow_urls)
            return self._rename(self._resolve(samples), found)

        return Input(read, partial(count_data, source, recursive=recursive))

    def _open_shard(self, found: _Found) -> Input:
        name = self._relative(found.path) if found.folder else found.path

        def read() -> Samples:
            samples = (
                iter_data(replace(self._source, path=found.path))
                if found.folder
                else iter_streamed_shard(found.path, self.open_shard)
            )
            for sample in samples:
                if isinstance(sample, Sample):  # its id is the name of the shard, and its key
                    key = sample.id.partition("/")[2]
                    sample = replace(sample, id=f"{name}/{key}")
                yield sample

        return Input(read, _unknown, found.path, name, hide_credentials(found.path))

    def open_shard(self, path: str) -> IO[bytes]:
        """Open a shard for reading from front to back."""
        if is_web_address(path):
            return open_url(path, self._policy)
        return open_remote(path) if is_remote_address(path) else Path(path).open("rb")

    def _open_list(self, path: str) -> Input:
        def read() -> Samples:
            lines: Iterable[str] = read_stdin_lines() if path == STDIN else read_lines(Path(path))
            return self._resolve(iter_list(lines, self._source.image_root))

        source = replace(self._source, path=path)
        count = _unknown if path == STDIN else partial(count_data, source)
        return Input(read, count)

    def _resolve(self, samples: Samples) -> Samples:
        """Turn addresses in data into images that are fetched, or into errors."""
        for sample in samples:
            if (
                isinstance(sample, Sample)
                and isinstance(sample.image, str)
                and "://" in sample.image
            ):
                yield self._resolve_address(sample, sample.image)
            else:
                yield sample

    def _resolve_address(self, sample: Sample, address: str) -> Sample | CutlineError:
        if not self._config.allow_urls:
            return DataError(f"{sample.id}: an address; fetch it with --allow-urls")
        image = UrlImage(address, self._policy) if is_web_address(address) else RemoteImage(address)
        return replace(sample, image=image, url=sample.url or address)

    def _rename(self, samples: Samples, found: _Found) -> Samples:
        """Make ids unique among several sources; those of local images become their paths."""
        if self._is_single:
            yield from samples
            return
        prefix = self._relative(found.path)
        for sample in samples:
            if isinstance(sample, Sample):
                keeps_id = self._source.columns.id_column or not isinstance(sample.image, str)
                id = f"{prefix}/{sample.id}" if keeps_id else self._relative(sample.name)
                sample = replace(sample, id=id)
            yield sample

    def _relative(self, path: str) -> str:
        """Return a local path relative to the folder of all sources."""
        return Path(os.path.relpath(path, self._folder)).as_posix()


def _find_common_folder(folders: Sequence[str]) -> str:
    """Return the folder that holds all of these; the current one if there is none."""
    if not folders:
        return "."
    if len(folders) == 1:
        return folders[0]
    try:
        return os.path.relpath(os.path.commonpath(map(os.path.abspath, folders)))
    except ValueError:  # on several drives
        return "."


def _relative_to(path: str, folder: Path) -> str:
    """Return a local path relative to a folder; addresses and `-` stay."""
    if path == STDIN or "://" in path:
        return path
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # on another drive
        return path


def read_stdin_lines() -> Iterator[str]:
    """Yield the lines of stdin as they come, as file names."""
    return map(os.fsdecode, sys.stdin.buffer)


def _unknown() -> None:
    """Return no count."""


def _error_input(error: DataError) -> Input:
    return Input(lambda: iter([error]), lambda: 1)
