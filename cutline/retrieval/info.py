"""`IndexInfo`: what an index holds and how it was made; where an index is."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from cutline.config import DataSource, MatcherOptions, SourceConfig, UrlPolicy, from_dict, to_dict
from cutline.config.validation import Settings, require_at_least
from cutline.errors import ConfigError, DataError
from cutline.files import write_text
from cutline.messages import format_text

VERSION = 1
INFO_NAME = "index.json"
DEFAULT_PLACE = Path(".cutline", "index")
"""where the index of a folder is, relative to it"""
REBUILD_HINT = "make it again with `cutline index … --new-index`"


@dataclass(frozen=True)
class IndexSources(Settings):
    """What is indexed, so that it can be found again."""

    names: tuple[str, ...]
    """kinds and paths of what was named; local paths are relative to the index"""
    folder: str
    """folder that the paths of images are relative to, itself relative to the index"""
    source: SourceConfig = field(default_factory=SourceConfig)
    """without the path of a list, which is one of the names"""
    data: DataSource = field(default_factory=lambda: DataSource(""))
    """how tables are read; its image_root is relative to the index"""
    urls: UrlPolicy = field(default_factory=UrlPolicy)


@dataclass(frozen=True)
class IndexInfo(Settings):
    """What an index holds, and how it was made: the contents of index.json."""

    matcher: MatcherOptions
    """which matcher; its local paths are absolute"""
    fingerprint: str
    """tells this matcher from others"""
    sources: IndexSources
    number: int = 0
    """number in the names of the files of embeddings and images; 0 before they are complete"""
    count: int = 0
    """images"""
    width: int = 0
    """P, the width of an embedding"""
    num_bytes: int = 0
    """size of the file of images"""
    version: int = VERSION
    """of this format"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 0, "number", "count", "width", "num_bytes")

    def write(self, index: Path) -> None:
        """Write index.json: the index changes from one state to the next at this moment."""
        write_text(index / INFO_NAME, json.dumps(to_dict(self), indent=1) + "\n")


def read_index_info(index: Path) -> IndexInfo:
    """Read index.json.

    Raises:
        DataError: It is damaged, or of a later version.
    """
    path = index / INFO_NAME
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        version = values["version"]
        if isinstance(version, int) and version > VERSION:
            raise DataError(f"{path}: written by a later version of cutline; update cutline")
        return from_dict(IndexInfo, values)
    except (OSError, ValueError, RecursionError, TypeError, KeyError, ConfigError):
        raise DataError(f"{path}: damaged; {REBUILD_HINT}") from None


def is_index(folder: Path) -> bool:
    """Return whether a folder is an index, complete or not."""
    return (folder / INFO_NAME).is_file()


def locate_index(place: str | Path) -> Path:
    """Return the index that a folder is, or that belongs to a folder of images.

    Raises:
        DataError: There is none.
    """
    place = Path(place).expanduser()
    for index in (place, place / DEFAULT_PLACE):
        if is_index(index):
            return index
    name = format_text(str(place))
    if not place.is_dir():
        raise DataError(f"{name}: no such folder; give a folder of images, or an index")
    raise DataError(f"{name}: has no index; make one with `cutline index {name} --matcher MODEL`")
