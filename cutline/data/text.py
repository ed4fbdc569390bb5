"""Text files and JSON, with errors that name the file and the line."""

import codecs
import json
from pathlib import Path

from cutline.errors import DataError


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, with or without a byte-order mark, or in UTF-16 with one.

    Raises:
        DataError: The file cannot be read or decoded; the message names the file and, if possible,
            the line.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); check the path and its permissions"
        ) from None
    return decode_text(data, str(path))


def decode_text(data: bytes, name: str) -> str:
    """Decode the content of a text file called `name`, as `read_text` does.

    Raises:
        DataError: The data cannot be decoded; the message names the file and the line.
    """
    is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{name}, line {line}: not UTF-8 text; save the file as UTF-8") from None


def split_lines(text: str) -> tuple[str, ...]:
    """Return the lines that are not blank, without surrounding whitespace."""
    return tuple(line.strip() for line in text.split("\n") if line.strip())


def parse_json(text: str, where: str) -> object:
    """Parse JSON.

    Raises:
        DataError: `text` is not valid JSON; the message begins with `where`.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{where}: not JSON ({error.msg} at column {error.colno}); correct or remove it"
        ) from None
    except (ValueError, RecursionError) as error:  # numbers too long, brackets nested too deeply
        raise DataError(
            f"{where}: not JSON that can be parsed ({error}); correct or remove it"
        ) from None
