"""Data sets and images by their paths, whatever form they have."""

import glob
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from cutline.config import Columns
from cutline.data.coco import read_coco, reject_split
from cutline.data.folder import find_index, is_image, list_images, natural_order, read_folder
from cutline.data.jsonl import read_jsonl
from cutline.data.parquet import read_parquet
from cutline.data.row import DEFAULT_COLUMNS, IMAGE_KEYS, reject_columns
from cutline.data.sample import Sample, parse_json, read_text
from cutline.data.shards import is_shards, read_shards
from cutline.data.table import TABLE_SUFFIXES, read_table
from cutline.errors import DataError

FORMATS = (
    "JSON Lines (.jsonl), COCO, BLIP, Karpathy or NoCaps captions (.json), tables (.csv, .tsv, .parquet), tar shards, "
    "or a folder of images with .txt files beside them"
)
_SPLITS = {
    "train": ("train",),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test",),
}
_LONGEST_ROW = (
    100_000  # characters; a longer first line is a whole COCO file, and slow to parse twice
)


def open_data(
    path: str | Path, image_root: str = "", split: str = "", columns: Columns = DEFAULT_COLUMNS
) -> list[Sample]:
    """Read a data set, whatever its form:

    - JSON Lines; CSV, TSV and Parquet tables, Flickr8k's and Flickr30k's among them; `columns` is for these;
    - COCO, BLIP, Karpathy or NoCaps JSON;
    - a folder with a metadata.jsonl, .csv or .parquet (or with one in each of train/, validation/ and test/) or captions.jsonl, or with a
      text file beside each image, or of Parquet files;
    - tar shards: a file, a folder of them, or a pattern such as `shards/{000..009}.tar`.

    Image paths are relative to `image_root`, or else to the folder of the file that names them. `split` is one of Karpathy's
    dataset_coco.json, a subfolder of that name, or the Parquet files whose names begin with it. Images are not looked for. Raises
    DataError naming the file, and the line where there is one.
    """
    if path == "":
        raise DataError("no data are given; name a data file or a folder of images")
    path, image_root = (
        os.path.expanduser(path),
        os.path.expanduser(image_root),
    )  # Path would make "" the current folder
    samples = _read(path, image_root, split, columns)
    if not samples:
        raise DataError(f"{path}: holds no images; data are {FORMATS}")
    return samples


def open_captions(
    path: str | Path, image_root: str = "", split: str = "", columns: Columns = DEFAULT_COLUMNS
) -> list[Sample]:
    """As `open_data`, for data that accompany those whose `columns` are named: called so here too, or else as usual. Raises DataError."""
    try:
        return open_data(path, image_root, split, columns)
    except DataError as error:
        if columns.names:
            with suppress(DataError):
                return open_data(path, image_root, split)
        raise error from None


def _read(name: str, image_root: str, split: str, columns: Columns) -> list[Sample]:
    path = Path(name)
    if path.is_dir() and split:
        return _read_split(path, image_root, split, columns)
    if is_shards(name):
        return _read_shards(name, split, columns)
    if path.is_dir():
        return _read_folder(path, image_root, columns)
    if not path.exists():
        if name.endswith(".parquet") and (
            parts := glob.glob(name, recursive=True)
        ):  # Path.glob cannot take absolute patterns
            reject_split(split, path)
            return read_parquet(
                [Path(part) for part in sorted(parts, key=natural_order)], image_root, columns
            )
        raise DataError(f"{path}: no such file or folder; check the path")
    if path.suffix.lower() == ".json":
        return _read_json(path, image_root, split, columns)
    reject_split(split, path)
    return _read_rows(path, image_root, columns)


def _read_shards(name: str, split: str, columns: Columns) -> list[Sample]:
    reject_split(split, name)
    reject_columns(columns, name)
    return read_shards(name)


def _read_rows(path: Path, image_root: str, columns: Columns) -> list[Sample]:
    """The rows of a table, whatever kind of file it is."""
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        return read_jsonl(path, image_root, columns)
    if suffix in TABLE_SUFFIXES:
        return read_table(path, image_root, columns)
    if suffix == ".parquet":
        return read_parquet([path], image_root, columns)
    raise DataError(f"{path}: not a known kind of data; give {FORMATS}")


def _read_folder(path: Path, image_root: str, columns: Columns) -> list[Sample]:
    if index := find_index(path):
        return _read_rows(index, image_root, columns)
    parts = [path / name for names in _SPLITS.values() for name in names]
    indexes = [index for part in parts if (index := find_index(part))]
    if indexes:  # names begin anew in each of them
        every = [
            (index.parent.name, sample)
            for index in indexes
            for sample in _read_rows(index, image_root, columns)
        ]
        return [replace(sample, id=f"{part}/{sample.id}") for part, sample in every]
    samples = read_folder(path)
    if not samples and (tables := _list_tables(path)):
        return read_parquet(tables, image_root, columns)
    reject_columns(columns, path)
    return samples


def _read_split(path: Path, image_root: str, split: str, columns: Columns) -> list[Sample]:
    """A subfolder called as the split, or the Parquet files whose names begin with it. Raises DataError where there are neither."""
    names = next((names for names in _SPLITS.values() if split in names), (split,))
    for name in (split, *names):
        if (path / name).is_dir() and not find_index(path):
            return _read(str(path / name), image_root, "", columns)
        if tables := [
            table for table in _list_tables(path) if table.name.startswith((f"{name}-", f"{name}."))
        ]:
            return read_parquet(tables, image_root, columns)
    reject_split(split, path)
    return []


def _list_tables(folder: Path) -> list[Path]:
    return sorted(folder.glob("**/*.parquet"), key=lambda table: natural_order(str(table)))


def _read_json(path: Path, image_root: str, split: str, columns: Columns) -> list[Sample]:
    text = read_text(path)
    if _is_lines(text, columns):
        reject_split(split, path)
        return read_jsonl(path, image_root, columns)
    return read_coco(parse_json(text, str(path)), path, image_root, split, columns)


def _is_lines(text: str, columns: Columns) -> bool:
    """Whether a .json file is JSON Lines: its first line alone is the row of an image."""
    line = text.lstrip().partition("\n")[0]
    try:
        row = json.loads(line) if len(line) < _LONGEST_ROW else None
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and any(key in row for key in (*IMAGE_KEYS, columns.image_column))


def find_images(paths: Sequence[str]) -> list[str]:
    """The images that `paths` mean, each once: files as they are, folders and patterns such as `photos/**/*.jpg` in natural order.

    A file that is named is taken whatever it is called; in folders and patterns only images are. Raises DataError for a path that
    means no image.
    """
    found: dict[str, str] = {}
    for path in paths:
        for image in _find(os.path.expanduser(path)):  # a Path would lose "./"
            found.setdefault(os.path.normpath(image), image)
    return list(found.values())


def _find(path: str) -> list[str]:
    if Path(path).is_file():
        return [path]
    if path and Path(path).is_dir():
        images = list_images(Path(path))
    else:
        hits = [
            Path(hit) for hit in glob.glob(path, recursive=True)
        ]  # Path.glob cannot take absolute patterns
        images = [str(hit) for hit in hits if is_image(str(hit)) and hit.is_file()]
        images += [image for hit in hits if hit.is_dir() for image in list_images(hit)]
    if not images:
        raise DataError(
            f"{path}: no image there; give image files, folders that hold some, or patterns such as 'photos/*.jpg'"
        )
    return sorted(set(images), key=natural_order)
