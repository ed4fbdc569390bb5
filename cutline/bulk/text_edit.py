"""Change a text file as recorded, whatever happens in between, and take the change back."""

import hashlib
import logging
from contextlib import suppress
from pathlib import Path

from cutline.bulk.record import TextEdit
from cutline.data.text import decode_text
from cutline.errors import DataError
from cutline.files import write_text

logger = logging.getLogger(__name__)


def apply_edit(edit: TextEdit, root: Path) -> bool:
    """Change a text file as recorded, unless that has been done; return whether it was changed.

    Args:
        edit: The change.
        root: The folder that its path is relative to.
    """
    path = root / edit.path
    content = read_content(path)
    if content == encode_text(edit.text) or (content is None and not edit.text):
        return False
    if hash_content(content) != edit.original:
        logger.warning("%s: left as it is, because it was changed meanwhile", path)
        return False
    if edit.text:
        write_text(path, edit.text)
    else:
        path.unlink()
    return True


def make_edit(
    path: str, original: bytes | None, text: str, base: bytes | None, without: str
) -> TextEdit:
    """Return the change of a text file, and how it is undone.

    Args:
        path: Path of the file, relative to the folder of the output.
        original: Its content before.
        text: Its content afterwards.
        base: Its content without captions of this run.
        without: The hash of that, as it was when the file was first changed.
    """
    before = _decode(base or b"")
    start = _count_equal(before, text)
    num_last = _count_equal(before[start:][::-1], text[start:][::-1])
    replaced = before[start : len(before) - num_last]
    end = len(text) - num_last
    return TextEdit(path, hash_content(original), text, without, start, end, replaced)


def _count_equal(one: str, other: str) -> int:
    """Return the number of characters that both texts begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    length = min(len(one), len(other))
    return next((count for count, (a, b) in pairs if a != b), length)


def undo_edit(edit: TextEdit, root: Path) -> None:
    """Give a text file the content that it had before; one that was changed later stays.

    Args:
        edit: The change.
        root: The folder that its path is relative to.
    """
    path, before = root / edit.path, restore_content(edit)
    if not edit.text or read_content(path) != encode_text(edit.text):
        return
    if before is None:
        path.unlink()
    elif hash_content(before) == edit.without:  # else it was in another encoding
        write_text(path, before.decode())


def restore_content(edit: TextEdit) -> bytes | None:
    """Return the content of a text file without captions of the run; None if it was no file."""
    if not edit.without:
        return None
    return encode_text(edit.text[: edit.start] + edit.replaced + edit.text[edit.end :])


def read_content(path: Path) -> bytes | None:
    """Return the content of a file, or None if there is none.

    Raises:
        DataError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); check the file and its permissions"
        ) from None


def _decode(content: bytes) -> str:
    """Return a text whose encoding is the content; if there is none, one of the same lines."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        with suppress(DataError):
            return decode_text(content, "")
        return ""  # overwritten, and lost


def encode_text(text: str) -> bytes:
    """Return the bytes that `write_text` writes."""
    return text.encode("utf-8", "backslashreplace")


def hash_content(content: bytes | None) -> str:
    """Return the hash of a file's content; empty if there is no file."""
    return "" if content is None else hashlib.sha256(content).hexdigest()
