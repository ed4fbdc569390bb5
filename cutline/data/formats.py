"""Read a data file of any format, one row after the other."""

import json
from pathlib import Path

from cutline.config import DataSource
from cutline.data.coco import iter_coco
from cutline.data.find import reject_split
from cutline.data.jsonl import iter_jsonl
from cutline.data.parquet import iter_parquet
from cutline.data.row import IMAGE_KEYS, UrlHandling
from cutline.data.sample import Sample
from cutline.data.table import TABLE_SUFFIXES, iter_table
from cutline.data.text import iter_lines, parse_json, read_text, require_regular_file
from cutline.data.tolerant import Tolerant
from cutline.errors import DataError

FORMATS = (
    "JSON Lines (.jsonl), COCO, BLIP, Karpathy or NoCaps captions (.json), tables (.csv, .tsv, "
    ".parquet), tar shards, or a folder of images with .txt files beside them"
)
MAX_PARQUET_ROWS = 1000
"""rows of a Parquet file that are Python objects at a time"""
_MAX_ROW_LENGTH = 100_000
"""in characters; a longer first line is an entire COCO file, which takes long to parse twice"""


def iter_file(
    path: Path, source: DataSource, urls: UrlHandling = "keep", require_files: bool = True
) -> Tolerant[Sample]:
    """Yield the rows of a file, whose suffix determines the format.

    Args:
        path: The file.
        source: How to read it.
        urls: What becomes of addresses.
        require_files: Whether an image of a COCO file must have a file name.

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
        return iter_coco(content, path, source, urls, require_files)
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
