"""Read a tar file from front to back, with limits on what a header may make the reader do.

`tarfile` reads extended headers of any size into memory, and some damaged ones without end; it
mistakes others for the end of the file. Only its parser of a single header block is used here.
"""

import gzip
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from tarfile import (
    BLOCKSIZE,
    GNUTYPE_LONGLINK,
    GNUTYPE_LONGNAME,
    GNUTYPE_SPARSE,
    SOLARIS_XHDTYPE,
    SUPPORTED_TYPES,
    XGLTYPE,
    XHDTYPE,
    ReadError,
    TarInfo,
)
from typing import IO, cast

from cutline.messages import format_text

MAX_HEADER_BYTES = 1 << 20
"""size of the header that holds a member's long name and attributes"""
_CHUNK = 1 << 20
"""bytes that are read at once to skip a member of a stream"""
_GZIP_MAGIC = b"\x1f\x8b"
_TIME = re.compile(rb"-?\d{1,20}(\.\d{1,20})?")
_PAX_TYPES = (XHDTYPE, SOLARIS_XHDTYPE)
_EXTENSION_TYPES = (*_PAX_TYPES, XGLTYPE, GNUTYPE_LONGNAME, GNUTYPE_LONGLINK)


@dataclass(frozen=True, slots=True)
class Member:
    """A file, a folder or a link in a tar file."""

    name: str
    is_file: bool
    """whether it is a regular file"""
    start: int
    """position of its first header"""
    offset: int
    """position of its first byte"""
    size: int
    """bytes"""
    end: int
    """position after its last block"""
    modified: float
    """time of its last change, in seconds since 1970; 0 if unknown"""
    problem: str
    """why it cannot be read, for messages; empty if it can"""


class TarSource:
    """The bytes of a tar file, read in order."""

    def __init__(self, stream: IO[bytes], *, seekable: bool) -> None:
        """Read an open file.

        Args:
            stream: The file; only its `read` is needed unless it is seekable.
            seekable: Whether to skip members by seeking. Otherwise they are read, and the file may
                be compressed with gzip.
        """
        self.stream, self.position, self.end = stream, 0, None
        if seekable:
            self.end = stream.seek(0, os.SEEK_END)
            stream.seek(0)
        else:
            self.stream = _decompress(stream)

    def read(self, size: int) -> bytes:
        """Return the next bytes, fewer at the end of the file."""
        data = self.stream.read(size)
        self.position += len(data)
        return data

    def read_exactly(self, size: int) -> bytes:
        """Return the next bytes.

        Raises:
            ReadError: The file ends before.
        """
        data = self.read(size)
        if len(data) < size:
            raise ReadError("unexpected end of data")
        return data

    def read_member(self, member: Member) -> bytes:
        """Return the content of the member that `iter_members` has just yielded.

        Raises:
            ReadError: The file ends before the member does.
        """
        data = self.read(member.size)
        if len(data) < member.size:
            raise _truncated(member)
        return data

    def skip(self, size: int) -> None:
        """Move on by a number of bytes.

        Raises:
            ReadError: The file ends before.
        """
        if self.end is None:
            while size > 0:
                size -= len(self.read_exactly(min(size, _CHUNK)))
        elif size > self.end - self.position:
            raise ReadError("unexpected end of data")
        else:
            self.position = self.stream.seek(self.position + size)


def _decompress(stream: IO[bytes]) -> IO[bytes]:
    start = stream.read(len(_GZIP_MAGIC))
    source = cast(IO[bytes], _Rejoined(start, stream))
    return cast(IO[bytes], gzip.GzipFile(fileobj=source)) if start == _GZIP_MAGIC else source


def is_compressed(file: IO[bytes]) -> bool:
    """Return whether an open file, which can be read in any order, is compressed with gzip."""
    start = file.read(len(_GZIP_MAGIC))
    file.seek(0)
    return start == _GZIP_MAGIC


class _Rejoined:
    """A stream whose first bytes have been read already."""

    def __init__(self, start: bytes, stream: IO[bytes]) -> None:
        self.start, self.stream = start, stream

    def read(self, size: int) -> bytes:
        start, self.start = self.start[:size], self.start[size:]
        return start + self.stream.read(size - len(start))


def iter_members(source: TarSource) -> Iterator[Member]:
    """Yield the regular files in a tar file; each can be read until the next is requested.

    Raises:
        TarError: The file is damaged.
        OSError: It cannot be read.
    """
    return (member for member in iter_all_members(source) if member.is_file)


def iter_all_members(source: TarSource) -> Iterator[Member]:
    """Yield all members of a tar file, as `iter_members` does, with folders and links."""
    extension, start = _Extension(), source.position
    while block := _read_header_block(source):
        info = TarInfo.frombuf(block, "utf-8", "surrogateescape")
        if info.type in _EXTENSION_TYPES:
            extension.read(info, source)
            continue
        is_sparse = info.type == GNUTYPE_SPARSE
        more = is_sparse and block[482]  # GNU's flag that another block of the map follows
        while more:
            more = source.read_exactly(BLOCKSIZE)[504]
        size = info.size if extension.size is None else extension.size
        has_data = info.isreg() or info.type not in SUPPORTED_TYPES
        end = source.position + (_pad(size) if has_data else 0)
        member = Member(
            name=extension.name or info.name,
            is_file=info.isreg(),
            start=start,
            offset=source.position,
            size=size,
            end=end,
            modified=extension.modified or info.mtime,
            problem=extension.problem or ("it is sparse" if is_sparse else ""),
        )
        yield member
        try:
            source.skip(end - source.position)
        except ReadError:
            raise _truncated(member) from None
        extension, start = _Extension(), source.position


def _truncated(member: Member) -> ReadError:
    return ReadError(f"it ends before the {member.size:,} bytes of {format_text(member.name)} do")


def _read_header_block(source: TarSource) -> bytes:
    """Return the next block, empty at the end of the members. Raises ReadError for no tar file."""
    block = source.read(BLOCKSIZE)
    if not block and source.position == 0:
        raise ReadError("empty file")
    return block if block.strip(b"\0") else b""


def _pad(size: int) -> int:
    """Return the size of whole blocks. Raises ReadError for a size that no member has."""
    if size < 0:
        raise ReadError("a header is damaged")
    return -(-size // BLOCKSIZE) * BLOCKSIZE


class _Extension:
    """What the headers before a member say about it, beyond its own header."""

    def __init__(self) -> None:
        self.name = ""
        self.size: int | None = None
        self.modified = 0.0
        self.problem = ""

    def read(self, info: TarInfo, source: TarSource) -> None:
        """Read the extended header `info`; skip one that is too large, or applies to all members.

        Raises:
            ReadError: It is damaged.
        """
        padded = _pad(info.size)
        if info.size > MAX_HEADER_BYTES:
            self.problem = f"the header of its attributes has {info.size:,} bytes"
        if info.size > MAX_HEADER_BYTES or info.type in (XGLTYPE, GNUTYPE_LONGLINK):
            source.skip(padded)
            return
        data = source.read_exactly(padded)[: info.size].rstrip(b"\0")
        if info.type == GNUTYPE_LONGNAME:
            self.name = _decode_name(data.partition(b"\0")[0])
        else:
            self._read_pax(data)

    def _read_pax(self, data: bytes) -> None:
        """Read records such as `18 path=a/b.jpg`, whose length includes the newline."""
        position = 0
        while position < len(data):
            digits = data[position : position + 20].partition(b" ")[0]
            length = int(digits) if digits.isdigit() else 0
            record = data[position : position + length]
            if not record.endswith(b"\n"):
                raise ReadError("a header is damaged")
            key, _, value = record[len(digits) + 1 : -1].partition(b"=")
            if key == b"path":
                self.name = _decode_name(value)
            elif key == b"size":
                if not value.isdigit() or len(value) > 20:
                    raise ReadError("a header is damaged")
                self.size = int(value)
            elif key == b"mtime":
                self.modified = _parse_time(value)
            elif key.startswith(b"GNU.sparse."):
                self.problem = self.problem or "it is sparse"
            position += length


def _parse_time(value: bytes) -> float:
    """Return the time in a header; 0 for one that is damaged, because the rest may be read."""
    return float(value) if _TIME.fullmatch(value) else 0


def _decode_name(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
