"""Files of captions, as `cutline caption -o` and `cutline evaluate -o` write them."""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cutline.data.row import CAPTION_KEYS, ID_KEYS, IMAGE_KEYS, first_of, parse_id
from cutline.data.sample import parse_json, read_text
from cutline.errors import DataError


@dataclass(frozen=True)
class CaptionRow:
    """One row of a file of captions."""

    image: str
    """the image's path as written there"""
    caption: str
    id: str = ""


def read_captions(path: Path) -> list[CaptionRow]:
    """The rows of a .jsonl or .csv file: image (`image`, `file_name`, …), caption, perhaps an id. Raises DataError naming the line."""
    if path.suffix.lower() not in (".jsonl", ".csv"):
        raise DataError(
            f"{path}: captions to compare are in a .jsonl or .csv file, as `cutline caption -o` writes them"
        )
    text = read_text(path)
    rows = _csv_rows(text, path) if path.suffix.lower() == ".csv" else _json_rows(text, path)
    lines = [_parse_line(row, where) for where, row in rows]
    if not lines:
        raise DataError(f"{path}: holds no captions; give a file that `cutline caption -o` wrote")
    return lines


def _json_rows(text: str, path: Path) -> Iterable[tuple[str, object]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield (where := f"{path}, line {number}"), parse_json(line, where)


def _csv_rows(text: str, path: Path) -> Iterable[tuple[str, object]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        for row in reader:
            yield f"{path}, line {reader.line_num}", row
    except csv.Error as error:
        raise DataError(
            f"{path}, line {reader.line_num}: not CSV ({error}); mend or remove it"
        ) from None


def _parse_line(row: object, where: str) -> CaptionRow:
    if not isinstance(row, dict):
        raise DataError(
            f'{where}: a row must be a JSON object such as {{"image": "a.jpg", "caption": "a dog"}}'
        )
    image, caption = first_of(row, IMAGE_KEYS), first_of(row, CAPTION_KEYS)
    if isinstance(caption, list) and len(caption) == 1:
        caption = caption[0]
    if not isinstance(image, str) or not isinstance(caption, str):
        raise DataError(
            f"{where}: a row needs the image's path as `image` and one text as `caption`"
        )
    return CaptionRow(image, caption, parse_id(first_of(row, ID_KEYS), where))
