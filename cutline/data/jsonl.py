"""JSON Lines: an image and its captions on each line."""

from collections.abc import Iterator
from pathlib import Path

from cutline.config import Columns
from cutline.data.row import (
    ADDRESS_KEYS,
    DEFAULT_COLUMNS,
    IMAGE_KEYS,
    first_of,
    parse_row,
    urls_only_error,
)
from cutline.data.sample import Sample, merge_rows, parse_json, read_text


def read_jsonl(
    path: Path, image_root: str = "", columns: Columns = DEFAULT_COLUMNS
) -> list[Sample]:
    """Read rows such as `{"file_name": "a.jpg", "captions": ["a dog"], "id": "7", "prompt": "a photo of "}`.

    The image may also be called `image`, `image_path`, `path`, `image_name` or `filename`, the captions `caption` (text or list),
    `text` or `comment`, the id `image_id`; `columns` names others. Only the image is required. Paths are relative to `image_root`, or
    else to the file's folder. Rows of the same image (and prompt) become one sample. Raises DataError naming file and line.
    """
    return merge_rows(_rows(read_text(path), str(path), image_root or str(path.parent), columns))


def _rows(text: str, name: str, root: str, columns: Columns) -> Iterator[Sample]:
    for number, line in enumerate(
        text.split("\n"), 1
    ):  # not splitlines: JSON text may hold other line separators
        if line.strip():
            where = f"{name}, line {number}"
            row = parse_json(line, where)
            if (
                isinstance(row, dict)
                and not columns.image_column
                and not first_of(row, IMAGE_KEYS)
                and first_of(row, ADDRESS_KEYS)
            ):
                raise urls_only_error(where)
            yield parse_row(row, root, where, columns)
