"""Folders of images with their captions in text files beside them."""

import glob
import itertools
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from cutline.data.names import INDEX_NAMES, natural_sort_key
from cutline.data.sample import Sample
from cutline.data.text import read_text, split_lines
from cutline.data.tolerant import Tolerant, attempt
from cutline.data.walk import ImageFile, walk_images
from cutline.errors import DataError

MAX_FOLDERS = 1_000_000
"""folders that a pattern may lead to; each link between folders can double their number"""

_ANY_DEPTH = re.compile(r"(?:^|(?<=/))\*\*(?:/+(?:\*\*(?:/+|$))*|$)")
_LIST_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")


def find_index(folder: Path) -> Path | None:
    """Return the file that lists a folder's images, as in Hugging Face's imagefolder, if any."""
    return next((folder / name for name in INDEX_NAMES if (folder / name).is_file()), None)


def list_data_files(folder: Path) -> list[Path]:
    """Return the files in a folder that may list images with their captions, by name."""
    files = (file for file in folder.glob("*") if file.suffix.lower() in _LIST_SUFFIXES)
    return sorted(filter(os.path.isfile, files), key=lambda file: natural_sort_key(str(file)))


def iter_folder(folder: Path) -> Tolerant[Sample]:
    """Yield the images in a folder and its subfolders, with the captions in their sidecar files.

    The sidecar of `a.jpg` is the first that exists of `a.jpg.txt`, `a.txt`, `a.jpg.caption` and
    `a.caption`, with one caption per line; images without one have no captions. The id of an image
    is its path within the folder, with slashes.

    Yields:
        The samples in natural order of their paths, and the errors of folders and sidecars that
        cannot be read.

    Raises:
        DataError: The folder itself cannot be read.
    """
    for found in walk_images(folder):
        if isinstance(found, DataError):
            yield found
        elif isinstance(found, ImageFile):
            yield attempt(make_file_sample, found, folder)


def make_file_sample(image: ImageFile, folder: Path) -> Sample:
    """Return the sample of an image in a folder.

    Raises:
        DataError: Its sidecar cannot be read.
    """
    captions = split_lines(read_text(Path(image.sidecar))) if image.sidecar else ()
    name = image.path.removeprefix(os.path.join(folder, ""))  # noqa: PTH118  # faster than Path
    return Sample(image.path, captions, name.replace(os.sep, "/"))


def match_paths(pattern: str) -> list[str]:
    """Return the files and folders that match a pattern, as `glob.glob` with `recursive` does.

    `**` follows links to folders, too, but not to one that contains the link, where `glob` would go
    round in circles.

    Raises:
        DataError: There are too many folders.
    """
    stars = _ANY_DEPTH.search(pattern := pattern.replace(os.sep, "/"))
    if not stars:
        # Not Path.glob(), which does not take absolute patterns.
        return glob.glob(pattern)  # noqa: PTH207
    head, tail = pattern[: stars.start()], pattern[stars.end() :]
    roots = glob.glob(head) if head else [""]  # noqa: PTH207
    folders = (folder for root in roots for folder in _walk_folders(root))
    matches = (match_paths(glob.escape(folder) + (tail or "*")) for folder in folders)
    return list(dict.fromkeys(itertools.chain.from_iterable(matches)))


def _walk_folders(root: str) -> Iterator[str]:
    """Yield a folder and those below it, through links, each with a slash at its end."""
    pending: list[tuple[str, tuple[str, ...]]] = [(root, ())]
    count = 0
    while pending:
        folder, parents = pending.pop()
        real_path = os.path.realpath(folder)
        if real_path in parents:
            continue
        yield folder
        if (count := count + 1) > MAX_FOLDERS:
            raise DataError(f"{root}: more than {MAX_FOLDERS:,} folders; remove links between them")
        names: list[str] = []
        with suppress(OSError), os.scandir(folder or ".") as entries:
            names = [entry.name for entry in entries if entry.is_dir() and entry.name[0] != "."]
        pending += [(f"{folder}{name}/", (*parents, real_path)) for name in names]
