"""Write files atomically; refer to images inside larger files."""

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cutline.errors import CutlineError


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Write a file atomically: it is replaced completely or not at all.

    If the block ends with an error, or with Ctrl-C, `path` is left unchanged and the temporary file
    is removed. Devices and pipes, such as /dev/stdout, are not replaced but written to.

    Args:
        path: The file to write; its folder is created. A symbolic link keeps its target.

    Yields:
        A temporary path in the same folder, which the block writes to.
    """
    path = Path(os.path.realpath(path))
    if _is_device(path):
        yield path
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())  # otherwise, a crash of the machine could leave `path` empty
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    r"""Write a text file in UTF-8 atomically.

    Lone surrogates, which stand for the bytes of file names that are not UTF-8, are escaped
    (`\udcff`).
    """
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def remove_partial(paths: Iterable[Path]) -> None:
    """Remove the temporary files that killed processes left when they wrote `paths`."""
    for path in paths:
        temporary = re.compile(rf"\.{re.escape(path.name)}\.\d+\.tmp")
        folder = path.parent
        for name in os.listdir(folder) if folder.is_dir() else []:  # noqa: PTH208
            if temporary.fullmatch(name):
                (folder / name).unlink(missing_ok=True)


def check_writable(path: str | Path) -> None:
    """Check that a file or folder can be written, before the work whose results go there.

    Nothing is changed: folders that do not exist yet are not created.

    Raises:
        CutlineError: `path` cannot be written.
    """
    target = Path(os.path.realpath(path))
    if _is_device(target):
        return
    folder = target if target.is_dir() else target.parent
    while not folder.exists():
        folder = folder.parent
    probe = folder / f".cutline.{os.getpid()}.tmp"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise CutlineError(
            f"{path}: cannot be written ({error.strerror}); "
            "choose another place, or check the folder and its permissions"
        ) from None


def _is_device(path: Path) -> bool:
    """Return whether `path` is a device or a pipe, which cannot be replaced."""
    return path.exists() and not path.is_file() and not path.is_dir()


class ImageRef(ABC):
    """An image inside a larger file, such as a shard, whose bytes are read on demand.

    `str()` gives the name of the file and of the image in it.
    """

    __slots__ = ()

    @abstractmethod
    def read(self) -> bytes:
        """Return the bytes of the image file.

        Raises:
            ImageError: The image cannot be read; the message names the file and the image.
        """
