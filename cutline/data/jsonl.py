"""JSON Lines: an image and its captions on each line."""

from pathlib import Path

from cutline.config import Columns
from cutline.data.row import DEFAULT_COLUMNS, UrlHandling, parse_row, require_columns
from cutline.data.sample import Sample
from cutline.data.text import iter_lines, parse_json
from cutline.data.tolerant import Tolerant, attempt
from cutline.errors import DataError


def iter_jsonl(
    path: Path,
    image_root: str = "",
    columns: Columns = DEFAULT_COLUMNS,
    urls: UrlHandling = "keep",
) -> Tolerant[Sample]:
    """Yield rows such as `{"file_name": "a.jpg", "captions": ["a dog"], "prompt": "a photo of "}`.

    Only the image is required. These names are recognized:

    - image: `file_name`, `image`, `image_path`, `path`, `image_name`, `filename`;
    - captions, text or a list: `captions`, `caption`, `text`, `comment`;
    - id: `image_id`, `img_id`, `id`, `key`; by default the image's path as written;
    - `prompt`, `domain` and `url`.

    Args:
        path: The file.
        image_root: Folder that image paths are relative to (default: the folder of the file).
        columns: Column names, where they differ from the defaults.
        urls: What becomes of addresses.

    Yields:
        A sample for each row, or the error of an invalid one, which names the file and the line.

    Raises:
        DataError: The file cannot be read, or its first row lacks a named column.
    """
    root = image_root or str(path.parent)
    is_checked = False
    for number, line in enumerate(iter_lines(path), 1):
        if isinstance(line, DataError):
            yield line
        elif line.strip():
            where = f"{path}, line {number}"
            row = attempt(parse_json, line.removesuffix("\n"), where)
            if not is_checked and isinstance(row, dict):
                require_columns(columns, row, where)
                is_checked = True
            if isinstance(row, DataError):
                yield row
            else:
                yield attempt(parse_row, row, root, where, columns, urls)
