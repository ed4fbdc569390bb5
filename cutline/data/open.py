"""Open datasets of any format, and find images, by path."""

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from cutline.config import Columns, DataSource
from cutline.data.find import (
    SPLIT_NAMES,
    find_index,
    find_split,
    list_data_files,
    list_parquet_files,
    match_parquet_files,
    reject_split,
)
from cutline.data.folder import iter_folder
from cutline.data.formats import FORMATS, iter_file
from cutline.data.parquet import read_parquet
from cutline.data.row import DEFAULT_COLUMNS, reject_columns
from cutline.data.sample import Sample, merge_rows
from cutline.data.shards import is_shards, list_local_shards
from cutline.data.tar import iter_tar
from cutline.data.text import require_regular_file
from cutline.data.tolerant import raise_errors
from cutline.errors import DataError


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
    return _open_source(source)


def open_references(source: DataSource | str | Path) -> list[Sample]:
    """Read the references of captions that exist: a dataset whose images are not needed.

    It has any format that `open_data` reads, and the images of a COCO file may have an id but no
    file name, as in BLIP's coco_karpathy_val_gt.json.

    Raises:
        DataError: As for `open_data`.
    """
    return _open_source(source, require_files=False)


def _open_source(source: DataSource | str | Path, require_files: bool = True) -> list[Sample]:
    source = expand_source(source)
    samples = _read(source, require_files)
    if not samples:
        raise no_images_error(source.path)
    return samples


def no_images_error(path: str) -> DataError:
    """Return the error for a dataset without images."""
    return no_captions_error(path, f"contains no images; give {FORMATS}")


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


def expand_source(source: DataSource | str | Path) -> DataSource:
    """Return a source whose paths may begin with `~`, with those of the home folder.

    Raises:
        DataError: It has no path.
    """
    source = source if isinstance(source, DataSource) else DataSource(str(source))
    if not source.path:
        raise DataError("no data given; name a data file or a folder of images")
    # Not Path.expanduser(), because Path("") would be the current folder.
    return replace(
        source,
        path=os.path.expanduser(source.path),  # noqa: PTH111
        image_root=os.path.expanduser(source.image_root),  # noqa: PTH111
    )


def _read(source: DataSource, require_files: bool = True) -> list[Sample]:
    path = Path(source.path)
    is_folder = os.path.isdir(path)  # noqa: PTH112  # Path.is_dir() raises if the name is too long
    if is_folder and source.split:
        split = find_split(source)
        return _read(split) if isinstance(split, DataSource) else read_parquet(split, source)
    if is_shards(source.path):
        reject_split(source.split, source.path)
        reject_columns(source.columns, source.path)
        shards = list_local_shards(source.path)
        return [sample for shard in shards for sample in raise_errors(iter_tar(shard))]
    if is_folder:
        return _read_folder(source)
    if not os.path.exists(path):  # noqa: PTH110
        return read_parquet(match_parquet_files(source), source)
    return _read_file(path, source, require_files)


def _read_file(path: Path, source: DataSource, require_files: bool = True) -> list[Sample]:
    if path.suffix.lower() != ".parquet":
        return merge_rows(raise_errors(iter_file(path, source, require_files=require_files)))
    require_regular_file(path)
    reject_split(source.split, path)
    return read_parquet([path], source)


def _read_folder(source: DataSource) -> list[Sample]:
    path = Path(source.path)
    if index := find_index(path):
        return _read_file(index, source)
    folders = [path / name for names in SPLIT_NAMES.values() for name in names]
    indexes = [index for folder in folders if (index := find_index(folder))]
    if indexes:  # ids are unique only within each of them
        return [
            replace(sample, id=f"{index.parent.name}/{sample.id}")
            for index in indexes
            for sample in _read_file(index, source)
        ]
    samples = list(raise_errors(iter_folder(path)))
    if not samples and (tables := list_parquet_files(path)):
        return read_parquet(tables, source)
    reject_columns(source.columns, path)
    return samples
