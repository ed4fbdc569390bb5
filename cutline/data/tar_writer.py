"""Write tar files atomically: new members, and members of other tar files as they are."""

import gzip
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, cast

from cutline.data.write import not_writable
from cutline.files import atomic_write

MODIFIED = 315_532_800
"""time of new members, 1980-01-01, so that the same content gives the same file"""
_CHUNK = 1 << 20
_GZIP_SUFFIXES = (".gz", ".tgz")
_GZIP_LEVEL = 1  # higher ones hardly make images smaller, and take several times as long


class TarWriter:
    """Writes the members of a tar file, one after the other."""

    def __init__(
        self, file: IO[bytes], name: str, check: Callable[[], None] = lambda: None
    ) -> None:
        """Write to an open file.

        Args:
            file: The file.
            name: What messages call it.
            check: Called before each write; what it raises ends the writing.
        """
        self._file, self._name, self._check = file, name, check

    def add(self, name: str, data: bytes) -> None:
        """Add a member.

        Raises:
            DataError: The file cannot be written.
        """
        info = tarfile.TarInfo(name)
        info.size, info.mtime = len(data), MODIFIED
        self._write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
        self._write(data)
        self._write(bytes(-len(data) % tarfile.BLOCKSIZE))

    def copy(self, source: IO[bytes], start: int, end: int) -> None:
        """Copy members from another tar file, with their headers.

        Args:
            source: The file.
            start: Position of the first header.
            end: Position after the last block.

        Raises:
            ReadError: The source cannot be read, or ends before.
            DataError: The file cannot be written.
        """
        for chunk in read_range(source, start, end):
            self._write(chunk)

    def finish(self) -> None:
        """Mark the end of the members."""
        self._write(bytes(2 * tarfile.BLOCKSIZE))

    def _write(self, data: bytes) -> None:
        self._check()
        try:
            self._file.write(data)
        except OSError as error:
            raise not_writable(self._name, error) from None


def read_range(source: IO[bytes], start: int, end: int) -> Iterator[bytes]:
    """Yield the bytes of a file between two positions.

    Raises:
        ReadError: The file cannot be read, or ends before.
    """
    try:
        source.seek(start)
        while start < end:
            chunk = source.read(min(_CHUNK, end - start))
            if not chunk:
                raise tarfile.ReadError("unexpected end of data")
            start += len(chunk)
            yield chunk
    except OSError as error:  # which would look like an error of the file that is written
        raise tarfile.ReadError(str(error)) from None


@contextmanager
def create_tar(path: Path, check: Callable[[], None] = lambda: None) -> Iterator[TarWriter]:
    """Write a tar file, which is complete or absent; compressed if its name says so.

    Args:
        path: The file.
        check: Called before each write; what it raises ends the writing.

    Raises:
        DataError: It cannot be written.
    """
    try:
        with ExitStack() as stack:
            temporary = stack.enter_context(atomic_write(path))
            file: IO[bytes] = stack.enter_context(temporary.open("wb"))
            if path.name.lower().endswith(_GZIP_SUFFIXES):
                compressed = gzip.GzipFile("", "wb", _GZIP_LEVEL, file, mtime=0)
                file = cast(IO[bytes], stack.enter_context(compressed))
            tar = TarWriter(file, str(path), check)
            yield tar
            tar.finish()
    except OSError as error:
        raise not_writable(str(path), error) from None
