"""JSON Lines: an image and its captions on each line."""

from pathlib import Path

from cutline.config import DataSource
from cutline.data.row import UrlHandling, image_folder, parse_row, require_columns
from cutline.data.sample import Sample
from cutline.data.text import iter_lines, parse_json
from cutline.data.tolerant import Tolerant, attempt
from cutline.errors import DataError


def iter_jsonl(path: Path, source: DataSource, urls: UrlHandling) -> Tolerant[Sample]:
    """Yield rows such as `{"file_name": "a.jpg", "captions": ["a dog"], "prompt": "a photo of "}`.

    Only the image is required. These names are recognized:

    - image: `file_name`, `image`, `image_path`, `path`, `image_name`, `filename`;
    - captions, text or a list: `captions`, `caption`, `text`, `comment`;
    - id: `image_id`, `img_id`, `id`, `key`; by default the image's path as written;
    - `prompt`, `domain` and `url`.

    Args:
        path: The file.
        source: Says where the images are, and which column names differ from the defaults.
        urls: What becomes of addresses.

    Yields:
        A sample for each row, or the error of an invalid one, which names the file and the line.

    Raises:
        DataError: The file cannot be read, or its first row lacks a named column.
    """
    root, columns = image_folder(path, source), source.columns
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
