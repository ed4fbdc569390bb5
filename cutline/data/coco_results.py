"""COCO's results: a JSON list of `{"image_id", "caption"}`, as evaluation servers take it."""

import re
from collections.abc import Iterable
from pathlib import Path

from cutline.data.write import Row, not_writable, open_atomic, to_json
from cutline.errors import ConfigError
from cutline.messages import format_text, format_value

_INTEGER = re.compile(r"-?(?:0|[1-9]\d{0,18})", re.ASCII)
MAX_ID = 2**63 - 1
"""what readers in other languages can store"""
_COCO_FILE_NAME = re.compile(r"(?:^|[_/\\])(\d{12})\.\w+$", re.ASCII)


def is_results_path(path: str | Path) -> bool:
    """Return whether `write_results` writes a file, and not `write_captions`: it is a .json."""
    return Path(path).suffix.lower() == ".json"


def find_coco_number(name: str) -> int | None:
    """Return 42 for COCO_val2014_000000000042.jpg or 000000000042.jpg, None for other names."""
    match = _COCO_FILE_NAME.search(name)
    return int(match[1]) if match else None


def find_image_id(id: str, name: str) -> int | None:
    """Return the integer by which COCO knows an image, or None.

    Args:
        id: Its id, if that is an integer.
        name: Its path; a COCO file name contains the integer.
    """
    if _INTEGER.fullmatch(id) and abs(int(id)) <= MAX_ID:
        return int(id)
    number = find_coco_number(id)
    return find_coco_number(name) if number is None else number


class ImageIds:
    """The integers by which the images of a results file are known, each of them once.

    Attributes:
        names: The name of each image, by its integer.
    """

    def __init__(self, path: Path) -> None:
        """Name the file, for error messages."""
        self.path = path
        self.names: dict[int, str] = {}

    def add(self, id: str, name: str) -> int:
        """Return the integer of an image.

        Raises:
            ConfigError: It has none, or another image has the same.
        """
        table = self.path.with_suffix(".jsonl").name
        image_id = find_image_id(id, name)
        if image_id is None:
            raise ConfigError(
                f"{format_text(name)}: the id {format_value(id)} is not an integer, as `image_id` "
                f"in {self.path} must be; write {table} instead"
            )
        if image_id in self.names:
            other = format_text(self.names[image_id])
            raise ConfigError(
                f"{self.path}: {other} and {format_text(name)} have the same image_id, {image_id}; "
                f"make ids unique, or write {table} instead"
            )
        self.names[image_id] = name
        return image_id


def write_results(path: str | Path, rows: Iterable[Row]) -> None:
    """Write captions as COCO's results: `[{"image_id": 42, "caption": "a dog"}, …]`.

    An existing file is replaced.

    Args:
        path: The file to write.
        rows: Rows such as `{"image": path, "id": "42", "caption": text}`.

    Raises:
        DataError: The file cannot be written.
        ConfigError: An image has no integer as id, or two images have the same.
    """
    ids, separator = ImageIds(Path(path)), "\n"
    try:
        with open_atomic(Path(path), newline="\n") as file:
            file.write("[")
            for row in rows:
                image_id = ids.add(row["id"], row["image"])
                result = {"image_id": image_id, "caption": row["caption"]}
                file.write(separator + to_json(result))
                separator = ",\n"
            file.write("\n]\n")
    except OSError as error:
        raise not_writable(str(error.filename or path), error) from None
