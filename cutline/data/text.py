"""Text files and JSON, with errors that name the file and the line."""

import codecs
import io
import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from cutline.data.tolerant import Tolerant, attempt
from cutline.errors import DataError
from cutline.files import is_device
from cutline.strict_json import RepeatedKeyError, find_repeated_key, parse_strict_json

MAX_LINE_BYTES = 64 << 20
"""length of a line of JSON Lines, which is read at once"""
_CHUNK = 1 << 20
"""bytes that are read at once to count or skip lines"""
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, with or without a byte-order mark, or in UTF-16 with one.

    Raises:
        DataError: The file cannot be read or decoded; the message names the file and, if possible,
            the line.
    """
    with _open_file(path) as file:
        return decode_text(file.read(), str(path))


def iter_lines(path: Path, errors: str = "strict") -> Tolerant[str]:
    r"""Yield the lines of a text file, as `read_text` reads it, one after the other.

    Lines end with "\n" only: JSON strings may contain other line separators, such as U+2028.

    Args:
        path: The file.
        errors: What `bytes.decode` does with what is not UTF-8; `surrogateescape` suits names of
            files.

    Yields:
        Each line with its end, or the error of a line that cannot be decoded or is too long.

    Raises:
        DataError: The file cannot be read.
    """
    with _open_file(path) as file:
        if file.read(2) in _UTF16_MARKS:
            file.seek(0)
            yield from io.StringIO(decode_text(file.read(), str(path)), newline="\n")
            return
        file.seek(0)
        for number in itertools.count(1):
            line = file.readline(MAX_LINE_BYTES)
            if not line:
                return
            if len(line) < MAX_LINE_BYTES:
                yield attempt(decode_text, line, str(path), number, errors)
                continue
            _skip_line(file, line)
            yield DataError(
                f"{path}, line {number}: longer than {MAX_LINE_BYTES >> 20} MiB; "
                "put each image on a line of its own"
            )


def _skip_line(file: BinaryIO, part: bytes) -> None:
    """Move to the end of a line, of which a part has been read."""
    while part and not part.endswith(b"\n"):
        part = file.readline(_CHUNK)


def count_lines(path: Path) -> int:
    r"""Return the number of lines in a file, whether they end with "\n", "\r\n" or "\r".

    Raises:
        DataError: The file cannot be read.
    """
    newlines = returns = 0
    last = b"\n"
    with _open_file(path) as file:
        while chunk := file.read(_CHUNK):
            newlines += chunk.count(b"\n")
            returns += chunk.count(b"\r")
            last = chunk[-1:]
    return max(newlines, returns) + (last not in b"\n\r")


def require_regular_file(path: Path) -> None:
    """Raise DataError for a device, a pipe or a socket, which might be read without end."""
    if is_device(path):
        raise DataError(f"{path}: not a regular file; copy the data to one")


@contextmanager
def _open_file(path: Path) -> Iterator[BinaryIO]:
    require_regular_file(path)
    try:
        with path.open("rb") as file:
            yield file
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{path}: cannot be read ({reason}); check the path and its permissions"
        ) from None


def decode_text(data: bytes, name: str, first_line: int = 1, errors: str = "strict") -> str:
    """Decode the content of a text file called `name`, as `read_text` does.

    Args:
        data: The content.
        name: Name of the file.
        first_line: Number of its first line.
        errors: As `bytes.decode` takes it, for UTF-8.

    Raises:
        DataError: The data cannot be decoded; the message names the file and the line.
    """
    encoding = "utf-8"  # faster than utf-8-sig, for millions of lines
    if data.startswith(codecs.BOM_UTF8):
        encoding = "utf-8-sig"
    elif first_line == 1 and data.startswith(_UTF16_MARKS) and data[2:4] != b"\0\0":
        encoding, errors = "utf-16", "strict"  # with two more zeros, it would be UTF-32
    try:
        return data.decode(encoding, errors)
    except UnicodeDecodeError as error:
        line = first_line + data.count(b"\n", 0, error.start)
        raise DataError(f"{name}, line {line}: not UTF-8 text; save the file as UTF-8") from None


def split_lines(text: str) -> tuple[str, ...]:
    """Return the lines that are not blank, without surrounding whitespace."""
    return tuple(line.strip() for line in text.split("\n") if line.strip())


def parse_json(text: str, where: str) -> object:
    """Parse JSON.

    Args:
        text: JSON, in which each key of an object occurs once.
        where: What contains it, with which error messages begin.

    Raises:
        DataError: `text` is not valid JSON, or repeats a key.
    """
    try:
        return parse_strict_json(text)
    except json.JSONDecodeError as error:
        where = _name_line(where, text, error.pos)
        raise DataError(
            f"{where}: not JSON ({error.msg} at column {error.colno}); correct or remove it"
        ) from None
    except RepeatedKeyError as error:
        where = _name_line(where, text, find_repeated_key(text))
        raise DataError(f"{where}: {error}; remove or rename one") from None
    except ValueError as error:
        raise DataError(
            f"{where}: not JSON that can be parsed ({error}); correct or remove it"
        ) from None


def _name_line(where: str, text: str, position: int) -> str:
    """Add the line to `where` if the text has several."""
    line = text.count("\n", 0, position) + 1
    return f"{where}, line {line}" if "\n" in text.strip() else where
