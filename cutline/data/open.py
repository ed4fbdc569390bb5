"""Open datasets of any format, and find images, by path."""

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from cutline.config import Columns, DataSource
from cutline.data.coco import read_coco, reject_split
from cutline.data.folder import (
    find_index,
    is_image,
    list_data_files,
    list_images,
    match_paths,
    natural_sort_key,
    read_folder,
)
from cutline.data.jsonl import read_jsonl
from cutline.data.parquet import read_parquet
from cutline.data.row import DEFAULT_COLUMNS, IMAGE_KEYS, reject_columns
from cutline.data.sample import Sample
from cutline.data.shards import is_shards, read_shards
from cutline.data.table import TABLE_SUFFIXES, read_table
from cutline.data.text import parse_json, read_text, require_regular_file
from cutline.errors import DataError
from cutline.files import is_device
from cutline.messages import format_text

FORMATS = (
    "JSON Lines (.jsonl), COCO, BLIP, Karpathy or NoCaps captions (.json), tables (.csv, .tsv, "
    ".parquet), tar shards, or a folder of images with .txt files beside them"
)
_SPLIT_NAMES = {
    "train": ("train",),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test",),
}
_MAX_ROW_LENGTH = 100_000
"""in characters; a longer first line is an entire COCO file, which takes long to parse twice"""


def open_data(source: DataSource | str | Path) -> list[Sample]:
    """Read a dataset of any of these formats.

    - JSON Lines.
    - CSV, TSV and Parquet tables, among them those of Flickr8k and Flickr30k.
    - COCO, BLIP, Karpathy or NoCaps JSON.
    - A folder of images, each with a text file beside it.
    - A folder with a metadata.jsonl, .csv or .parquet, or with one in each of train/, validation/
      and test/, or with a captions.jsonl.
    - A folder of Parquet files.
    - Tar shards: a file, a folder of them, or a pattern such as `shards/{000..009}.tar`.

    Images are not opened, so they may be missing.

    Args:
        source: Path of the dataset, or a `DataSource`, which adds the folder that image paths are
            relative to, column names, and a split: one of Karpathy's dataset_coco.json, a
            subfolder of that name, or the Parquet files whose names begin with it.

    Returns:
        The samples, in the order of the data.

    Raises:
        DataError: The data cannot be read or contains no images; the message names the file
            and, if possible, the line.
    """
    source = source if isinstance(source, DataSource) else DataSource(str(source))
    if not source.path:
        raise DataError("no data given; name a data file or a folder of images")
    # Not Path.expanduser(), because Path("") would be the current folder.
    source = replace(
        source,
        path=os.path.expanduser(source.path),  # noqa: PTH111
        image_root=os.path.expanduser(source.image_root),  # noqa: PTH111
    )
    samples = _read(source)
    if not samples:
        raise no_captions_error(source.path, f"contains no images; give {FORMATS}")
    return samples


def no_captions_error(path: str, message: str) -> DataError:
    """Return the error for a dataset without images or captions.

    Args:
        path: The dataset.
        message: What is missing and what to do, unless it is a folder with lists of captions.
    """
    lists = list_data_files(Path(os.path.expanduser(path)))  # noqa: PTH111
    if lists:
        names = " or ".join(map(str, lists[:3]))
        message = f"a folder of images and of lists of their captions; give {names}"
    return DataError(f"{path}: {message}")


def open_related_data(source: DataSource) -> list[Sample]:
    """Read a dataset whose columns may have the default names instead of those in `source`.

    This is for data that accompanies another dataset, whose columns are named in `source`. It may
    also have only the image column of that name, or only the caption column.

    Raises:
        DataError: The data can be read neither with the columns of `source` nor with the defaults.
    """
    columns = source.columns
    try:
        return open_data(source)
    except DataError as error:
        for fewer in (
            Columns(columns.image_column),
            Columns(caption_column=columns.caption_column),
            DEFAULT_COLUMNS,
        ):
            if set(fewer.names) < set(columns.names):
                with suppress(DataError):
                    return open_data(replace(source, columns=fewer))
        raise error from None


def _read(source: DataSource) -> list[Sample]:
    path = Path(source.path)
    is_folder = os.path.isdir(path)  # noqa: PTH112  # Path.is_dir() raises if the name is too long
    if is_folder and source.split:
        return _read_split(source)
    if is_shards(source.path):
        reject_split(source.split, source.path)
        reject_columns(source.columns, source.path)
        return read_shards(source.path)
    if is_folder:
        return _read_folder(source)
    if not os.path.exists(path):  # noqa: PTH110
        return _read_parquet_pattern(source)
    require_regular_file(path)
    if path.suffix.lower() == ".json":
        return _read_json(source)
    reject_split(source.split, path)
    return _read_table(path, source)


def _read_table(path: Path, source: DataSource) -> list[Sample]:
    """Read a file of rows, whose suffix determines the format."""
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        return read_jsonl(path, source.image_root, source.columns)
    if suffix in TABLE_SUFFIXES:
        return read_table(path, source.image_root, source.columns)
    if suffix == ".parquet":
        return read_parquet([path], source.image_root, source.columns)
    raise DataError(f"{path}: not a supported data format; give {FORMATS}")


def _read_folder(source: DataSource) -> list[Sample]:
    path = Path(source.path)
    if index := find_index(path):
        return _read_table(index, source)
    folders = [path / name for names in _SPLIT_NAMES.values() for name in names]
    indexes = [index for folder in folders if (index := find_index(folder))]
    if indexes:  # ids are unique only within each of them
        return [
            replace(sample, id=f"{index.parent.name}/{sample.id}")
            for index in indexes
            for sample in _read_table(index, source)
        ]
    samples = read_folder(path)
    if not samples and (tables := _list_parquet_files(path)):
        return read_parquet(tables, source.image_root, source.columns)
    reject_columns(source.columns, path)
    return samples


def _read_split(source: DataSource) -> list[Sample]:
    """Read the subfolder named after the split, or the Parquet files whose names begin with it."""
    path, split = Path(source.path), source.split
    aliases = next((names for names in _SPLIT_NAMES.values() if split in names), (split,))
    for name in (split, *aliases):
        if (path / name).is_dir() and not find_index(path):
            return _read(replace(source, path=str(path / name), split=""))
        prefixes = (f"{name}-", f"{name}.")
        tables = [file for file in _list_parquet_files(path) if file.name.startswith(prefixes)]
        if tables:
            return read_parquet(tables, source.image_root, source.columns)
    reject_split(split, path)
    return []


def _list_parquet_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("**/*.parquet"), key=lambda file: natural_sort_key(str(file)))


def _read_parquet_pattern(source: DataSource) -> list[Sample]:
    """Read the Parquet files that match a path with wildcards."""
    files = match_paths(source.path) if source.path.endswith(".parquet") else []
    if not files:
        raise DataError(f"{format_text(source.path)}: no such file or folder; check the path")
    reject_split(source.split, source.path)
    paths = [Path(file) for file in sorted(files, key=natural_sort_key)]
    return read_parquet(paths, source.image_root, source.columns)


def _read_json(source: DataSource) -> list[Sample]:
    path = Path(source.path)
    text = read_text(path)
    if _is_jsonl(text, source.columns.image_column):
        reject_split(source.split, path)
        return read_jsonl(path, source.image_root, source.columns)
    content = parse_json(text, str(path))
    return read_coco(content, path, source.image_root, source.split, source.columns)


def _is_jsonl(text: str, image_column: str) -> bool:
    """Return whether a .json file is JSON Lines: its first line alone is the row of an image."""
    line = text.lstrip().partition("\n")[0]
    try:
        row = json.loads(line) if len(line) < _MAX_ROW_LENGTH else None
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and any(key in row for key in (*IMAGE_KEYS, image_column))


def find_images(paths: Sequence[str]) -> list[str]:
    """Return the images that match files, folders and patterns such as `photos/**/*.jpg`.

    A file may have any name; folders and patterns match only files with an image extension. Each
    image is returned once; those of a folder or pattern are in natural order.

    Raises:
        DataError: One of the paths matches no image.
    """
    images: dict[str, str] = {}  # by normalized path
    for path in paths:
        # Not Path.expanduser(), which would drop "./".
        for image in _find_images_at(os.path.expanduser(path)):  # noqa: PTH111
            images.setdefault(os.path.normpath(image), image)
    return list(images.values())


def _find_images_at(path: str) -> list[str]:
    if os.path.isfile(path):  # noqa: PTH113  # Path.is_file() raises if the name is too long
        return [path]
    if "://" in path:
        raise DataError(f"{format_text(path)}: a URL; download the image and give the file")
    if is_device(path):
        raise DataError(f"{path}: a pipe or a device, not an image file; give - to read stdin")
    if os.path.isdir(path):  # noqa: PTH112
        images = list_images(Path(path))
    else:
        matches = [Path(match) for match in match_paths(path)]
        images = [str(match) for match in matches if is_image(str(match)) and match.is_file()]
        images += [image for match in matches if match.is_dir() for image in list_images(match)]
    if not images:
        raise DataError(
            f"{format_text(path)}: no images found; give image files, folders that contain images, "
            "or patterns such as 'photos/*.jpg'"
        )
    return sorted(set(images), key=natural_sort_key)
