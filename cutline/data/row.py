"""A row of a table: which of its columns are the image, the captions, the prompt."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cutline.config import Columns
from cutline.config.data import PLACEHOLDER
from cutline.data.sample import Sample, image_path
from cutline.errors import DataError
from cutline.files import ImageRef

IMAGE_KEYS = ("file_name", "image", "image_path", "path", "image_name", "filename")
CAPTION_KEYS = ("captions", "caption", "text", "comment")
ID_KEYS = ("image_id", "img_id", "id", "key")  # `id` late: in some files it numbers the captions
ADDRESS_KEYS = ("url", "image_url")
DEFAULT_COLUMNS = Columns()
"""columns called as usual"""
NAME_IT = "name the image column (`--columns.image_column`, or `data.image_column` in a recipe)"
"""what to do where no column is called as images usually are"""


def parse_row(row: object, root: str, where: str, columns: Columns = DEFAULT_COLUMNS) -> Sample:
    """A row's sample; without an id of its own, the image's name in the file is its id. Raises DataError beginning with `where`."""
    if not isinstance(row, dict):
        raise DataError(
            f'{where}: a row must be a JSON object such as {{"file_name": "a.jpg", "captions": ["a dog"]}}'
        )
    require_columns(columns, row, where)
    name = row[columns.image_column] if columns.image_column else first_of(row, IMAGE_KEYS)
    if not isinstance(name, str) or not name:
        raise DataError(
            f"{where}: the row names no image; give its path as `{columns.image_column or 'file_name'}`"
        )
    return describe(row, image_path(name, root), name, where, columns)


def describe(
    row: dict[str, Any],
    image: str | ImageRef,
    name: str,
    where: str,
    columns: Columns = DEFAULT_COLUMNS,
) -> Sample:
    """The sample of `image`; without an id of its own, `name` is its id. Raises DataError beginning with `where`."""
    captions = parse_captions(
        row[columns.caption_column] if columns.caption_column else first_of(row, CAPTION_KEYS),
        where,
    )
    domain = row.get("domain")
    id = parse_id(first_of(row, ID_KEYS), where) or name
    return Sample(
        image, captions, id, _prompt(row, where, columns), domain if isinstance(domain, str) else ""
    )


def _prompt(row: dict[str, Any], where: str, columns: Columns) -> str | None:
    if columns.prompt_template:
        return PLACEHOLDER.sub(
            lambda place: _word(row[place[1]], place[1], where), columns.prompt_template
        )
    prompt = row.get(columns.prompt_column or "prompt")
    if prompt is None or isinstance(prompt, str):
        return prompt
    raise DataError(f"{where}: the prompt is {prompt!r}, which is not text; put it in quotes")


def _word(value: object, column: str, where: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
        raise DataError(
            f"{where}: the column `{column}` of the prompt is {value!r}, not a word; fill it in, or leave the row out"
        )
    return str(value)


def require_columns(columns: Columns, there: Iterable[str], where: str) -> None:
    """Raise DataError unless the `columns` that were named are `there`."""
    for name in columns.names:
        if name not in there:
            raise DataError(
                f"{where}: has no column `{name}`; there are {', '.join(there) or 'none'}"
            )


def reject_columns(columns: Columns, path: Path | str) -> None:
    """Raise DataError where columns are named for data that have none."""
    if columns.names:
        raise DataError(
            f"{path}: has no columns, so none called `{columns.names[0]}`; leave the settings of columns out"
        )


def urls_only_error(path: Path | str) -> DataError:
    """What is said of a table of URLs."""
    return DataError(
        f"{path}: holds addresses of images, not images; download them with img2dataset, and give the folder it makes"
    )


def first_of(row: dict[str, Any], keys: tuple[str, ...]) -> object:
    """The value of the first of `keys` that the row has."""
    for key in keys:
        if (value := row.get(key)) is not None:
            return value
    return None


def parse_captions(value: object, where: str) -> tuple[str, ...]:
    """One caption or a list of them; blank ones are dropped. Raises DataError."""
    if isinstance(value, str):  # the usual case, of which there are millions
        return () if value.isspace() or not value else (value,)
    captions: list[Any] = [] if value is None else value if isinstance(value, list) else [value]
    if wrong := [caption for caption in captions if not isinstance(caption, str)]:
        raise DataError(f"{where}: the caption {wrong[0]!r} is not text; put it in quotes")
    return tuple(caption for caption in captions if caption.strip())


def parse_id(value: object, where: str) -> str:
    """A number or text as text; "" for none. Raises DataError."""
    if value is None or isinstance(value, str):
        return value or ""
    if (
        isinstance(value, float) and value.is_integer()
    ):  # as pandas has whole numbers where one is missing
        return str(int(value))
    if isinstance(value, bool) or not isinstance(value, int):
        raise DataError(
            f"{where}: the id {value!r} is neither text nor a whole number; give one of these"
        )
    return str(value)
