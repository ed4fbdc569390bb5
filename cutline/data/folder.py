"""Folders of images with their captions in text files beside them."""

import os
from pathlib import Path

from cutline.data.sample import Sample
from cutline.data.text import read_text, split_lines
from cutline.data.tolerant import Tolerant, attempt
from cutline.data.walk import ImageFile, walk_images
from cutline.errors import DataError


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
