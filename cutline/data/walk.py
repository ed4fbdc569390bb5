"""Walk through a folder of images in natural order, with one folder's names in memory at a time."""

import heapq
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TypeAlias

from cutline.data.names import (
    INDEX_NAMES,
    SIDECAR_EXTENSIONS,
    is_image,
    list_sidecar_names,
    natural_name_key,
)
from cutline.data.tolerant import Tolerant
from cutline.errors import DataError
from cutline.files import is_device

logger = logging.getLogger(__name__)

_SIDECAR_SUFFIXES = tuple(f".{extension}" for extension in SIDECAR_EXTENSIONS)


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image in a folder."""

    path: str
    sidecar: str
    """path of the text file beside it, empty if there is none"""


@dataclass(frozen=True, slots=True)
class IndexFile:
    """A file that lists the images of a folder; it comes before them."""

    path: str


Found: TypeAlias = ImageFile | IndexFile
_Entry: TypeAlias = "tuple[str, bool, str, _Names]"  # sort key, whether it is a folder, path, names


@dataclass
class _Names:
    """The names in a folder that matter."""

    folder: str
    images: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    texts: set[str] = field(default_factory=set)
    indexes: set[str] = field(default_factory=set)

    def add(self, entry: os.DirEntry[str]) -> None:
        """Add an entry of the folder."""
        name = entry.name
        if is_folder(entry):
            if _is_walked(entry):
                self.folders.append(name)
        elif is_image(name):
            if _is_openable(entry):
                self.images.append(name)
            else:
                logger.warning("%s: skipped, because it is not a regular file", entry.path)
        elif name.endswith(_SIDECAR_SUFFIXES) and _is_file(entry):
            self.texts.add(name)
        elif name in INDEX_NAMES and _is_file(entry):
            self.indexes.add(name)

    def find_index(self) -> str:
        """Return the path of the file that lists the images, or ""."""
        name = next((name for name in INDEX_NAMES if name in self.indexes), "")
        return name and os.path.join(self.folder, name)  # noqa: PTH118

    def find_sidecar(self, image: str) -> str:
        """Return the path of the text file beside an image, or ""."""
        names = list_sidecar_names(os.path.basename(image)) if self.texts else []  # noqa: PTH119
        name = next((name for name in names if name in self.texts), "")
        return name and os.path.join(self.folder, name)  # noqa: PTH118

    def entries(self) -> Iterator[_Entry]:
        """Yield the images and the folders in natural order."""
        return heapq.merge(self._sort(self.images, False), self._sort(self.folders, True))

    def _sort(self, names: list[str], is_folder: bool) -> Iterator[_Entry]:
        names.sort()  # the order of names with the same key
        names.sort(key=natural_name_key)
        for name in names:
            path = os.path.join(self.folder, name)  # noqa: PTH118
            yield natural_name_key(name), is_folder, path, self


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_walked(folder: os.DirEntry[str]) -> bool:
    """Return whether a folder is neither hidden nor a link, which could lead in circles."""
    return not folder.name.startswith(".") and not folder.is_symlink()


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _is_openable(entry: os.DirEntry[str]) -> bool:
    """Return whether an image is a file, or missing, which opening it reports."""
    return entry.is_file(follow_symlinks=False) or not is_device(entry.path)


def walk_images(folder: Path, *, recursive: bool = True) -> Tolerant[Found]:
    """Yield the images in a folder and its subfolders in natural order, without hidden ones.

    Links to folders are not followed. The list of a folder comes before the folder's images.

    Args:
        folder: The folder.
        recursive: Whether to walk through the subfolders, too.

    Yields:
        Images, lists, and the error of each subfolder that cannot be read.

    Raises:
        DataError: The folder itself cannot be read.
    """
    root = os.fspath(folder)
    first = _scan(root)
    if isinstance(first, DataError):
        raise first
    pending = [_walk_level([first])]
    while pending:
        found = next(pending[-1], None)
        if found is None:
            pending.pop()
        elif not isinstance(found, list):
            yield found
        elif recursive:
            pending.append(_walk_level(map(_scan, found)))


def _walk_level(scans: Iterable[_Names | DataError]) -> Tolerant[Found | list[str]]:
    """Yield the images in folders, and the subfolders to walk through in between.

    Folders whose names differ only in case or in zeros before a number have the same place in the
    natural order: their images are sorted together, and so they are walked through together.
    """
    listings = []
    for names in scans:
        if isinstance(names, DataError):
            yield names
            continue
        listings.append(names)
        if index := names.find_index():
            yield IndexFile(index)
    entries = heapq.merge(*(names.entries() for names in listings))
    for (_, is_folder), group in groupby(entries, key=itemgetter(0, 1)):
        if is_folder:
            yield [path for _, _, path, _ in group]
        else:
            for _, _, path, names in group:
                yield ImageFile(path, names.find_sidecar(path))


def _scan(folder: str) -> _Names | DataError:
    names = _Names(folder)
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                names.add(entry)
    except OSError as error:
        return DataError(
            f"{error.filename or folder}: the folder cannot be read ({error.strerror}); "
            "check its permissions"
        )
    return names


def scan_images(folder: Path, *, recursive: bool = True) -> Iterator[str]:
    """Yield the images that `walk_images` finds, in any order, as fast as they can be counted.

    Folders that cannot be read are passed over.
    """
    pending = [os.fspath(folder)]
    while pending:
        with suppress(OSError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                if is_folder(entry):
                    if recursive and _is_walked(entry):
                        pending.append(entry.path)
                elif is_image(entry.name) and _is_openable(entry):
                    yield entry.path
