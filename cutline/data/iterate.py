"""Read datasets of any format and size one sample after the other, and count them.

Memory does not grow with the number of samples.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO

from cutline.config import DataSource
from cutline.data.find import find_split, list_parquet_files, match_parquet_files, reject_split
from cutline.data.folder import make_file_sample
from cutline.data.formats import is_jsonl, iter_file
from cutline.data.listed import ListedColumns
from cutline.data.open import expand_source, no_images_error
from cutline.data.parquet_columns import count_rows
from cutline.data.row import UrlHandling, reject_columns
from cutline.data.sample import Sample, image_path, is_url, merge_adjacent
from cutline.data.shard_stream import iter_groups
from cutline.data.shards import is_shards, list_local_shards, list_tar_files
from cutline.data.tar import iter_tar, join_members
from cutline.data.text import count_lines
from cutline.data.tolerant import Tolerant, attempt, read_files
from cutline.data.walk import IndexFile, scan_images, walk_images
from cutline.errors import CutlineError, DataError

_GZIP_MAGIC = b"\x1f\x8b"


def iter_data(
    source: DataSource | str | Path,
    *,
    recursive: bool = True,
    allow_urls: bool = False,
    read_texts: bool = True,
) -> Tolerant[Sample]:
    """Yield the samples of a dataset of any format that `open_data` reads, as they are read.

    There are these differences from `open_data`:

    - A folder means all images below it. Lists in it, such as metadata.jsonl, add captions and
      other columns to the images that they name, and no images. Without images, the folder's tar
      shards or Parquet files are read.
    - Compressed tar shards are read, too. The members of a key must follow each other in them, and
      the samples have the bytes of their images.
    - Rows of the same image are merged only if they follow each other.

    Args:
        source: As `open_data` takes it.
        recursive: Whether a folder includes its subfolders.
        allow_urls: Whether images may be addresses, which are yielded as `sample.image`.
        read_texts: Whether the captions beside the images of a folder are read.

    Yields:
        The samples in the order of the data, and in between a DataError for each row, caption file,
        shard or part of a table that cannot be read, which names the file and, if possible, the
        line.

    Raises:
        DataError: Nothing of the data can be read, or it contains no images.
        ConfigError: A package that the format needs is not installed.
    """
    source = expand_source(source)
    is_empty = True
    urls: UrlHandling = "allow" if allow_urls else "reject"
    for item in merge_adjacent(_iter_source(source, recursive, urls, read_texts)):
        is_empty = False
        yield item
    if is_empty:
        raise no_images_error(source.path)


def iter_list(lines: Iterable[str | DataError], root: str = "") -> Tolerant[Sample]:
    """Yield the images that a list names, one path or address on each line.

    Args:
        lines: The lines; blank ones, and spaces around names, are ignored. Errors among them are
            passed on.
        root: Folder that paths are relative to (default: the current folder).

    Yields:
        Samples without captions, whose ids are the names as written.
    """
    for line in lines:
        if isinstance(line, DataError):
            yield line
        elif name := line.strip():
            yield Sample(image_path(name, root), (), name, url=name if is_url(name) else "")


def _iter_source(
    source: DataSource, recursive: bool, urls: UrlHandling, read_texts: bool
) -> Tolerant[Sample]:
    path = Path(source.path)
    if os.path.isdir(path):  # noqa: PTH112  # Path.is_dir() raises if the name is too long
        return _iter_folder(source, recursive, urls, read_texts)
    if is_shards(source.path):
        reject_split(source.split, source.path)
        reject_columns(source.columns, source.path)
        return read_files(list_local_shards(source.path), _iter_shard)
    if not os.path.exists(path):  # noqa: PTH110
        return _iter_tables(match_parquet_files(source), source, urls)
    return iter_file(path, source, urls)


def _iter_tables(paths: list[Path], source: DataSource, urls: UrlHandling) -> Tolerant[Sample]:
    source = replace(source, split="")
    return read_files(map(str, paths), lambda path: iter_file(Path(path), source, urls))


def _iter_shard(shard: str) -> Tolerant[Sample]:
    return iter_streamed_shard(shard) if _is_compressed(shard) else iter_tar(shard)


def iter_streamed_shard(
    shard: str, open_shard: Callable[[str], IO[bytes]] | None = None
) -> Tolerant[Sample]:
    """Yield the samples of a shard that is read from front to back, with the bytes of their images.

    Args:
        shard: Path or address of the shard, which may be compressed.
        open_shard: Opens it (default: as training does, but no commands).

    Raises:
        DataError: It cannot be read, or not to its end.
    """
    for _, key, members in iter_groups(shard, open_shard=open_shard):
        sample = attempt(join_members, shard, key, members)
        if sample is not None:
            yield sample


def _is_compressed(path: str) -> bool:
    with suppress(OSError), Path(path).open("rb") as file:
        return file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    return False


def _iter_folder(
    source: DataSource, recursive: bool, urls: UrlHandling, read_texts: bool
) -> Tolerant[Sample]:
    folder = Path(source.path)
    if source.split:
        split = find_split(source)
        if isinstance(split, DataSource):
            return _iter_folder(split, recursive, urls, read_texts)
        return _iter_tables(split, source, urls)
    if not any(scan_images(folder, recursive=recursive)):
        if shards := list_tar_files(source.path):
            reject_columns(source.columns, source.path)
            return read_files(shards, _iter_shard)
        if tables := list_parquet_files(folder, recursive=recursive):
            return _iter_tables(tables, source, urls)
    return _iter_images(folder, source, recursive, read_texts)


def _iter_images(
    folder: Path, source: DataSource, recursive: bool, read_texts: bool
) -> Tolerant[Sample]:
    """Yield the images in a folder, with the columns that lists add."""
    if source.columns.names:
        found = walk_images(folder, recursive=recursive)
        if not any(isinstance(file, IndexFile) for file in found):
            reject_columns(source.columns, folder)
    with closing(ListedColumns()) as columns:
        for file in walk_images(folder, recursive=recursive):
            if isinstance(file, DataError):
                yield file
            elif isinstance(file, IndexFile):
                yield from _load_list(file.path, source, columns)
            else:
                file = file if read_texts else replace(file, sidecar="")
                sample = attempt(make_file_sample, file, folder)
                if isinstance(sample, DataError):  # the image may be captioned nevertheless
                    yield sample
                    sample = make_file_sample(replace(file, sidecar=""), folder)
                yield columns.add_to(sample)


def _load_list(path: str, source: DataSource, columns: ListedColumns) -> Iterator[DataError]:
    """Add the rows of a list to `columns`, and yield what of it cannot be read.

    Rows with addresses are allowed, but name no image of a folder.

    Raises:
        DataError: Columns are named, and the list lacks one.
    """
    try:
        yield from columns.load(path, iter_file(Path(path), source, "allow"))
    except DataError as error:
        if source.columns.names:
            raise
        yield error


def count_data(source: DataSource | str | Path, *, recursive: bool = True) -> int | None:
    """Return about how many images a dataset or list has, or None if counting them takes long.

    It is an upper bound for files with a row on each line. Data that cannot be read has no count.
    """
    with suppress(CutlineError, OSError):
        return _count_source(expand_source(source), recursive)
    return None


def _count_source(source: DataSource, recursive: bool) -> int | None:
    path = Path(source.path)
    if path.is_dir():
        return _count_folder(source, recursive)
    if is_shards(source.path):
        return None
    if not path.exists():
        return sum(map(count_rows, match_parquet_files(source)))
    if path.suffix.lower() == ".parquet":
        return count_rows(path)
    is_json = path.suffix.lower() == ".json" and not is_jsonl(path, source.columns.image_column)
    return None if is_json else count_lines(path)


def _count_folder(source: DataSource, recursive: bool) -> int | None:
    if source.split:
        split = find_split(source)
        if isinstance(split, DataSource):
            return _count_folder(split, recursive)
        return sum(map(count_rows, split))
    folder = Path(source.path)
    if count := sum(1 for _ in scan_images(folder, recursive=recursive)):
        return count
    if list_tar_files(source.path):
        return None
    return sum(map(count_rows, list_parquet_files(folder, recursive=recursive)))
