"""`SidecarStore`: a folder of images with text files beside them, which change step by step."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cutline.bulk.text_edit import read_content
from cutline.bulk.text_names import has_namesake
from cutline.data.names import list_sidecar_names
from cutline.data.text import decode_text, split_lines
from cutline.data.walk import ImageFile, walk_images
from cutline.data.write import not_writable
from cutline.errors import DataError
from cutline.files import atomic_write, check_writable, remove_partial
from cutline.serving.review.journal import Journal
from cutline.serving.review.provenance import Provenance
from cutline.serving.review.replay import replay_journal
from cutline.serving.review.row import Row, RowId
from cutline.serving.review.store import CaptionStore

Contents = dict[str, str]
"""contents of the text files of an image by name; what is not UTF-8 as lone surrogates"""


class SidecarStore(CaptionStore):
    """A folder of images with text files beside them.

    An image may have several text files, of which the first counts. A rejected image has none.
    """

    def __init__(self, folder: Path, journal: Journal, provenance: Provenance) -> None:
        """Read the folder, and what the journal says of it.

        Raises:
            DataError: One of them cannot be read or written.
        """
        self.folder, self.journal, self._provenance = folder, journal, provenance
        self.name = folder.resolve().name
        check_writable(folder)
        self.replay = replay_journal(journal.read())
        self.errors: list[DataError] = []
        self.rows, self._ids = {}, dict[RowId, Row]()
        self._first_names: dict[RowId, str] = {}
        """name of the text file that each image had when it was read"""
        for found in walk_images(folder):
            if isinstance(found, DataError):
                self.errors.append(found)
            elif isinstance(found, ImageFile):
                self._add(found)
        known = [row for row in self.rows.values() if row.id in self.replay.rows]
        self._reload_changed(known)

    def _add(self, image: ImageFile) -> None:
        name = os.path.relpath(image.path, self.folder).replace(os.sep, "/")
        row = Row(len(self.rows), name, name, image.path, "", has_lines=True)
        if image.sidecar:
            content = _read_text(Path(image.sidecar))
            try:
                row.text = _parse_text(content, image.sidecar)
            except DataError as error:
                self.errors.append(error)
                return
            self._first_names[name] = os.path.basename(image.sidecar)  # noqa: PTH119
            self._add_origin(row, image.sidecar, content)
        if known := self.replay.rows.get(name):
            known.restore(row)
        self.rows[row.number] = self._ids[name] = row

    def _add_origin(self, row: Row, sidecar: str, content: str | None) -> None:
        origin = self._provenance.find(os.path.realpath(sidecar))
        if origin and content in origin.texts:
            row.is_own, row.confidence = False, origin.confidence

    def find_row(self, id: RowId) -> Row | None:
        """Return the row with an id."""
        return self._ids.get(id)

    def refresh(self, rows: Sequence[Row]) -> None:
        """Let rows whose text files somebody else has changed have the new texts."""
        self._reload_changed(rows)
        self.apply(rows)  # what could not be written after the last step

    def _reload_changed(self, rows: Sequence[Row]) -> None:
        texts = {}
        for row in rows:
            text = self._read_current(row)
            known = self.replay.rows.get(row.id)
            if text not in ((known.data_text, known.last_text) if known else (row.text,)):
                texts[row.number] = text
        if texts:
            self.reload(texts)

    # Text files

    def _read_current(self, row: Row) -> str:
        """Return the text of the first file that an image has; empty if there is none."""
        contents = self._read_contents(row)
        name = next(iter(contents), "")
        return _parse_text(contents[name], str(self._parent(row) / name)) if name else ""

    def _read_contents(self, row: Row) -> Contents:
        """Return the text files that an image has, the one that counts first."""
        folder = self._parent(row)
        names = list_sidecar_names(os.path.basename(row.name))  # noqa: PTH119
        contents = {name: _read_text(folder / name) for name in dict.fromkeys(names)}
        return {name: content for name, content in contents.items() if content is not None}

    def _parent(self, row: Row) -> Path:
        return (self.folder / row.name).parent

    def _list_wanted(self, row: Row) -> dict[str, str | None]:
        """Return the text files that the review changes, with contents; None for no file."""
        if row.base is None or not isinstance(row.base.raw, dict):
            return {}  # nothing of it has been replaced
        base = row.base.raw
        name = next(iter(base), "") or self._name_file(row)
        if row.state == "rejected":
            return {name: None, **dict.fromkeys(base)}
        if row.text == row.base.text:
            return {name: None, **base}
        return {**base, name: f"{row.text}\n"}

    def _name_file(self, row: Row) -> str:
        """Return the name of the text file of an image that had none."""
        path = os.path.join(self.folder, row.name)  # noqa: PTH118
        name = os.path.basename(row.name)  # noqa: PTH119
        return f"{name if has_namesake(path, '.txt') else os.path.splitext(name)[0]}.txt"  # noqa: PTH122

    def read_raw(self, row: Row) -> Contents:
        """Return the text files of an image."""
        return self._read_contents(row)

    def read_columns(self, row: Row) -> dict[str, Any]:
        """Return what the manifest says of a caption, such as its words."""
        if (name := self._first_names.get(row.id)) is None:
            return {}
        origin = self._provenance.find(os.path.realpath(self._parent(row) / name))
        return origin.read_columns() if origin else {}

    def apply(self, rows: Sequence[Row]) -> None:
        """Write the text files of images.

        Raises:
            DataError: One cannot be written; the next step of the row, or review, does it.
        """
        for row in rows:
            folder = self._parent(row)
            for name, content in self._list_wanted(row).items():
                try:
                    _write_file(folder / name, content)
                except OSError as error:
                    raise not_writable(str(folder / name), error) from None

    def bring_up_to_date(self) -> bool:
        """Write the text files that are not what the journal says; return false."""
        changed = [row for row in self.rows.values() if row.base is not None]
        remove_partial(
            self._parent(row) / name for row in changed for name in self._list_wanted(row)
        )
        self.apply(changed)
        return False

    def describe(self) -> str:
        """Return what has been written where, in a few words."""
        return f"text files beside the images in {self.folder}"

    def close(self) -> None:
        """Let others use the data."""
        self._provenance.close()
        self.journal.close()


def _read_text(path: Path) -> str | None:
    content = read_content(path)
    return None if content is None else content.decode("utf-8", "surrogateescape")


def _parse_text(content: str | None, name: str) -> str:
    """Return the captions in a text file, one on each line."""
    data = (content or "").encode("utf-8", "surrogateescape")
    return "\n".join(split_lines(decode_text(data, name)))


def _write_file(path: Path, content: str | None) -> None:
    """Give a file a content, or remove it."""
    if _read_text(path) == content:
        return
    if content is None:
        path.unlink()
        return
    with atomic_write(path) as temporary:
        temporary.write_bytes(content.encode("utf-8", "surrogateescape"))
