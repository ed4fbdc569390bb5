"""Find images in the folders of file systems that fsspec knows, one folder after the other."""

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from cutline.data.names import is_image, natural_sort_key
from cutline.data.remote import RemoteImage, find_version, open_filesystem, remote_errors
from cutline.errors import DataError
from cutline.messages import format_text
from cutline.web import hide_credentials

logger = logging.getLogger(__name__)

_MAGIC = re.compile(r"[*?[]")
_END = re.compile(r"(?<![:/])/*$")
"""end of an address, with the slashes there that are not those of `://`"""


def walk_remote(address: str) -> Iterator[RemoteImage]:
    """Yield the images at an address: a file, those below a folder, or those that match a pattern.

    A file may have any name; folders and patterns such as `s3://bucket/**/*.jpg` match only files
    with an image extension, without hidden ones. A folder that matches stands for all images below
    it. Folders are listed when it is their turn, and in natural order.

    Args:
        address: The address. One that exists is not taken for a pattern.

    Yields:
        The images; their `name` is the path within the folder, or within the part of the pattern
            without wildcards.

    Raises:
        DataError: The address cannot be read, or there are no images.
        ConfigError: The package that reads such addresses is not installed.
    """
    images = _find_images(address)
    first = next(images, None)
    if first is None:
        raise DataError(
            f"{format_text(hide_credentials(address))}: no images found; give an image file, "
            "a folder that contains images, or a pattern such as s3://bucket/photos/*.jpg"
        )
    yield first
    yield from images


def _find_images(address: str) -> Iterator[RemoteImage]:
    info: dict[str, Any] | None = None
    with remote_errors(address, DataError):
        filesystem, path = open_filesystem(address)
        try:
            info = filesystem.info(path)
        except Exception:  # a pattern may also be an invalid path
            if not _MAGIC.search(address):
                raise
    if info is None:
        return _Search(filesystem, *_split_pattern(address)).walk()
    if info["type"] == "directory":
        return _Search(filesystem, _END.sub("/", address), ()).walk()
    name = path.rpartition("/")[2]
    return iter([RemoteImage(address, info.get("size"), find_version(info), name)])


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder whose path may match the first parts of a pattern."""

    name: str
    """path within the folder that is walked"""
    path: str
    """path in the file system"""
    states: frozenset[int]
    """how many parts of the pattern `name` may match"""


@dataclass(frozen=True, slots=True)
class _Search:
    """A search for the images in a folder that match a pattern."""

    filesystem: Any
    base: str
    """address of the folder, with a slash at its end"""
    parts: Sequence[str]
    """of the pattern, which was split at its slashes"""

    def walk(self) -> Iterator[RemoteImage]:
        path = open_filesystem(self.base)[1]
        pending: list[_Folder | RemoteImage] = [_Folder("", path, _expand(self.parts, {0}))]
        while pending:
            entry = pending.pop()
            if isinstance(entry, RemoteImage):
                yield entry
                continue
            with remote_errors(self.base + entry.name, DataError):
                entries = self.list_folder(entry)
            pending += sorted(entries, key=lambda each: natural_sort_key(each.name), reverse=True)

    def list_folder(self, folder: _Folder) -> list[_Folder | RemoteImage]:
        """Return the folders and images in a folder that can match the rest of the pattern."""
        from fsspec.dircache import DirCache  # type: ignore[import-untyped]

        infos = self.filesystem.ls(folder.path, detail=True)
        if isinstance(self.filesystem.dircache, DirCache):  # it would keep the lists of all folders
            self.filesystem.dircache.pop(folder.path, None)
        entries = (self.make_entry(folder, info) for info in infos)
        return [entry for entry in entries if entry]

    def make_entry(self, folder: _Folder, info: dict[str, Any]) -> _Folder | RemoteImage | None:
        path = info["name"].rstrip("/")
        name = path.rpartition("/")[2]
        states = _advance(self.parts, folder.states, name)
        is_itself = path == folder.path.rstrip("/")  # as object stores mark a folder
        if is_itself or name.startswith(".") or not states:
            return None
        info = _follow_link(self.filesystem, info)
        full_name = f"{folder.name}/{name}" if folder.name else name
        if info["type"] == "directory":
            return _Folder(full_name, path, states)
        address = self.base + full_name
        if len(self.parts) in states and is_image(name) and _is_file(info, address):
            return RemoteImage(address, info.get("size"), find_version(info), full_name)
        return None


def _follow_link(filesystem: Any, info: dict[str, Any]) -> dict[str, Any]:
    """Return what a link leads to. One to a folder, which could contain the link, is no folder."""
    if not info.get("islink") and info["type"] != "link":
        return info
    try:
        target: dict[str, Any] = filesystem.info(info["name"])
    except FileNotFoundError:  # which opening it reports
        return {"type": "file"}
    return target | {"type": "link"} if target["type"] == "directory" else target


def _is_file(info: dict[str, Any], address: str) -> bool:
    if info["type"] not in ("file", "link"):
        logger.warning("%s: skipped, because it is not a regular file", format_text(address))
    return bool(info["type"] == "file")


def _split_pattern(address: str) -> tuple[str, list[str]]:
    """Return the folder of a pattern, which is before the first wildcard, and the rest."""
    scheme, _, path = address.partition("://")
    start = _MAGIC.split(path, maxsplit=1)[0].rfind("/") + 1
    return f"{scheme}://{path[:start]}", [part for part in path[start:].split("/") if part]


def _expand(parts: Sequence[str], states: set[int]) -> frozenset[int]:
    """Add the states that follow because `**` may stand for no folder at all."""
    expanded = set(states)
    for index, part in enumerate(parts):
        if index in expanded and part == "**":
            expanded.add(index + 1)
    return frozenset(expanded)


def _advance(parts: Sequence[str], states: frozenset[int], name: str) -> frozenset[int]:
    """Return which parts a path may have matched after another name; none if it cannot match."""
    following = set()
    for state in states:
        if state == len(parts) or parts[state] == "**":
            following.add(state)
        elif fnmatchcase(name, parts[state]):
            following.add(state + 1)
    return _expand(parts, following)
