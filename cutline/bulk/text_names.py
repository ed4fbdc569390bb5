"""Names of text files: beside an image, and for any id."""

import hashlib
import os
import re
from pathlib import PurePosixPath

from cutline.data.names import IMAGE_EXTENSIONS, is_image

MAX_NAME_BYTES = 200
"""length of a file name; the limit of file systems, 255, less what is added to it"""


def has_namesake(image: str, extension: str) -> bool:
    """Return whether the text file of an image keeps the image's extension in its name.

    That of `a.jpg` is `a.txt`; if there is also an `a.png`, they are `a.jpg.txt` and `a.png.txt`.
    """
    stem, suffix = os.path.splitext(image)  # noqa: PTH122
    own = suffix.lower().removeprefix(".")
    others = (f"{stem}.{other}" for other in _SPELLINGS if other.lower() != own)
    taken = suffix == extension or (is_image(stem) and os.path.exists(stem))  # noqa: PTH110
    return taken or any(map(os.path.exists, others))


_SPELLINGS = sorted({spelling for name in IMAGE_EXTENSIONS for spelling in (name, name.upper())})


def path_for_id(id: str) -> PurePosixPath:
    """Return a relative path that stands for an id, whatever it contains.

    If it differs from the id, it has a part of the id's hash in its name.
    """
    path = id.partition("://")[2] or id
    parts = [_clean_name(name) for name in re.split(r"[/\\]", path) if name not in ("", ".")]
    clean = PurePosixPath(*parts or ["_"])
    if str(clean) == id:
        return clean
    digest = hashlib.sha256(id.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return clean.with_name(f"{clean.name}-{digest}")


# Surrogates that do not stand for a byte cannot be part of a file name.
_FORBIDDEN = re.compile(r'[\x00-\x1f<>:"|?*\ud800-\udc7f\udd00-\udfff]')


def _clean_name(name: str) -> str:
    name = "_" if name == ".." else _FORBIDDEN.sub("_", name)
    data = name.encode("utf-8", "surrogateescape")
    return name if len(data) <= MAX_NAME_BYTES else data[:MAX_NAME_BYTES].decode("utf-8", "ignore")
