"""Find data files: the lists in a folder, the files of a split, and what a pattern matches."""

import glob
import itertools
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from cutline.config import DataSource
from cutline.data.names import INDEX_NAMES, natural_sort_key
from cutline.data.walk import is_folder
from cutline.errors import DataError, SettingName
from cutline.messages import format_text

SPLIT_NAMES = {
    "train": ("train",),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test",),
}
"""names of the folders and Parquet files of a split"""
SPLIT_SETTING = SettingName("split", "`--split`")
"""in errors"""
MAX_FOLDERS = 1_000_000
"""folders that a pattern may lead to; each link between folders can double their number"""

_ANY_DEPTH = re.compile(r"(?:^|(?<=/))\*\*(?:/+(?:\*\*(?:/+|$))*|$)")
_LIST_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")


def find_index(folder: Path) -> Path | None:
    """Return the file that lists a folder's images, as in Hugging Face's imagefolder, if any."""
    return next((folder / name for name in INDEX_NAMES if (folder / name).is_file()), None)


def list_data_files(folder: Path) -> list[Path]:
    """Return the files in a folder that may list images with their captions, by name.

    Hidden files are left out.
    """
    files = (file for file in folder.glob("[!.]*") if file.suffix.lower() in _LIST_SUFFIXES)
    return sorted(filter(os.path.isfile, files), key=lambda file: natural_sort_key(str(file)))


def find_split(source: DataSource) -> DataSource | list[Path]:
    """Return where the split of a folder is: a subfolder, or Parquet files.

    It is the subfolder named after the split, or the Parquet files whose names begin with it.

    Raises:
        DataError: The folder has no such split.
    """
    path, split = Path(source.path), source.split
    aliases = next((names for names in SPLIT_NAMES.values() if split in names), (split,))
    for name in (split, *aliases):
        if (path / name).is_dir() and not find_index(path):
            return replace(source, path=str(path / name), split="")
        prefixes = (f"{name}-", f"{name}.")
        tables = [file for file in list_parquet_files(path) if file.name.startswith(prefixes)]
        if tables:
            return tables
    reject_split(split, path)
    return []


def list_parquet_files(folder: Path, *, recursive: bool = True) -> list[Path]:
    """Return the Parquet files in a folder and its subfolders in natural order."""
    files = folder.glob("**/*.parquet" if recursive else "*.parquet")
    return sorted(files, key=lambda file: natural_sort_key(str(file)))


def match_parquet_files(source: DataSource) -> list[Path]:
    """Return the Parquet files that match a path with wildcards, in natural order.

    Raises:
        DataError: There are none, or `source` has a split.
    """
    files = match_paths(source.path) if source.path.endswith(".parquet") else []
    if not files:
        raise DataError(f"{format_text(source.path)}: no such file or folder; check the path")
    reject_split(source.split, source.path)
    return [Path(file) for file in sorted(files, key=natural_sort_key)]


def reject_split(split: str, path: Path | str) -> None:
    """Raise DataError if a split of data without splits is requested."""
    if split:
        raise DataError(f"{path}: has no split `{split}`; remove ", SPLIT_SETTING)


def match_paths(pattern: str) -> list[str]:
    """Return the files and folders that match a pattern, as `glob.glob` with `recursive` does.

    `**` follows links to folders, too, but not to one that contains the link, where `glob` would go
    round in circles.

    Raises:
        DataError: There are too many folders.
    """
    stars = _ANY_DEPTH.search(pattern := pattern.replace(os.sep, "/"))
    if not stars:
        # Not Path.glob(), which does not take absolute patterns.
        return glob.glob(pattern)  # noqa: PTH207
    head, tail = pattern[: stars.start()], pattern[stars.end() :]
    roots = glob.glob(head) if head else [""]  # noqa: PTH207
    folders = (folder for root in roots for folder in _walk_folders(root))
    matches = (match_paths(glob.escape(folder) + (tail or "*")) for folder in folders)
    return list(dict.fromkeys(itertools.chain.from_iterable(matches)))


def _walk_folders(root: str) -> Iterator[str]:
    """Yield a folder and those below it, through links, each with a slash at its end."""
    pending: list[tuple[str, tuple[str, ...]]] = [(root, ())]
    count = 0
    while pending:
        folder, parents = pending.pop()
        real_path = os.path.realpath(folder)
        if real_path in parents:
            continue
        yield folder
        if (count := count + 1) > MAX_FOLDERS:
            raise DataError(f"{root}: more than {MAX_FOLDERS:,} folders; remove links between them")
        names: list[str] = []
        with suppress(OSError), os.scandir(folder or ".") as entries:
            names = [entry.name for entry in entries if is_folder(entry) and entry.name[0] != "."]
        pending += [(f"{folder}{name}/", (*parents, real_path)) for name in names]
