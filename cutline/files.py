"""Write files atomically; refer to images that are read on demand."""

import errno
import filecmp
import hashlib
import os
import re
import shutil
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from cutline.errors import CutlineError

MAX_NAME_BYTES = 220
"""length of a file name; file systems allow 255"""
_TEMPORARY = re.compile(r"\.(.+)\.\d+\.(?:tmp|old)", re.DOTALL)
PRIVATE_SUFFIX = ".d"
"""suffix of a folder beside a temporary file, for the temporary files of other libraries"""


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Write a file atomically: it is replaced completely or not at all.

    If the block ends with an error, or with Ctrl-C, `path` is left unchanged and the temporary file
    is removed. Devices and pipes, such as /dev/stdout, are not replaced but written to; of a link,
    the file that it leads to is replaced.

    Args:
        path: The file to write; its folder is created.

    Yields:
        A temporary path in the same folder, which the block writes to.
    """
    path = Path(path)
    if is_device(path):
        yield path
        return
    if path.is_symlink():
        path = Path(os.path.realpath(path))
    with atomic_writes([path]) as (temporary,):
        yield temporary


@contextmanager
def atomic_writes(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Write files that belong together: all of them are written before the first is replaced.

    If the block ends with an error, or a file cannot be replaced, all files are left unchanged. A
    process that is killed while the files are replaced leaves no mixture of old and new ones that
    can be mistaken for a complete set: if several files change, the last of `paths` is missing
    then, and the old and new files are beside it under temporary names.

    Args:
        paths: The files to write; their folders are created. The others are useless without the
            last one.

    Yields:
        A temporary path for each file, which the block writes to.
    """
    temporaries = [_temporary(path) for path in paths]
    try:
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
        yield temporaries
        for temporary in temporaries:
            _sync(temporary)
        _replace_all(dict(zip(paths, temporaries, strict=True)))
    except OSError as error:
        if error.errno and not error.filename:  # which the error of a full disk lacks
            error.filename = str(paths[0])
        raise
    finally:
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)


def _temporary(path: Path, suffix: str = "tmp") -> Path:
    return path.with_name(f".{_shorten_name(path.name)}.{os.getpid()}.{suffix}")


def _shorten_name(name: str) -> str:
    """Return a name, or a hash of one that leaves no room for what is added."""
    data = os.fsencode(name)
    return name if len(data) < MAX_NAME_BYTES else hashlib.sha256(data).hexdigest()


def _sync(path: Path) -> None:
    """Write a file to the disk; otherwise, a crash of the machine could leave it empty."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _replace_all(temporaries: Mapping[Path, Path]) -> None:
    """Replace files by their temporary files, or none of them if one cannot be replaced."""
    for path in filter(Path.is_dir, temporaries):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    changed = dict(temporaries)
    if len(temporaries) > 1:
        changed = {path: new for path, new in temporaries.items() if _differ(path, new)}
    if len(changed) > 1:
        last = list(temporaries)[-1]
        _replace_together(changed | {last: temporaries[last]})
        return
    for path, new in changed.items():
        new.replace(path)


def _replace_together(changed: dict[Path, Path]) -> None:
    """Replace several files; the last one is missing while they are replaced."""
    backups = {path: _temporary(path, "old") for path in reversed(changed) if path.exists()}
    try:
        for path, backup in backups.items():
            path.replace(backup)
        for path, new in changed.items():
            new.replace(path)
    except BaseException:
        for path, new in changed.items():
            if not new.exists():
                path.unlink()
        for path, backup in backups.items():
            if backup.exists():
                backup.replace(path)
        raise
    for backup in backups.values():
        backup.unlink()


def _differ(path: Path, other: Path) -> bool:
    """Return whether `path` is missing, or has another content."""
    return not path.exists() or not filecmp.cmp(path, other, shallow=False)


def write_text(path: str | Path, text: str) -> None:
    r"""Write a text file in UTF-8 atomically.

    Lone surrogates, which stand for the bytes of file names that are not UTF-8, are escaped
    (`\udcff`).
    """
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def remove_partial(paths: Iterable[Path]) -> None:
    """Remove the temporary files that killed processes left when they wrote `paths`."""
    names: dict[Path, set[str]] = {}
    for path in paths:
        names.setdefault(path.parent, set()).add(_shorten_name(path.name))
    for folder, written in names.items():
        for name in os.listdir(folder) if folder.is_dir() else []:  # noqa: PTH208
            match = _TEMPORARY.fullmatch(name.removesuffix(PRIVATE_SUFFIX))
            if not match or match[1] not in written:
                continue
            if name.endswith(PRIVATE_SUFFIX):
                shutil.rmtree(folder / name, ignore_errors=True)
            else:
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
    if str(path) in ("/dev/stdout", "/dev/stderr"):
        raise CutlineError(f"{path}: a file, to which the results go anyway; name another file")
    try:
        folder = target if target.is_dir() else target.parent
        while not folder.exists():
            folder = folder.parent
        probe = _temporary(folder / "cutline")
        probe.touch()
        probe.unlink()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise CutlineError(
            f"{path}: cannot be written ({getattr(error, 'strerror', error)}); "
            "choose another place, or check the folder and its permissions"
        ) from None


def is_device(path: str | Path) -> bool:
    """Return whether `path` is a device, pipe or socket: reading it may never end."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116  # Path("") is the current folder
    except (OSError, ValueError):
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def relative_path(path: str | Path, folder: str | Path) -> str:
    """Return a path relative to a folder, with slashes; the absolute one if drives differ."""
    try:
        path = os.path.relpath(path, folder)
    except ValueError:
        path = os.path.abspath(path)  # noqa: PTH100  # keeps links
    return Path(path).as_posix()


class ImageRef(ABC):
    """An image in a larger file, such as a shard, or at an address, which is read on demand.

    `str()` gives the name of the file and of the image in it, or the address.
    """

    __slots__ = ()

    @abstractmethod
    def read(self) -> bytes:
        """Return the bytes of the image file.

        Raises:
            ImageError: The image cannot be read; the message names it.
        """

    def stamp(self) -> str:
        """Return what changes when the image does, such as size and time; empty if unknown."""
        return ""
