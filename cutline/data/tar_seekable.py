"""Open any tar shard so that it can be read in any order."""

import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from gzip import BadGzipFile
from pathlib import Path
from tarfile import ReadError
from threading import get_ident
from typing import IO

from cutline.data.shards import is_remote
from cutline.data.tar_reader import TarSource, is_compressed
from cutline.data.write import not_writable
from cutline.errors import CutlineError
from cutline.messages import first_line

_CHUNK = 1 << 20
_DAMAGE = (EOFError, BadGzipFile, zlib.error)


def open_local_shard(path: str) -> IO[bytes]:
    """Open a shard on this machine."""
    return Path(path).open("rb")


@contextmanager
def open_seekable_tar(
    path: str,
    open_shard: Callable[[str], IO[bytes]],
    copy: Path,
    check: Callable[[], None] = lambda: None,
) -> Iterator[TarSource]:
    """Open a tar shard, or a copy of one that is compressed or remote.

    Args:
        path: Path or address of the shard.
        open_shard: Opens it for reading from front to back.
        copy: The copy, which is written if it does not exist, and stays.
        check: Called before each write; what it raises ends the writing.

    Raises:
        TAR_ERRORS: The shard cannot be read.
        DataError: The copy cannot be written.
    """
    if not copy.exists():
        with closing(_open(path, open_shard)) as stream:
            if not is_remote(path) and not is_compressed(stream):
                yield TarSource(stream, seekable=True)
                return
            _write_copy(copy, _read_chunks(stream, is_whole=is_remote(path)), check)
    with copy.open("rb") as file:
        yield TarSource(file, seekable=True)


def _open(path: str, open_shard: Callable[[str], IO[bytes]]) -> IO[bytes]:
    try:
        return open_shard(path)
    except CutlineError as error:
        raise ReadError(str(error)) from None


def _write_copy(copy: Path, chunks: Iterable[bytes], check: Callable[[], None]) -> None:
    temporary = copy.with_name(f"{copy.name}.{get_ident()}")  # other threads may write it, too
    try:
        copy.parent.mkdir(exist_ok=True)
        with temporary.open("wb") as file:
            for chunk in chunks:
                check()
                file.write(chunk)
        temporary.replace(copy)
    except OSError as error:
        raise not_writable(str(copy.parent), error) from None
    finally:
        temporary.unlink(missing_ok=True)


def _read_chunks(stream: IO[bytes], is_whole: bool) -> Iterator[bytes]:
    """Yield the content of a shard, decompressed.

    Args:
        stream: The shard.
        is_whole: Whether damage is an error, not the end: a transfer may have been interrupted.
    """
    try:
        content = TarSource(stream, seekable=False).stream
        # A read of a damaged gzip file returns nothing of what comes before the damage.
        read = getattr(content, "read1", content.read)
        while chunk := read(_CHUNK):
            yield chunk
    except Exception as error:  # file systems have errors of their own
        if is_whole or not isinstance(error, _DAMAGE):
            raise ReadError(first_line(error)) from None
