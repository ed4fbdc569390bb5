"""Open the sources that were named: files, folders, tables, lists, shards and addresses."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import IO

from cutline.bulk.found_source import FoundSource, find_sources, name_sources
from cutline.bulk.sources import STDIN, Collection, Input, Samples
from cutline.config import DataSource, SourceConfig, UrlPolicy
from cutline.data import Sample, count_data, iter_data, iter_list
from cutline.data.iterate import iter_streamed_shard
from cutline.data.remote import RemoteImage, is_remote_address, is_store_address, open_remote
from cutline.data.remote_folder import walk_remote
from cutline.data.sample import is_url
from cutline.data.text import iter_lines
from cutline.data.urls import UrlImage, open_url
from cutline.errors import CutlineError, DataError
from cutline.files import ImageRef, relative_path
from cutline.messages import format_text
from cutline.report import describe_sources
from cutline.web import hide_credentials, is_web_address


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
    paths = list(map(os.path.expanduser, paths))
    found = find_sources(paths)
    if len(paths) == 1 and not config.from_list and isinstance(found[0], DataError):
        raise found[0]
    collection = _Opener(found, config, source, policy).open()
    names = name_sources(paths, str(collection.folder))
    if config.from_list:
        names.append(("list", config.from_list))
    title = describe_sources([*paths, *filter(None, [config.from_list])])
    settings = _changed_settings(config, source)
    return replace(collection, names=names, settings=settings, title=title)


def open_stdin(image: bytes) -> Collection:
    """Return the collection of one image, which stdin contained."""
    sample = Sample(image, (), STDIN)
    source = Input(lambda: iter([sample]), lambda: 1)
    return Collection([source], Path(), [("", STDIN)], title="stdin")


def _changed_settings(config: SourceConfig, source: DataSource) -> dict[str, str]:
    values = {"recursive": config.recursive, **asdict(replace(source, path=""))}
    defaults = {"recursive": True, **asdict(DataSource(""))}
    return {name: str(value) for name, value in values.items() if value != defaults[name]}


class _Opener:
    """Makes the inputs of what was found."""

    def __init__(
        self,
        found: Sequence[FoundSource | DataError],
        config: SourceConfig,
        source: DataSource,
        policy: UrlPolicy,
    ) -> None:
        self._found, self._config, self._source, self._policy = found, config, source, policy
        folders = [each.folder for each in found if isinstance(each, FoundSource) and each.folder]
        if config.from_list:
            is_stdin = config.from_list == STDIN
            default = "." if is_stdin else os.path.dirname(config.from_list) or "."  # noqa: PTH120
            folders.append(source.image_root or default)
        self._folder = _find_common_folder(folders)
        self._addresses: dict[str, str] = {}  # of shards, by what they are called
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

    def _open(self, found: FoundSource) -> Input:
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

    def _open_data(self, found: FoundSource) -> Input:
        source = replace(self._source, path=found.path)
        recursive = self._config.recursive

        def read(read_texts: bool = True) -> Samples:
            samples = iter_data(
                source,
                recursive=recursive,
                allow_urls=self._config.allow_urls,
                read_texts=read_texts,
            )
            return self._rename(self._resolve(samples), found)

        count = partial(count_data, source, recursive=recursive)
        read_images = partial(read, read_texts=False)
        return Input(read, count, path=found.path, read_images=read_images)

    def _open_shard(self, found: FoundSource) -> Input:
        path = hide_credentials(found.path)
        self._addresses[path] = found.path
        name = self._relative(path) if found.folder else path

        def read() -> Samples:
            samples = (
                iter_data(replace(self._source, path=path))
                if found.folder
                else iter_streamed_shard(path, self.open_shard)
            )
            for sample in samples:
                if isinstance(sample, Sample):  # its id is the name of the shard, and its key
                    key = sample.id.partition("/")[2]
                    sample = replace(sample, id=f"{name}/{key}")
                yield sample

        return Input(read, _unknown, path, name, place=path)

    def open_shard(self, path: str) -> IO[bytes]:
        """Open a shard for reading from front to back; its address may lack the password."""
        path = self._addresses.get(path, path)
        if is_web_address(path):
            return open_url(path, self._policy)
        return open_remote(path) if is_remote_address(path) else Path(path).open("rb")

    def _open_list(self, path: str) -> Input:
        source = replace(self._source, path=path)
        count = _unknown if path == STDIN else partial(count_data, source)
        return Input(lambda: self._resolve(self._iter_list(path)), count)

    def _iter_list(self, path: str) -> Samples:
        lines: Iterable[str | DataError] = (
            read_stdin_lines() if path == STDIN else iter_lines(Path(path), "surrogateescape")
        )
        samples = iter_list(lines, self._source.image_root)
        first = next(samples, None)
        if first is None:
            name = "stdin" if path == STDIN else path
            raise DataError(
                f"{name}: the list names no images; write a path or an address on each line"
            )
        yield first
        yield from samples

    def _resolve(self, samples: Samples) -> Samples:
        """Turn addresses in data into images that are fetched, or into errors."""
        for sample in samples:
            if isinstance(sample, Sample) and isinstance(sample.image, str):
                yield self._resolve_image(sample, sample.image)
            else:
                yield sample

    def _resolve_image(self, sample: Sample, address: str) -> Sample | CutlineError:
        if not is_url(address):
            return sample
        name = format_text(hide_credentials(address))
        if not self._config.allow_urls:
            return DataError(f"{name}: an address; fetch it with --allow-urls")
        if is_web_address(address):
            image: ImageRef = UrlImage(address, self._policy)
        elif is_store_address(address):
            image = RemoteImage(address)
        else:
            return DataError(
                f"{name}: not an address of a web server or an object store, and others are not "
                "read from data; name it on the command line, or download the image"
            )
        return replace(sample, image=image, url=sample.url or address)

    def _rename(self, samples: Samples, found: FoundSource) -> Samples:
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
        return relative_path(path, self._folder)


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


def read_stdin_lines() -> Iterator[str]:
    """Yield the lines of stdin as they come, as file names."""
    return map(os.fsdecode, sys.stdin.buffer)


def _unknown() -> None:
    """Return no count."""


def _error_input(error: DataError) -> Input:
    return Input(lambda: iter([error]), lambda: 1)
