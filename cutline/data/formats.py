"""Read a data file of any format, one row after the other."""

import json
from dataclasses import replace
from pathlib import Path

from cutline.config import DataSource
from cutline.data.coco import iter_coco, reject_split
from cutline.data.folder import find_index, match_paths
from cutline.data.jsonl import iter_jsonl
from cutline.data.names import natural_sort_key
from cutline.data.parquet import iter_parquet
from cutline.data.row import IMAGE_KEYS, UrlHandling
from cutline.data.sample import Sample
from cutline.data.table import TABLE_SUFFIXES, iter_table
from cutline.data.text import iter_lines, parse_json, read_text, require_regular_file
from cutline.data.tolerant import Tolerant
from cutline.errors import DataError
from cutline.messages import format_text

FORMATS = (
    "JSON Lines (.jsonl), COCO, BLIP, Karpathy or NoCaps captions (.json), tables (.csv, .tsv, "
    ".parquet), tar shards, or a folder of images with .txt files beside them"
)
SPLIT_NAMES = {
    "train": ("train",),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test",),
}
"""names of the folders and Parquet files of a split"""
MAX_PARQUET_ROWS = 1000
"""rows of a Parquet file that are Python objects at a time"""
_MAX_ROW_LENGTH = 100_000
"""in characters; a longer first line is an entire COCO file, which takes long to parse twice"""


def iter_file(path: Path, source: DataSource, urls: UrlHandling = "keep") -> Tolerant[Sample]:
    """Yield the rows of a file, whose suffix determines the format.

    Args:
        path: The file.
        source: How to read it.
        urls: What becomes of addresses.

    Yields:
        A sample for each row, or the error of an invalid one, which names the file and the line.

    Raises:
        DataError: The file cannot be read, or is of another format.
        ConfigError: It is a Parquet file, and pyarrow is not installed.
    """
    require_regular_file(path)
    suffix = path.suffix.lower()
    if suffix == ".json" and not is_jsonl(path, source.columns.image_column):
        content = parse_json(read_text(path), str(path))
        return iter_coco(content, path, source, urls)
    reject_split(source.split, path)
    if suffix in (".json", ".jsonl", ".ndjson"):
        return iter_jsonl(path, source, urls)
    if suffix in TABLE_SUFFIXES:
        return iter_table(path, source, urls)
    if suffix == ".parquet":
        return iter_parquet(path, source, urls, MAX_PARQUET_ROWS)
    raise DataError(f"{path}: not a supported data format; give {FORMATS}")


def is_jsonl(path: Path, image_column: str = "") -> bool:
    """Return whether a .json file is JSON Lines: its first line alone is the row of an image."""
    lines = (line for line in iter_lines(path) if isinstance(line, DataError) or line.strip())
    line = next(lines, "")
    if isinstance(line, DataError) or len(line) >= _MAX_ROW_LENGTH:
        return False
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and any(key in row for key in (*IMAGE_KEYS, image_column))


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
