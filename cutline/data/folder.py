"""Folders of images with their captions in text files beside them."""

import glob
import itertools
import logging
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from cutline.data.sample import Sample
from cutline.data.text import read_text, split_lines
from cutline.errors import DataError
from cutline.files import is_device

logger = logging.getLogger(__name__)

_EXTENSIONS = (
    "jpg jpeg jpe jfif png apng gif webp bmp dib tif tiff avif avifs heic heif jp2 j2k jpx ppm pgm "
    "pbm pnm tga qoi"
)
IMAGE_EXTENSIONS = frozenset(_EXTENSIONS.split())
"""extensions of image files; includes some that Pillow may be unable to open, so that those files
are reported as unreadable, not ignored"""
SIDECAR_EXTENSIONS = ("txt", "caption")
"""extensions of the text file beside an image, `.caption` as in kohya's scripts; the first that
exists is used"""
MAX_FOLDERS = 1_000_000
"""folders that a pattern may lead to; each link between folders can double their number"""

_ANY_DEPTH = re.compile(r"(?:^|(?<=/))\*\*(?:/+(?:\*\*(?:/+|$))*|$)")
_LIST_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
_INDEX_NAMES = ("metadata.jsonl", "metadata.csv", "metadata.parquet", "captions.jsonl")


def find_index(folder: Path) -> Path | None:
    """Return the file that lists a folder's images, as in Hugging Face's imagefolder, if any."""
    return next((folder / name for name in _INDEX_NAMES if (folder / name).is_file()), None)


def list_data_files(folder: Path) -> list[Path]:
    """Return the files in a folder that may list images with their captions, by name."""
    files = (file for file in folder.glob("*") if file.suffix.lower() in _LIST_SUFFIXES)
    return sorted(filter(os.path.isfile, files), key=lambda file: natural_sort_key(str(file)))


def read_folder(folder: Path) -> list[Sample]:
    """Read the images in a folder and its subfolders, with the captions in their sidecar files.

    The sidecar of `a.jpg` is the first that exists of `a.jpg.txt`, `a.txt`, `a.jpg.caption` and
    `a.caption`, with one caption per line; images without one have no captions. The id of an image
    is its path within the folder, with slashes.

    Returns:
        The samples in natural order of their paths.

    Raises:
        DataError: A folder or a sidecar cannot be read.
    """
    return [
        Sample(path, _read_sidecar(Path(path)), Path(path).relative_to(folder).as_posix())
        for path in list_images(folder)
    ]


def _read_sidecar(image: Path) -> tuple[str, ...]:
    for extension in SIDECAR_EXTENSIONS:
        for name in (f"{image.name}.{extension}", f"{image.stem}.{extension}"):
            if os.path.isfile(sidecar := image.with_name(name)):  # noqa: PTH113  # faster
                return split_lines(read_text(sidecar))
    return ()


def list_images(folder: Path) -> list[str]:
    """Return the image files in a folder and its subfolders in natural order, without hidden ones.

    Raises:
        DataError: A folder cannot be read.
    """
    images = []
    for root, folders, names in os.walk(folder, onerror=_raise_data_error):
        folders[:] = [name for name in folders if not name.startswith(".")]
        images += [os.path.join(root, name) for name in names if is_image(name)]  # noqa: PTH118
    return sorted(filter(_is_openable, images), key=natural_sort_key)


def _is_openable(path: str) -> bool:
    """Return whether an image is a file, or missing, which opening it reports."""
    if device := is_device(path):
        logger.warning("%s: skipped, because it is not a regular file", path)
    return not device


def _raise_data_error(error: OSError) -> None:
    raise DataError(
        f"{error.filename}: the folder cannot be read ({error.strerror}); check its permissions"
    )


def is_image(name: str) -> bool:
    """Return whether a file has the extension of an image and is not hidden."""
    path = Path(name)
    extension = path.suffix.lower().removeprefix(".")
    return extension in IMAGE_EXTENSIONS and not path.name.startswith(".")


def natural_sort_key(path: str) -> tuple[object, ...]:
    """Return a sort key that puts 2.jpg before 10.jpg and keeps the files of a folder together."""
    # Every second part of the split is a number, of no more digits than int() takes.
    parts = [
        [
            int(text) if i % 2 else text
            for i, text in enumerate(re.split(r"(\d{1,1000})", part.casefold()))
        ]
        for part in Path(path).parts
    ]
    return (parts, path)


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
