"""Folders of images with their captions in text files beside them."""

import os
import re
from pathlib import Path

from cutline.data.sample import Sample
from cutline.data.text import read_text, split_lines
from cutline.errors import DataError

_EXTENSIONS = (
    "jpg jpeg jpe jfif png apng gif webp bmp dib tif tiff avif avifs heic heif jp2 j2k jpx ppm pgm "
    "pbm pnm tga qoi"
)
IMAGE_EXTENSIONS = frozenset(_EXTENSIONS.split())
"""extensions of image files; includes some that Pillow may be unable to open, so that those files
are reported as unreadable, not ignored"""

_INDEX_NAMES = ("metadata.jsonl", "metadata.csv", "metadata.parquet", "captions.jsonl")


def find_index(folder: Path) -> Path | None:
    """Return the file that lists a folder's images, as in Hugging Face's imagefolder, if any."""
    return next((folder / name for name in _INDEX_NAMES if (folder / name).is_file()), None)


def read_folder(folder: Path) -> list[Sample]:
    """Read the images in a folder and its subfolders, with the captions in their sidecar files.

    The sidecar of `a.jpg` is `a.jpg.txt` or else `a.txt`, with one caption per line; images without
    one have no captions. The id of an image is its path within the folder, with slashes.

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
    for sidecar in (image.with_name(image.name + ".txt"), image.with_suffix(".txt")):
        if sidecar.is_file():
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
    return sorted(images, key=natural_sort_key)


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
