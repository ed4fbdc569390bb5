"""`FoundSource`: what the paths on the command line are; nothing is read yet."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cutline.data import list_shards
from cutline.data.find import match_paths
from cutline.data.names import is_image, natural_sort_key
from cutline.data.remote import is_remote_address
from cutline.data.shards import is_remote, is_shards
from cutline.errors import DataError
from cutline.files import is_device
from cutline.messages import format_text
from cutline.web import hide_credentials, is_web_address

_WILDCARD = re.compile(r"[*?\[]")
_DATA_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".token", ".parquet")


SourceKind = Literal["file", "folder", "table", "shard", "address", "remote"]
"""address: of an image on a web server; remote: of what fsspec reads"""


@dataclass(frozen=True, slots=True)
class FoundSource:
    """What one of the named paths is."""

    kind: SourceKind
    path: str
    folder: str = ""
    """local folder that its images are relative to; empty if there is none"""


def find_sources(paths: Sequence[str]) -> list[FoundSource | DataError]:
    """Return what paths name, in order, and an error for each that names nothing."""
    found: list[FoundSource | DataError] = []
    for path in paths:
        try:
            found += _find(path)
        except DataError as error:
            found.append(error)
    return found


def _find(path: str) -> list[FoundSource]:
    """Return what a path names: one source, or all that match a pattern."""
    is_web = is_web_address(path)
    if is_web or is_remote_address(path):
        kind: SourceKind = "address" if is_web else "remote"
        return [FoundSource("shard" if is_shards(path) else kind, path)]
    if is_shards(path):
        return [_found_shard(shard) for shard in list_shards(path)]
    if os.path.isdir(path):  # noqa: PTH112  # Path.is_dir() raises if the name is too long
        return [FoundSource("folder", path, path)]
    if os.path.isfile(path):  # noqa: PTH113
        return [_found_file(path)]
    if is_device(path):
        raise DataError(f"{path}: a pipe or a device, not an image file; give - to read stdin")
    return _match(path)


def _found_shard(shard: str) -> FoundSource:
    folder = "" if is_remote(shard) else os.path.dirname(shard) or "."  # noqa: PTH120
    return FoundSource("shard", shard, folder)


def _found_file(path: str, folder: str = "") -> FoundSource:
    folder = folder or os.path.dirname(path) or "."  # noqa: PTH120
    return FoundSource("table" if _is_table(path) else "file", path, folder)


def _is_table(path: str) -> bool:
    return path.lower().endswith(_DATA_SUFFIXES)


def _match(pattern: str) -> list[FoundSource]:
    """Return the images and folders that match a pattern or, without any, the tables."""
    head = os.path.dirname(_WILDCARD.split(pattern)[0]) or "."  # noqa: PTH120
    paths = sorted(set(match_paths(pattern)), key=natural_sort_key)
    found = [
        FoundSource("folder", path, head)
        if os.path.isdir(path)  # noqa: PTH112
        else _found_file(path, head)
        for path in paths
    ]
    images = [each for each in found if each.kind == "folder" or is_image(each.path)]
    chosen = images or [each for each in found if each.kind == "table"]
    if not chosen:
        raise DataError(
            f"{format_text(pattern)}: no images found; give image files, folders that contain "
            "images, or patterns such as 'photos/*.jpg'"
        )
    return chosen


def name_sources(paths: Sequence[str], folder: str) -> list[tuple[str, str]]:
    """Return kind and path of what was named, by which a later run knows that it is the same.

    Args:
        paths: What was named. Files, of which a shell may have named any number, are not kept one
            by one, unless there is a single table.
        folder: The folder that holds them.
    """
    is_file = [os.path.isfile(path) for path in paths]  # noqa: PTH113
    if is_file == [True] and _is_table(paths[0]):
        is_file = [False]
    others = (path for path, is_one in zip(paths, is_file, strict=True) if not is_one)
    names = [("", hide_credentials(path)) for path in others]
    return [*names, ("files in", folder)] if any(is_file) else names
