"""Names of files: which are images, texts beside them or lists of them, and their natural order."""

import os
import re
from pathlib import Path

_EXTENSIONS = (
    "jpg jpeg jpe jfif png apng gif webp bmp dib tif tiff avif avifs heic heif hif jp2 j2k jpx ppm "
    "pgm pbm pnm tga qoi"
)
IMAGE_EXTENSIONS = frozenset(_EXTENSIONS.split())
"""extensions of image files; includes some that Pillow may be unable to open, so that those files
are reported as unreadable, not ignored"""
SIDECAR_EXTENSIONS = ("txt", "caption")
"""extensions of the text file beside an image, `.caption` as in kohya's scripts; the first that
exists is used"""
INDEX_NAMES = ("metadata.jsonl", "metadata.csv", "metadata.parquet", "captions.jsonl")
"""files that list a folder's images, as in Hugging Face's imagefolder; the first that exists is
used"""
_NUMBER = re.compile(r"\d{1,1000}")  # no more digits than int() takes


def is_image(name: str) -> bool:
    """Return whether a file has the extension of an image and is not hidden."""
    name = os.path.basename(name)  # noqa: PTH119  # faster than Path, for millions of files
    extension = name.rpartition(".")[2]
    return extension.lower() in IMAGE_EXTENSIONS and "." in name and not name.startswith(".")


def list_sidecar_names(image: str) -> list[str]:
    """Return the names that the text file beside an image may have, in order of precedence."""
    stem = image.rpartition(".")[0]
    return [f"{name}.{extension}" for extension in SIDECAR_EXTENSIONS for name in (image, stem)]


def natural_sort_key(path: str) -> tuple[str, str]:
    """Return a sort key that puts 2.jpg before 10.jpg and keeps the files of a folder together."""
    # One text for all parts, because a list of them would take a kilobyte.
    return "\0".join(map(natural_name_key, Path(path).parts)), path


def natural_name_key(name: str) -> str:
    """Return a sort key that puts the name 2.jpg before 10.jpg, and ignores case."""
    return _NUMBER.sub(_encode_number, name.casefold())


def _encode_number(match: re.Match[str]) -> str:
    """Return a text that sorts as the number does, before all characters of usual names."""
    digits = str(int(match[0]))
    return f"\1{chr(len(digits))}{digits}"
