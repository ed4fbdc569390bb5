"""JSON Lines: an image and its captions on each line."""

from collections.abc import Iterator
from pathlib import Path

from cutline.config import Columns
from cutline.data.row import (
    DEFAULT_COLUMNS,
    IMAGE_KEYS,
    URL_KEYS,
    first_value,
    parse_row,
    urls_only_error,
)
from cutline.data.sample import Sample, merge_rows
from cutline.data.text import parse_json, read_lines


def read_jsonl(
    path: Path, image_root: str = "", columns: Columns = DEFAULT_COLUMNS
) -> list[Sample]:
    """Read rows such as `{"file_name": "a.jpg", "captions": ["a dog"], "prompt": "a photo of "}`.

    Only the image is required. These names are recognized:

    - image: `file_name`, `image`, `image_path`, `path`, `image_name`, `filename`;
    - captions, text or a list: `captions`, `caption`, `text`, `comment`;
    - id: `image_id`, `img_id`, `id`, `key`; by default the image's path as written;
    - `prompt` and `domain`.

    Args:
        path: The file.
        image_root: Folder that image paths are relative to (default: the folder of the file).
        columns: Column names, where they differ from the defaults.

    Returns:
        One sample per image and prompt.

    Raises:
        DataError: A row is invalid; the message names the file and the line.
    """
    return merge_rows(_read_rows(path, image_root or str(path.parent), columns))


def _read_rows(path: Path, root: str, columns: Columns) -> Iterator[Sample]:
    for number, line in enumerate(read_lines(path), 1):
        if line.strip():
            where = f"{path}, line {number}"
            row = parse_json(line, where)
            if isinstance(row, dict) and not columns.image_column and _has_only_url(row):
                raise urls_only_error(where)
            yield parse_row(row, root, where, columns)


def _has_only_url(row: dict[str, object]) -> bool:
    return not first_value(row, IMAGE_KEYS) and bool(first_value(row, URL_KEYS))
