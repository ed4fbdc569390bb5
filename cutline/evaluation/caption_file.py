"""Captions of images that others, or `cutline caption -o`, have written: a caption per image."""

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TypeAlias

from cutline.data.formats import is_jsonl
from cutline.data.parquet_columns import parquet_errors
from cutline.data.parquet_file import column_to_list, open_parquet, read_columns
from cutline.data.row import CAPTION_KEYS, ID_KEYS, IMAGE_KEYS, first_value, parse_id
from cutline.data.text import parse_json, read_text, require_regular_file
from cutline.errors import DataError
from cutline.messages import format_text

FORMATS = "a .jsonl, .csv or .parquet file, or COCO results (.json)"
SUFFIXES = (".jsonl", ".csv", ".parquet", ".json")
Rows: TypeAlias = Iterable[tuple[str, object]]
"""where a row is, and the row"""


@dataclass(frozen=True)
class CaptionRow:
    """A row of a caption file."""

    image: str
    """path of the image, as written in the file; empty if the file has only ids"""
    caption: str
    id: str = ""
    """id of the image; empty if the file has none"""

    @property
    def name(self) -> str:
        """Return the display name of the image."""
        return self.image or f"image {self.id}"


def read_captions(path: Path) -> list[CaptionRow]:
    """Read a file of images or their ids, with a caption for each.

    It is JSON Lines, CSV or Parquet, whose columns may have any of the default names, such as
    `image` or `file_name`, or COCO's results, a JSON list of `{"image_id": 42, "caption": text}`.

    Raises:
        DataError: The file cannot be read; names the line.
        ConfigError: It is a Parquet file, and pyarrow is not installed.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(
            f"{path}: captions must be in {FORMATS}, such as `cutline caption -o` writes"
        )
    captions = parse_caption_rows(_iter_rows(path, suffix))
    if not captions:
        raise DataError(
            f"{path}: contains no captions; give a file that `cutline caption -o` wrote"
        )
    return captions


def parse_caption_rows(rows: Rows) -> list[CaptionRow]:
    """Return rows, each of which is an object with an image or its id, and a caption.

    Raises:
        DataError: A row is something else; begins with where that is.
    """
    return [_parse_row(row, where) for where, row in rows]


def _iter_rows(path: Path, suffix: str) -> Rows:
    if suffix == ".parquet":
        return _read_parquet(path)
    if suffix == ".csv":
        return _read_csv(read_text(path), path)
    if suffix == ".jsonl" or is_jsonl(path):
        return _read_jsonl(read_text(path), path)
    return _read_results(path)


def _read_jsonl(text: str, path: Path) -> Rows:
    """Yield the location and the value of each line."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            where = f"{path}, line {number}"
            yield where, parse_json(line, where)


def _read_csv(text: str, path: Path) -> Rows:
    """Yield the location and the columns of each row."""
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        for row in reader:
            yield f"{path}, line {reader.line_num}", row
    except csv.Error as error:
        raise DataError(
            f"{path}, line {reader.line_num}: invalid CSV ({error}); fix or remove the line"
        ) from None


def _read_parquet(path: Path) -> Iterator[tuple[str, object]]:
    """Yield the location and the columns of each row."""
    require_regular_file(path)
    with parquet_errors(path), open_parquet(path) as file:
        existing = file.schema_arrow.names
        names = [key for key in (*IMAGE_KEYS, *CAPTION_KEYS, *ID_KEYS) if key in existing]
        numbers = count(1)
        for group in range(file.num_row_groups if names else 0):
            table = read_columns(file, path, group, names)
            columns = [column_to_list(table.column(name)) for name in table.column_names]
            for values in zip(*columns, strict=True):
                row = dict(zip(table.column_names, values, strict=True))
                yield f"{path}, row {next(numbers)}", row


def _read_results(path: Path) -> Rows:
    """Return the location and the value of each result."""
    content = parse_json(read_text(path), str(path))
    if isinstance(content, list):
        return ((f"{path}, row {number}", row) for number, row in enumerate(content, 1))
    if isinstance(content, dict) and "images" in content:
        raise DataError(
            f"{path}: has images and their references; give it as the references, and here "
            "the captions to measure"
        )
    raise DataError(
        f'{path}: not a list of captions such as [{{"image_id": 42, "caption": "a dog"}}]; '
        f"give {FORMATS}"
    )


def _parse_row(row: object, where: str) -> CaptionRow:
    if not isinstance(row, dict):
        raise DataError(
            f'{where}: a row must be a JSON object such as {{"image": "a.jpg", "caption": "a dog"}}'
        )
    image, caption = first_value(row, IMAGE_KEYS), first_value(row, CAPTION_KEYS)
    id = parse_id(first_value(row, ID_KEYS), where)
    if isinstance(caption, list) and len(caption) == 1:
        caption = caption[0]
    if isinstance(caption, list) and len(caption) > 1:
        raise DataError(
            f"{where}: has {len(caption)} captions of an image, as references have; give a file "
            "with one caption of each image"
        )
    if not isinstance(image, str | None) or not (image or id) or not isinstance(caption, str):
        columns = format_text(", ".join(map(str, row)))
        raise DataError(
            f"{where}: a row needs the path of its image in `image` or its id in `image_id`, and "
            f"text in `caption`; this one has {columns or 'no columns'}"
        )
    return CaptionRow(image or "", caption, id)
