"""Read the small files of a model, settings and vocabularies, within limits."""

from pathlib import Path
from typing import Any, BinaryIO

from cutline.errors import CheckpointError
from cutline.files import is_device
from cutline.strict_json import parse_strict_json

MAX_JSON_BYTES = 4 << 20
"""largest file of settings; parsed, it takes some twenty times its size"""
MAX_VOCABULARY_BYTES = 32 << 20
"""largest vocabulary file: three times that of 500,000 tokens"""


def open_regular(file: Path) -> BinaryIO:
    """Open a regular file for reading; reading a device or a pipe may never end.

    Raises:
        CheckpointError: The file cannot be opened, or is a device or a pipe.
    """
    try:
        if not is_device(file):
            return file.open("rb")
        reason = "not a regular file"
    except OSError as error:
        reason = error.strerror or str(error)
    raise CheckpointError(f"{file}: cannot be read ({reason}); use a complete model")


def read_limited_text(file: Path, max_bytes: int = MAX_VOCABULARY_BYTES) -> str:
    """Read a text file in UTF-8, with or without a byte order mark.

    Raises:
        CheckpointError: The file cannot be read, is too large, or is not UTF-8.
    """
    try:
        with open_regular(file) as stream:
            content = stream.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise CheckpointError(
                f"{file}: larger than {max_bytes >> 20} MiB, which no such file of a model is; "
                "copy the file again"
            )
        return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except OSError as error:
        raise CheckpointError(
            f"{file}: cannot be read ({error.strerror}); use a complete model"
        ) from None
    except UnicodeDecodeError:
        raise CheckpointError(f"{file}: not UTF-8 text; copy the file again") from None


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        CheckpointError: The file cannot be read, is not a JSON object, or has a key twice.
    """
    try:
        values = parse_strict_json(read_limited_text(file, MAX_JSON_BYTES))
    except ValueError as error:
        raise CheckpointError(f"{file}: not JSON ({error}); copy the file again") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{file}: not a JSON object; copy the file again")
    return values
