"""`Journal`: the file to which a review appends every step, and from which it goes on."""

import json
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from cutline.data.write import not_writable
from cutline.errors import DataError

JOURNAL_NAME = ".cutline-review.jsonl"
_BLOCK = 65536
"""bytes that are searched at once for the end of a line"""


class Journal:
    """Lines of JSON, each on the disk before the next thing happens.

    A line that a killed process has not written to its end is dropped. Several captions files of a
    folder share a journal: each line names its data.
    """

    def __init__(self, folder: Path, data: str) -> None:
        """Open the journal of a folder, which no other process may use meanwhile.

        Args:
            folder: The folder.
            data: Name of the captions file in it; "" for text files beside images.

        Raises:
            DataError: Another review uses it, or it cannot be read or written.
        """
        self.path, self._data = folder / JOURNAL_NAME, data
        self._lock = FileLock(self.path.with_suffix(".lock"))
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise DataError(f"{folder}: another review is open there; close it first") from None
        except OSError as error:
            raise not_writable(str(self.path), error) from None
        try:
            self._file = self._open()
        except BaseException:
            self._lock.release()
            raise

    def _open(self) -> IO[bytes]:
        try:
            file = self.path.open("a+b", buffering=0)
            self._end = _find_end(file)
            file.truncate(self._end)
            _sync_folder(self.path.parent)
        except OSError as error:
            raise not_writable(str(self.path), error) from None
        return file

    def close(self) -> None:
        """Close the journal, so that another review can open it."""
        self._file.close()
        self._lock.release()

    def append(self, values: Mapping[str, Any]) -> None:
        """Append a line, with the time; it is on the disk when this returns.

        Raises:
            DataError: The line cannot be written; nothing of it is left.
        """
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        # ASCII, so that bytes of any encoding, as lone surrogates, can be written.
        line = json.dumps({"time": time, "data": self._data, **values}).encode() + b"\n"
        try:
            _write_all(self._file, line)
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(self._end)
            raise not_writable(str(self.path), error) from None
        self._end += len(line)

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield the lines of this data.

        Raises:
            DataError: A line is damaged.
        """
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    values = json.loads(line)
                    is_ours = values["data"] == self._data
                except (ValueError, KeyError, TypeError):
                    raise DataError(
                        f"{self.path}, line {number}: damaged; move the file away to begin a new "
                        "review"
                    ) from None
                if is_ours:
                    yield values


def _find_end(file: IO[bytes]) -> int:
    """Return the position after the last complete line."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - _BLOCK)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def _write_all(file: IO[bytes], data: bytes) -> None:
    while data:  # an unbuffered file may take a part
        data = data[file.write(data) :]


def _sync_folder(folder: Path) -> None:
    """Let the name of a new file survive a crash of the machine."""
    if os.name == "nt":  # which cannot open folders
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
