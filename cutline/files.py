"""Write files atomically; refer to images inside larger files."""

import filecmp
import os
import re
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cutline.errors import CutlineError


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Write a file atomically: it is replaced completely or not at all.

    If the block ends with an error, or with Ctrl-C, `path` is left unchanged and the temporary file
    is removed. Devices and pipes, such as /dev/stdout, are not replaced but written to.

    Args:
        path: The file to write; its folder is created.

    Yields:
        A temporary path in the same folder, which the block writes to.
    """
    path = Path(path)
    if is_device(path):
        yield path
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_writes(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Write files that belong together: all of them are written before the first is replaced.

    If the block ends with an error, all files are left unchanged. A process that is killed while
    the files are replaced leaves no mixture of old and new ones that can be mistaken for a whole:
    if several files change, the last of `paths` is removed first, and replaced last.

    Args:
        paths: The files to write; the last one is small, and the others are useless without it.

    Yields:
        A temporary path for each file, which the block writes to.
    """
    with ExitStack() as stack:  # leaves the contexts in reverse order
        temporaries = [stack.enter_context(atomic_write(path)) for path in reversed(paths)][::-1]
        yield temporaries
        for temporary in temporaries:
            _sync(temporary)
        if sum(map(_differ, paths, temporaries)) > 1:
            paths[-1].unlink(missing_ok=True)


def _differ(path: Path, other: Path) -> bool:
    return not path.exists() or not filecmp.cmp(path, other, shallow=False)


def _sync(path: Path) -> None:
    """Write a file to the disk; otherwise, a crash of the machine could leave it empty."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


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
    target = Path(path)
    if is_device(target):
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


def is_device(path: str | Path) -> bool:
    """Return whether `path` is a device, pipe or socket: reading it may never end."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116  # Path("") is the current folder
    except (OSError, ValueError):
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


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
