"""Files are written whole or not at all; an image may be a part of one."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what was written there replaces `path` when the block ends well.

    On any error, Ctrl-C included, `path` stays as it was and the temporary file is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(
                file.fileno()
            )  # a crash of the machine must not leave an empty file under the final name
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, whole or not at all; lone surrogates, of file names that are not UTF-8, are escaped (`\\udcff`)."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def remove_partial(folder: Path) -> None:
    """Remove the temporary files in `folder` of a process that was killed while it wrote."""
    for path in folder.rglob(".*.tmp"):
        path.unlink(missing_ok=True)


class ImageRef(ABC):
    """An image inside a larger file, such as a shard: its place is known, its bytes are read when they are asked for.

    `str()` of it names file and image.
    """

    __slots__ = ()

    @abstractmethod
    def read(self) -> bytes:
        """The bytes of the image. Raises ImageError naming file and image."""
