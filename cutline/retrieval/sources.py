"""Where the images of an index come from: recorded, and opened again."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from cutline.bulk.inputs import open_collection
from cutline.bulk.output import Output
from cutline.bulk.sources import STDIN, Collection, Samples
from cutline.config import DataSource, SourceConfig, UrlPolicy
from cutline.data import Sample
from cutline.data.sample import is_url
from cutline.errors import ConfigError, DataError
from cutline.files import ImageRef, relative_path
from cutline.retrieval.entry import IndexedImage, describe_image
from cutline.retrieval.info import DEFAULT_PLACE, IndexSources


@dataclass(frozen=True)
class ImageSources:
    """Images, as a command line names them."""

    paths: Sequence[str]
    """files, folders, patterns, tables, tar shards, addresses"""
    source: SourceConfig = field(default_factory=SourceConfig)
    data: DataSource = field(default_factory=lambda: DataSource(""))
    urls: UrlPolicy = field(default_factory=UrlPolicy)

    @cached_property
    def collection(self) -> Collection:
        """Return the collection, which is not read yet.

        Raises:
            DataError: The only path does not exist, or has no images.
        """
        return open_collection(self.paths, self.source, self.data, self.urls)

    def choose_index(self, index: str | Path) -> Path:
        """Return the folder of the index: the one that is named, or else that of a folder.

        Raises:
            ConfigError: None is named, and the images are not those of one folder.
        """
        if index:
            return Path(index).expanduser()
        paths = [Path(path).expanduser() for path in self.paths]
        if len(paths) == 1 and paths[0].is_dir() and not self.source.from_list:
            return paths[0] / DEFAULT_PLACE
        raise ConfigError(
            "name a folder for the index, such as -o index; only a folder has its own"
        )

    def describe(self, index: Path) -> IndexSources:
        """Return what an index records, with paths relative to it."""
        root = self.data.image_root and relative_path(self.data.image_root, index)
        return IndexSources(
            tuple(self.collection.describe(index)["source"]),
            relative_path(self.collection.folder, index),
            SourceConfig("", self.source.recursive, self.source.allow_urls),
            replace(self.data, path="", image_root=root),
            self.urls,
        )


def reopen_sources(index: Path, recorded: IndexSources) -> ImageSources:
    """Return the sources that an index records, but for those that are single files."""
    paths, from_list = [], ""
    for name in recorded.names:
        kind, _, path = name.partition(" ")
        path = path if is_url(path) or path == STDIN else join_path(index, path)
        if kind == "":
            paths.append(path)
        elif kind == "list" and path != STDIN:
            from_list = path
    root = recorded.data.image_root and join_path(index, recorded.data.image_root)
    source = replace(recorded.source, from_list=from_list)
    return ImageSources(paths, source, replace(recorded.data, image_root=root), recorded.urls)


class _ImagesOnly(Output):
    """An output that needs no captions of the source, so that they are not read."""

    has_original_captions = False


def iter_images(collection: Collection) -> Samples:
    """Yield the samples of a collection, and the error of each that cannot be read."""
    return collection.iter_samples(_ImagesOnly())


def find_images(
    index: Path, recorded: IndexSources, images: Sequence[IndexedImage]
) -> list[str | bytes | ImageRef | None]:
    """Return where the images of an index can be read.

    Those that are not files of their own are looked for in the sources, which may take a while.

    Args:
        index: The folder of the index.
        recorded: What the index records of its sources.
        images: The images.

    Returns:
        Path, bytes or reference of each; None if the sources do not contain it any more.
    """
    wanted = {image.name for image in images if not image.is_file}
    found = dict(_find_in_sources(index, recorded, wanted)) if wanted else {}
    folder = join_path(index, recorded.folder)
    return [
        os.path.join(folder, image.name) if image.is_file else found.get(image.name)  # noqa: PTH118
        for image in images
    ]


def _find_in_sources(
    index: Path, recorded: IndexSources, wanted: set[str]
) -> Iterator[tuple[str, str | bytes | ImageRef]]:
    folder, missing = join_path(index, recorded.folder), set(wanted)
    with suppress(DataError):  # the sources have been moved, or cannot be read
        for sample in iter_images(reopen_sources(index, recorded).collection):
            if not isinstance(sample, Sample) or sample.local_path:
                continue
            name = describe_image(sample, folder).name
            if name in missing:
                missing.remove(name)
                yield name, sample.image
            if not missing:
                return


def join_path(folder: str | Path, path: str) -> str:
    """Return the path that is `path` relative to a folder, without `..` where possible."""
    return os.path.normpath(os.path.join(folder, path))  # noqa: PTH118
