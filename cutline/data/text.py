"""Text files and JSON, with errors that name the file and the line."""

import codecs
import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from cutline.errors import DataError
from cutline.files import is_device
from cutline.strict_json import RepeatedKeyError, find_repeated_key, parse_strict_json

MAX_LINE_BYTES = 64 << 20
"""length of a line of JSON Lines, which is read at once"""
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, with or without a byte-order mark, or in UTF-16 with one.

    Raises:
        DataError: The file cannot be read or decoded; the message names the file and, if possible,
            the line.
    """
    with _open_file(path) as file:
        return decode_text(file.read(), str(path))


def read_lines(path: Path) -> Iterator[str]:
    r"""Yield the lines of a text file, as `read_text` reads it, one after the other.

    Lines end with "\n" only: JSON strings may contain other line separators, such as U+2028.

    Raises:
        DataError: The file cannot be read or decoded, or a line is too long.
    """
    with _open_file(path) as file:
        if file.read(2) in _UTF16_MARKS:
            file.seek(0)
            yield from decode_text(file.read(), str(path)).split("\n")
            return
        file.seek(0)
        for number in itertools.count(1):
            line = file.readline(MAX_LINE_BYTES)
            if len(line) == MAX_LINE_BYTES:
                raise DataError(
                    f"{path}, line {number}: longer than {MAX_LINE_BYTES >> 20} MiB; "
                    "put each image on a line of its own"
                )
            if not line:
                return
            yield decode_text(line, str(path), number).removesuffix("\n")


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


def decode_text(data: bytes, name: str, first_line: int = 1) -> str:
    """Decode the content of a text file called `name`, as `read_text` does.

    Args:
        data: The content.
        name: Name of the file.
        first_line: Number of its first line.

    Raises:
        DataError: The data cannot be decoded; the message names the file and the line.
    """
    encoding = "utf-8"  # faster than utf-8-sig, for millions of lines
    if data.startswith(codecs.BOM_UTF8):
        encoding = "utf-8-sig"
    elif data.startswith(_UTF16_MARKS) and data[2:4] != b"\0\0":  # that is UTF-32
        encoding = "utf-16"
    try:
        return data.decode(encoding)
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
