"""Refuse outputs that are part of the source: a run that reads texts would read its own."""

import os
from pathlib import Path

from cutline.bulk.destination import Destination
from cutline.bulk.sources import Collection
from cutline.data.names import INDEX_NAMES
from cutline.errors import ConfigError

_DATA_SUFFIXES = (".parquet", ".tar")


def reject_source_output(destination: Destination, collection: Collection) -> None:
    """Raise ConfigError if the next run would read an output as part of the data."""
    path, folders = destination.path, _list_folders(collection)
    match destination.kind:
        case "sidecars":
            is_read = bool(folders)
        case "text":
            is_read = bool(folders) and _is_same(path, collection.folder)
        case "shards":
            shards = [Path(each.shard).parent for each in collection.inputs if each.shard]
            is_read = any(_is_same(path, folder) for folder in [*folders, *shards])
        case _:
            reject_source_file(path, collection)
            return
    if is_read:
        is_beside = destination.kind == "sidecars"
        raise _make_error(f"{destination.extension} files" if is_beside else str(path))


def reject_source_file(path: Path, collection: Collection) -> None:
    """Raise ConfigError if the next run would read a file as part of the data."""
    files = [Path(each.path or each.shard) for each in collection.inputs]
    is_data = path.name in INDEX_NAMES or path.suffix.lower() in _DATA_SUFFIXES
    folders = _list_folders(collection) if is_data else []
    if any(_is_same(path, file) for file in files) or any(
        _is_same(parent, folder) for parent in path.absolute().parents for folder in folders
    ):
        raise _make_error(str(path))


def _make_error(place: str) -> ConfigError:
    return ConfigError(
        f"{place}: part of the data that is read, so that its texts would be lost, or selected "
        "again; name an output elsewhere, such as kept.jsonl"
    )


def _list_folders(collection: Collection) -> list[Path]:
    """Return the folders whose images are read with the texts beside them."""
    paths = (Path(each.path) for each in collection.inputs if each.path)
    return [path for path in paths if path.is_dir()]


def _is_same(path: Path, other: Path) -> bool:
    return os.path.realpath(path) == os.path.realpath(other)
