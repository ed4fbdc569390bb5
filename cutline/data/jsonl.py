"""JSON Lines: a picture and its captions on each line."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cutline.data.sample import Sample, merge, parse_json, picture_path, read_text
from cutline.errors import DataError

PICTURE_KEYS = ("file_name", "image", "image_path", "path")
CAPTION_KEYS = ("captions", "caption", "text")
ID_KEYS = ("image_id", "img_id", "id")  # `id` last: in some files it numbers the captions


def read_jsonl(path: Path, image_root: str = "") -> list[Sample]:
    """Read rows such as `{"file_name": "a.jpg", "captions": ["a dog"], "id": "7", "prompt": "a photo of "}`.

    The picture may also be called `image`, `image_path` or `path`, the captions `caption` (text or list) or `text`, the id `image_id`;
    only the picture is required. Paths are relative to `image_root`, or else to the file's folder. Rows of the same picture (and prompt)
    become one sample. Raises DataError naming file and line.
    """
    return merge(_rows(read_text(path), str(path), image_root or str(path.parent)))


def _rows(text: str, name: str, root: str) -> Iterator[Sample]:
    for number, line in enumerate(text.split("\n"), 1):  # not splitlines: JSON text may hold other line separators
        if line.strip():
            where = f"{name}, line {number}"
            yield parse_row(parse_json(line, where), root, where)


def parse_row(row: object, root: str, where: str) -> Sample:
    """A row's sample; without an id of its own, the picture's name in the file is its id. Raises DataError beginning with `where`."""
    if not isinstance(row, dict):
        raise DataError(f'{where}: a row must be a JSON object such as {{"file_name": "a.jpg", "captions": ["a dog"]}}')
    name = first_of(row, PICTURE_KEYS)
    if not isinstance(name, str) or not name:
        raise DataError(f"{where}: the row names no picture; give its path as `file_name`")
    prompt = row.get("prompt")
    if not isinstance(prompt, str | None):
        raise DataError(f"{where}: the prompt is {prompt!r}, which is not text; put it in quotes")
    captions = parse_captions(first_of(row, CAPTION_KEYS), where)
    return Sample(picture_path(name, root), captions, parse_id(first_of(row, ID_KEYS), where) or name, prompt)


def first_of(row: dict[str, object], keys: tuple[str, ...]) -> object:
    """The value of the first of `keys` that the row has."""
    for key in keys:
        if (value := row.get(key)) is not None:
            return value
    return None


def parse_captions(value: object, where: str) -> tuple[str, ...]:
    """One caption or a list of them; blank ones are dropped. Raises DataError."""
    captions: list[Any] = [] if value is None else value if isinstance(value, list) else [value]
    if wrong := [caption for caption in captions if not isinstance(caption, str)]:
        raise DataError(f"{where}: the caption {wrong[0]!r} is not text; put it in quotes")
    return tuple(caption for caption in captions if caption.strip())


def parse_id(value: object, where: str) -> str:
    """A number or text as text; "" for none. Raises DataError."""
    if isinstance(value, bool) or not isinstance(value, str | int | None):
        raise DataError(f"{where}: the id {value!r} is neither text nor a whole number; give one of these")
    return "" if value is None else str(value)
