"""Rows of tables and JSON files: find the image, the captions and the prompt of a row."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from cutline.config import Columns, DataSource
from cutline.config.data import PLACEHOLDER
from cutline.data.sample import Sample, image_path, is_url
from cutline.errors import DataError, SettingName
from cutline.files import ImageRef
from cutline.messages import format_name, format_text, format_value
from cutline.web import hide_credentials

IMAGE_KEYS = ("file_name", "image", "image_path", "path", "image_name", "filename")
CAPTION_KEYS = ("captions", "caption", "text", "comment")
ID_KEYS = ("image_id", "img_id", "id", "key")  # `id` late: in some files it numbers the captions
URL_KEYS = ("url", "image_url", "URL", "IMAGE_URL")
DEFAULT_COLUMNS = Columns()
"""no column is named: columns are recognized by their default names, the keys above"""
UrlHandling: TypeAlias = Literal["keep", "allow", "reject"]
"""what becomes of rows whose image is an address: `keep` takes it for a path, which cannot be
opened, and refuses rows that have no image but an address; `allow` takes it, also from a column of
addresses; `reject` refuses both, and names the flag that allows them"""


def image_folder(path: Path, source: DataSource) -> str:
    """Return the folder that image paths in the data file `path` are relative to."""
    return source.image_root or str(path.parent)


def parse_row(
    row: object,
    root: str,
    where: str,
    columns: Columns = DEFAULT_COLUMNS,
    urls: UrlHandling = "keep",
) -> Sample:
    """Return the sample of a row whose image is a path or an address.

    Args:
        row: The row, which must be a dictionary.
        root: Folder that image paths are relative to.
        where: File and line, with which error messages begin.
        columns: Column names, where they differ from the defaults.
        urls: What becomes of addresses.

    Raises:
        DataError: The row has no image, lacks a named column, or has a value of the wrong type.
    """
    if not isinstance(row, dict):
        raise DataError(
            f"{where}: a row must be a JSON object "
            'such as {"file_name": "a.jpg", "captions": ["a dog"]}'
        )
    require_columns(columns, row, where)
    name = row[columns.image_column] if columns.image_column else first_value(row, IMAGE_KEYS)
    if not name and not columns.image_column and (url := find_url(row)):
        if urls != "allow":
            raise urls_only_error(where, urls)
        name = url
    if not isinstance(name, str) or not name:
        raise DataError(
            f"{where}: the row names no image; "
            f"give its path as `{columns.image_column or 'file_name'}`"
        )
    return make_sample(row, locate_image(name, where, root, urls), name, where, columns)


def locate_image(name: str, where: str, root: str, urls: UrlHandling = "keep") -> str:
    """Return the path of an image, or its address as written.

    Raises:
        DataError: It is an address, and `urls` rejects them.
    """
    if urls == "reject" and is_url(name):
        raise DataError(
            f"{where}: the image is at {format_text(hide_credentials(name))}; "
            "pass --allow-urls to fetch it, or download it"
        )
    return image_path(name, root)


def make_sample(
    row: Mapping[str, Any],
    image: str | ImageRef,
    default_id: str,
    where: str,
    columns: Columns = DEFAULT_COLUMNS,
) -> Sample:
    """Return the sample of an image with the captions and the other columns of its row.

    Args:
        row: Values by column.
        image: The image.
        default_id: Id of a row that has none of its own.
        where: File and line, with which error messages begin.
        columns: Column names, where they differ from the defaults.

    Raises:
        DataError: A value of the row has the wrong type.
    """
    if columns.caption_column:
        captions = row[columns.caption_column]
    else:
        captions = first_value(row, CAPTION_KEYS)
    domain = row.get("domain")
    return Sample(
        image=image,
        captions=parse_captions(captions, where),
        id=_parse_row_id(row, where, columns) or default_id,
        prompt=_parse_prompt(row, where, columns),
        domain=domain if isinstance(domain, str) else "",
        group=_parse_group(row.get(columns.group_column), where) if columns.group_column else "",
        url=find_url(row) or (image if isinstance(image, str) and is_url(image) else ""),
    )


def _parse_row_id(row: Mapping[str, Any], where: str, columns: Columns) -> str:
    return parse_id(
        row[columns.id_column] if columns.id_column else first_value(row, ID_KEYS), where
    )


def find_url(row: Mapping[str, Any]) -> str:
    """Return the address in a row, or "" if there is none."""
    url = first_value(row, URL_KEYS)
    return url if isinstance(url, str) else ""


def _parse_prompt(row: Mapping[str, Any], where: str, columns: Columns) -> str | None:
    if columns.prompt_template:
        return PLACEHOLDER.sub(
            lambda match: _fill_placeholder(row[match[1]], match[1], where),
            columns.prompt_template,
        )
    prompt = row.get(columns.prompt_column or "prompt")
    if prompt is None or isinstance(prompt, str):
        return prompt
    raise DataError(
        f"{where}: the prompt is {format_value(prompt)}, which is not text; put it in quotes"
    )


def _parse_group(value: object, where: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float | None):
        raise DataError(
            f"{where}: the group {format_value(value)} is neither text nor a number; "
            "put it in quotes"
        )
    return "" if value is None else str(value)


def _fill_placeholder(value: object, column: str, where: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
        raise DataError(
            f"{where}: the prompt needs text in the column `{column}`, "
            f"which is {format_value(value)}; fill it in, or remove the row"
        )
    return str(value)


def reject_repeated_columns(names: Sequence[str], where: str) -> None:
    """Raise DataError if two columns of a table have the same name."""
    for name, count in Counter(filter(None, names)).items():
        if count > 1:
            raise DataError(
                f"{where}: {count} columns are named `{format_name(name)}`; "
                "remove or rename the others"
            )


def require_columns(columns: Columns, existing: Iterable[str], where: str) -> None:
    """Raise DataError unless every column named by `columns` is among the `existing` ones."""
    for name, setting in columns.names.items():
        if name not in existing:
            choices = format_text(", ".join(map(str, existing)))
            problem = f"{where}: has no column `{name}`; "
            if not choices:
                raise DataError(f"{problem}the row is empty")
            raise DataError(f"{problem}name one of {choices} in ", column_setting(setting))


def reject_columns(columns: Columns, path: Path | str) -> None:
    """Raise DataError if columns are named for data that has no columns."""
    for name, setting in columns.names.items():
        problem = f"{path}: this kind of data has no columns, such as `{name}`; remove "
        raise DataError(problem, column_setting(setting))


def column_setting(name: str) -> SettingName:
    """Return the name in errors of a setting of `Columns`: a flag, unless in a recipe."""
    return SettingName(name, f"`--{name.replace('_', '-')}`")


def no_image_column_error(names: Iterable[str], where: str, usual_name: str) -> DataError:
    """Return the error for a table whose image column, usually `usual_name`, has another name."""
    return DataError(
        f"{where}: none of the columns {format_text(', '.join(names))} is recognized as "
        f"the image column; rename the right one to `{usual_name}`, or name it in ",
        column_setting("image_column"),
    )


def urls_only_error(path: Path | str, urls: UrlHandling = "keep") -> DataError:
    """Return the error for a table of image URLs."""
    hint = ", or pass --allow-urls" if urls == "reject" else ""
    return DataError(
        f"{path}: contains URLs of images instead of images; "
        f"download them with img2dataset, and give the folder that it writes{hint}"
    )


def first_value(row: Mapping[str, Any], keys: Iterable[str]) -> object:
    """Return the value of the first of `keys` that is not None in the row, or else None."""
    for key in keys:
        if (value := row.get(key)) is not None:
            return value
    return None


def parse_captions(value: object, where: str) -> tuple[str, ...]:
    """Return the captions in a value, a text or a list of texts, without blank ones.

    Raises:
        DataError: A caption is not text.
    """
    if isinstance(value, str):  # the fast path, for millions of captions
        return () if value.isspace() or not value else (value,)
    captions: list[Any] = [] if value is None else value if isinstance(value, list) else [value]
    for caption in captions:
        if not isinstance(caption, str):
            raise DataError(
                f"{where}: the caption {format_value(caption)} is not text; put it in quotes"
            )
    return tuple(caption for caption in captions if caption.strip())


def parse_id(value: object, where: str) -> str:
    """Return an id as text; "" for None.

    Raises:
        DataError: The id is neither text nor an integer.
    """
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, float) and value.is_integer():  # pandas: integers with missing values
        return str(int(value))
    if isinstance(value, bool) or not isinstance(value, int):
        raise DataError(
            f"{where}: the id {format_value(value)} is neither text nor an integer; "
            "put it in quotes"
        )
    return str(value)
