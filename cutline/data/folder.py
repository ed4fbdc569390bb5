"""Folders of images, each with its captions in a text file beside it."""

import os
import re
from pathlib import Path

from cutline.data.sample import Sample, read_text
from cutline.errors import DataError

_SUFFIXES = "jpg jpeg jpe jfif png apng gif webp bmp dib tif tiff avif avifs heic heif jp2 j2k jpx ppm pgm pbm pnm tga qoi"
IMAGE_SUFFIXES = frozenset(f".{suffix}" for suffix in _SUFFIXES.split())
"""What images are called; those that Pillow cannot open are listed as unread, not passed over."""


_INDEXES = ("metadata.jsonl", "metadata.csv", "metadata.parquet", "captions.jsonl")


def find_index(folder: Path) -> Path | None:
    """The file that lists a folder's images, as in Hugging Face's imagefolder, if there is one."""
    return next((folder / name for name in _INDEXES if (folder / name).is_file()), None)


def read_folder(folder: Path) -> list[Sample]:
    """Read the images in `folder` and its subfolders, in natural order, with the captions of `a.txt` for `a.jpg`, one per line.

    Where `a.jpg.txt` exists, it goes before `a.txt`. Images without a text file are samples without captions. An image's id is its
    path within the folder, with slashes. Raises DataError.
    """
    return [
        Sample(path, _captions(Path(path)), Path(path).relative_to(folder).as_posix())
        for path in list_images(folder)
    ]


def _captions(picture: Path) -> tuple[str, ...]:
    for sidecar in (picture.with_name(picture.name + ".txt"), picture.with_suffix(".txt")):
        if sidecar.is_file():
            return tuple(line.strip() for line in read_text(sidecar).split("\n") if line.strip())
    return ()


def list_images(folder: Path) -> list[str]:
    """The images in `folder` and its subfolders, known by their suffix, in natural order; hidden ones are passed over."""
    found = []
    for where, folders, names in os.walk(folder, onerror=_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            os.path.join(where, name) for name in names if is_image(name)
        ]  # a Path each would take most of the time
    return sorted(found, key=natural_order)


def _unreadable(error: OSError) -> None:
    raise DataError(
        f"{error.filename}: the folder cannot be read ({error.strerror}); check its permissions"
    )


def is_image(name: str) -> bool:
    """Whether a file is called like an image, and is not hidden."""
    path = Path(name)
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def natural_order(path: str) -> tuple[object, ...]:
    """Sort key that puts 2.jpg before 10.jpg, and a folder's content together."""
    parts = [
        [
            (piece if i % 2 == 0 else int(piece))
            for i, piece in enumerate(re.split(r"(\d+)", part.casefold()))
        ]
        for part in Path(path).parts
    ]
    return (parts, path)
