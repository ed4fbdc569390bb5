"""Change a text file as recorded, whatever happens in between, and take the change back."""

import hashlib
import logging
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


def undo_edit(edit: TextEdit, root: Path, count: int) -> None:
    """Give a text file the content that it had before, if that can be made from what is recorded.

    That of a file that was overwritten is lost, and a file that was changed later stays.

    Args:
        edit: The change.
        root: The folder that its path is relative to.
        count: Number of lines that it has added.
    """
    path, lines = root / edit.path, edit.text.split("\n")[:-1]
    if not edit.text or read_content(path) != encode_text(edit.text):
        return
    if not edit.without:
        path.unlink()
        return
    for rest in (lines[: len(lines) - count], lines[count:]):
        text = "".join(f"{line}\n" for line in rest)
        for content in (text, text.removesuffix("\n")):
            if hash_content(encode_text(content)) == edit.without:
                write_text(path, content)
                return


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


def split_content(content: bytes | None, path: Path) -> list[str]:
    """Return the lines of a text file.

    Raises:
        DataError: It is not UTF-8.
    """
    text = decode_text(content or b"", str(path)).removesuffix("\n")
    return text.split("\n") if text else []


def encode_text(text: str) -> bytes:
    """Return the bytes that `write_text` writes."""
    return text.encode("utf-8", "backslashreplace")


def hash_content(content: bytes | None) -> str:
    """Return the hash of a file's content; empty if there is no file."""
    return "" if content is None else hashlib.sha256(content).hexdigest()
