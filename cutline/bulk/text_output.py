"""`TextOutput`: a text file for each caption, beside its image or in a folder."""

import hashlib
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from cutline.bulk.manifest import Manifest
from cutline.bulk.output import Output
from cutline.bulk.record import Record, TextEdit
from cutline.config import Existing
from cutline.data import Sample
from cutline.data.names import IMAGE_EXTENSIONS, is_image
from cutline.data.text import decode_text
from cutline.errors import ConfigError
from cutline.files import write_text

logger = logging.getLogger(__name__)

MAX_NAME_BYTES = 200
"""length of a file name; the limit of file systems, 255, less what is added to it"""


class TextOutput(Output):
    """A text file for each caption.

    Before a file is changed, the run records its name, the hash of its content and the new content.
    A run that was killed in between changes it later, once; a file that somebody else has changed
    meanwhile is left alone.
    """

    def __init__(self, folder: Path | None, extension: str, existing: Existing) -> None:
        """Choose where files are written, and what becomes of those that exist.

        Args:
            folder: The folder; None for a file beside each image.
            extension: Extension of the files, such as .txt.
            existing: What becomes of a file that exists.
        """
        self._folder, self._extension, self._existing = folder, extension, existing
        self._manifest = Manifest(None)
        self._num_written = self._num_restored = 0

    def resume(self, manifest: Manifest) -> None:
        """Change the files of the last part, if a killed run had not done it yet."""
        self._manifest = manifest
        self.write(manifest.read_last_part())
        self._num_written = 0

    def forget(self, record: Record) -> None:
        """Take a caption out of its file, if the file is as the run left it."""
        if record.edit:
            undo_edit(record.edit)

    def skips(self, sample: Sample) -> bool:
        """Return whether the image has a file that is kept."""
        path = self._find_path(sample)
        return self._existing == "skip" and path.exists()

    def note(self, sample: Sample, done: bool) -> None:
        """Write the file of a caption again if it has been removed."""
        record = self._manifest.find_record(sample.id) if done else None
        if record and record.edit and not os.path.exists(record.edit.path):  # noqa: PTH110
            write_text(record.edit.path, record.edit.text)
            self._num_restored += 1

    def plan_edit(self, sample: Sample, text: str) -> TextEdit:
        """Return the change of the image's file; the name that was recorded once stays."""
        caption = " ".join(text.split())
        record = self._manifest.find_record(sample.id)
        last = record.edit if record else None
        path = Path(last.path) if last else self._find_path(sample)
        content = read_content(path)
        lines = [] if self._existing == "overwrite" else split_content(content, path)
        if last and content == encode_text(last.text):  # ours, for an older version of the image
            lines = lines[:-1] if self._existing == "append" else lines[1:]
        new = self._combine(lines, caption)
        return TextEdit(str(path), hash_content(content), "".join(f"{line}\n" for line in new))

    def _combine(self, lines: list[str], caption: str) -> list[str]:
        match self._existing:
            case "append":
                return [*lines, caption]
            case "prepend":
                return [caption, *lines]
            case "skip" if lines:  # written since the image was read
                return lines
        return [caption]

    def write(self, records: Sequence[Record]) -> None:
        """Change the files of records."""
        for record in records:
            if record.edit and apply_edit(record.edit):
                self._num_written += 1

    def describe(self) -> list[str]:
        """Return where files were written, and how many."""
        place = f"{self._folder}" if self._folder else f"{self._extension} files beside the images"
        restored = f", {self._num_restored:,} written again" if self._num_restored else ""
        return [f"{place}: {self._num_written:,} captions{restored}"]

    def _find_path(self, sample: Sample) -> Path:
        """Return the file of an image that has no recorded one."""
        is_local = isinstance(sample.image, str) and "://" not in sample.image
        if not self._folder:
            if not is_local:
                raise ConfigError(
                    f"{sample.name}: not a file, so that no text can be written beside it; "
                    "name a folder or a file as output"
                )
            return Path(name_text_file(sample.name, self._extension))
        name = path_for_id(sample.id)
        if is_local and name.name == os.path.basename(sample.name):  # noqa: PTH119
            sibling = Path(name_text_file(sample.name, self._extension))
            return self._folder / name.with_name(sibling.name)
        return self._folder / name.with_name(name.name + self._extension)


def name_text_file(image: str, extension: str) -> str:
    """Return the path of the text file beside an image.

    That of `a.jpg` is `a.txt`; if there is also an `a.png`, they are `a.jpg.txt` and `a.png.txt`.
    """
    stem, suffix = os.path.splitext(image)  # noqa: PTH122
    own = suffix.lower().removeprefix(".")
    others = (f"{stem}.{other}" for other in _SPELLINGS if other.lower() != own)
    taken = suffix == extension or (is_image(stem) and os.path.exists(stem))  # noqa: PTH110
    if taken or any(map(os.path.exists, others)):
        return image + extension
    return stem + extension


_SPELLINGS = sorted({spelling for name in IMAGE_EXTENSIONS for spelling in (name, name.upper())})


def path_for_id(id: str) -> PurePosixPath:
    """Return a relative path that stands for an id, whatever it contains.

    If it differs from the id, it has a part of the id's hash in its name.
    """
    path = id.partition("://")[2] or id
    parts = [_clean_name(name) for name in re.split(r"[/\\]", path) if name not in ("", ".")]
    clean = PurePosixPath(*parts or ["_"])
    if str(clean) == id:
        return clean
    digest = hashlib.sha256(id.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return clean.with_name(f"{clean.name}-{digest}")


# Surrogates that do not stand for a byte cannot be part of a file name.
_FORBIDDEN = re.compile(r'[\x00-\x1f<>:"|?*\ud800-\udc7f\udd00-\udfff]')


def _clean_name(name: str) -> str:
    name = "_" if name == ".." else _FORBIDDEN.sub("_", name)
    data = name.encode("utf-8", "surrogateescape")
    return name if len(data) <= MAX_NAME_BYTES else data[:MAX_NAME_BYTES].decode("utf-8", "ignore")


def apply_edit(edit: TextEdit) -> bool:
    """Change a text file as recorded, unless that has been done; return whether it was changed."""
    content = read_content(Path(edit.path))
    if content == encode_text(edit.text):
        return False
    if hash_content(content) != edit.original:
        logger.warning("%s: left as it is, because it was changed meanwhile", edit.path)
        return False
    write_text(edit.path, edit.text)
    return True


def undo_edit(edit: TextEdit) -> None:
    """Give a text file the content that it had before, if that can be made from what is recorded.

    That of a file that was overwritten is lost, and a file that was changed later stays.
    """
    path, lines = Path(edit.path), edit.text.split("\n")[:-1]
    if read_content(path) != encode_text(edit.text):
        return
    if not edit.original:
        path.unlink()
        return
    for rest in (lines[:-1], lines[1:]):
        text = "".join(f"{line}\n" for line in rest)
        for content in (text, text.removesuffix("\n")):
            if hash_content(encode_text(content)) == edit.original:
                write_text(path, content)
                return


def read_content(path: Path) -> bytes | None:
    """Return the content of a file, or None if there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


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
