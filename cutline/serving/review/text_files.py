"""Captions files whose entries are lines of text: what JSON Lines and tables have in common."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path

from cutline.config import DataSource
from cutline.errors import DataError
from cutline.serving.review.formats import CaptionFile, FileRow

BYTE_ORDER_MARK = "\ufeff"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


class TextCaptionFile(CaptionFile):
    """A captions file whose entries are one or several lines of text."""

    def __init__(self, source: DataSource) -> None:
        """Name the file, and how it is read."""
        super().__init__(source)
        self._entries: list[str] = []

    def read(self) -> list[FileRow | None]:
        """Return the entries of the file; None for one that is no row, or cannot be read."""
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise DataError(
                f"{self.path}: cannot be read ({error.strerror}); check the path and its "
                "permissions"
            ) from None
        if data.startswith(_UTF16_MARKS):
            raise DataError(f"{self.path}: in UTF-16; save the file as UTF-8 to review it")
        self._entries, rows = [], []
        # Bytes that are not UTF-8 stay what they are, as lone surrogates.
        for entry, row in self._parse(data.decode("utf-8", "surrogateescape")):
            self._entries.append(entry)
            if isinstance(row, DataError):
                self.errors.append(row)
            rows.append(row if isinstance(row, FileRow) else None)
        return rows

    @abstractmethod
    def _parse(self, text: str) -> Iterator[tuple[str, FileRow | DataError | None]]:
        """Yield the entries of a file, and what each row says."""

    def read_raw(self, position: int) -> str:
        """Return an entry, as text that the journal can keep."""
        return self._entries[position]

    def write(self, path: Path, entries: Sequence[int | str]) -> None:
        """Write a file in the same format; see `CaptionFile`."""
        texts = [self._entries[each] if isinstance(each, int) else each for each in entries]
        with path.open("wb") as file:
            for text, following in zip(texts, [*texts[1:], None], strict=True):
                file.write(text.encode("utf-8", "surrogateescape"))
                if following is not None and not text.endswith(("\n", "\r")):
                    file.write(b"\n")  # the last row of the file is not the last one any more


def check_encoding(entry: str, where: str) -> None:
    """Raise DataError if an entry has bytes that are not UTF-8, which are lone surrogates."""
    if entry.isascii():
        return
    try:
        entry.encode()
    except UnicodeEncodeError:
        raise DataError(f"{where}: not UTF-8 text; save the file as UTF-8") from None
