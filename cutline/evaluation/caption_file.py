"""Files of captions, as `cutline caption -o` and `cutline evaluate -o` write them."""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cutline.data.row import CAPTION_KEYS, ID_KEYS, IMAGE_KEYS, first_value, parse_id
from cutline.data.text import parse_json, read_text
from cutline.errors import DataError


@dataclass(frozen=True)
class CaptionRow:
    """A row of a caption file."""

    image: str
    """path of the image, as written in the file"""
    caption: str
    id: str = ""
    """id of the image; empty if the file has none"""


def read_captions(path: Path) -> list[CaptionRow]:
    """Read a .jsonl or .csv file of images, captions and, optionally, ids.

    Columns may have any of the default names, such as `image` or `file_name`.

    Raises:
        DataError: The file cannot be read; names the line.
    """
    suffix = path.suffix.lower()
    if suffix not in (".jsonl", ".csv"):
        raise DataError(
            f"{path}: captions must be in a .jsonl or .csv file, such as `cutline caption -o` "
            "writes"
        )
    text = read_text(path)
    rows = _read_csv(text, path) if suffix == ".csv" else _read_jsonl(text, path)
    captions = [_parse_row(row, where) for where, row in rows]
    if not captions:
        raise DataError(
            f"{path}: contains no captions; give a file that `cutline caption -o` wrote"
        )
    return captions


def _read_jsonl(text: str, path: Path) -> Iterable[tuple[str, object]]:
    """Yield the location and the value of each line."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            where = f"{path}, line {number}"
            yield where, parse_json(line, where)


def _read_csv(text: str, path: Path) -> Iterable[tuple[str, object]]:
    """Yield the location and the columns of each row."""
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        for row in reader:
            yield f"{path}, line {reader.line_num}", row
    except csv.Error as error:
        raise DataError(
            f"{path}, line {reader.line_num}: invalid CSV ({error}); fix or remove the line"
        ) from None


def _parse_row(row: object, where: str) -> CaptionRow:
    if not isinstance(row, dict):
        raise DataError(
            f'{where}: a row must be a JSON object such as {{"image": "a.jpg", "caption": "a dog"}}'
        )
    image, caption = first_value(row, IMAGE_KEYS), first_value(row, CAPTION_KEYS)
    if isinstance(caption, list) and len(caption) == 1:
        caption = caption[0]
    if not isinstance(image, str) or not isinstance(caption, str):
        raise DataError(
            f"{where}: a row needs the path of its image in `image` and text in `caption`"
        )
    return CaptionRow(image, caption, parse_id(first_value(row, ID_KEYS), where))
