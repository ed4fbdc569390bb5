"""`Manifest`: what a run has done so far, in a folder, so that no later run does it again."""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock

from cutline.bulk.index import NO_PART, NO_POSITION, SlotIndex, hash_stamp
from cutline.bulk.parts import CommitTimer, Parts, Position
from cutline.bulk.record import Failure, Record, join_columns
from cutline.bulk.state import check_settings, lock_state, make_folders, remove_folders
from cutline.errors import CutlineError, DataError


class Status(Enum):
    """What a run has to do with a sample."""

    NEW = "new"
    DONE = "done"
    FAILED = "failed"
    REPEATED = "repeated"
    """the source of this run contained the id before"""
    AMBIGUOUS = "ambiguous"
    """likewise, but with another image or prompt"""


class Manifest:
    """The records of a run, in parts that are written whole, and the settings that they hold for.

    Use it as a context manager; no two processes can open the same folder. One thread may claim ids
    while another adds records.

    Attributes:
        folder: The folder; None to keep records only until they are returned by `commit`.
        parts: The files of the records; None without a folder, or before it is open.
        columns: Names of the columns that rows have, in the order in which they first occurred.
        index: What is known of each id.
    """

    def __init__(self, folder: Path | None, settings: Mapping[str, Any] | None = None) -> None:
        """Name the folder, which `with` opens.

        Args:
            folder: The folder.
            settings: What the captions depend on, by name, in types of JSON.
        """
        self.folder, self._settings = folder, dict(settings or {})
        self.parts: Parts | None = None
        self.index = SlotIndex()
        self.columns: dict[str, None] = {}
        self._lock = threading.Lock()
        self._pending: list[tuple[int, Record]] = []
        self._next_position = 0
        self._timer = CommitTimer()
        self._file_lock: FileLock | None = None
        self._created: list[Path] = []  # folders, by this run

    def __enter__(self) -> Self:
        """Open the folder, and read the records that it holds.

        Raises:
            ConfigError: It belongs to a run with other settings.
            DataError: It cannot be read, or another run uses it.
        """
        if self.folder is None:
            return self
        self._created = make_folders(self.folder)
        self._file_lock = lock_state(self.folder)
        try:
            check_settings(self.folder, self._settings)
            self.parts = Parts(self.folder)
            self._read_parts(self.parts)
        except BaseException:
            self._file_lock.release()
            raise
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.parts is not None:
            self.parts.close()
        if self._file_lock is not None:
            self._file_lock.release()
        if isinstance(error, CutlineError) and self._created and not self.has_records:
            remove_folders(self._created)

    @property
    def has_records(self) -> bool:
        """Return whether there are records, be they committed or not."""
        return bool(self._pending or (self.parts and self.parts.numbers))

    def _read_parts(self, parts: Parts) -> None:
        for number in parts.numbers:
            self._read_part(number, parts.path(number))
        self.index.compact()

    def _read_part(self, number: int, path: Path) -> None:
        offset = 0
        with path.open("rb") as file:
            for line in file:
                try:
                    self._read_line(line, number, offset)
                except (ValueError, KeyError, TypeError, AttributeError):
                    raise DataError(
                        f"{path}: damaged at byte {offset:,}; remove this file, and its images are "
                        "captioned again"
                    ) from None
                offset += len(line)

    def _read_line(self, line: bytes, number: int, offset: int) -> None:
        values = json.loads(line)  # not a `Record`, which takes longer, for millions of lines
        slot = self.index.add(values["id"])
        row, kept, dropped = (values.get(name, ()) for name in ("row", "kept", "dropped"))
        failed, empty = "kind" in values, values.get("not_accepted") or (bool(dropped) and not kept)
        self.index.set_record(slot, values.get("stamp", ""), number, offset, failed, empty)
        self._add_columns(row, kept or dropped)

    def _add_columns(self, row: Mapping[str, Any], texts: Sequence[Mapping[str, Any]]) -> None:
        columns = join_columns(row, texts[0]) if texts else row
        self.columns.update(dict.fromkeys(columns))

    # Samples

    def claim(self, id: str, stamp: str, retry_failed: bool = False) -> Status:
        """Note that the source of this run contains an id, and return what is to be done with it.

        Args:
            id: The id.
            stamp: What changes when its image does; empty if unknown.
            retry_failed: Whether failures are new.
        """
        with self._lock:
            slot = self.index.add(id)
            if self.index.positions[slot] != NO_POSITION:
                is_same = self.index.stamps[slot] == hash_stamp(stamp)
                return Status.REPEATED if is_same or not stamp else Status.AMBIGUOUS
            self.index.positions[slot] = self._next_position
            self._next_position += 1
            is_changed = bool(stamp) and self.index.stamps[slot] != hash_stamp(stamp)
            if is_changed:
                self.index.stamps[slot] = hash_stamp(stamp)
            if self.index.parts[slot] == NO_PART or is_changed:
                return Status.NEW
            if self.index.failed[slot]:
                return Status.NEW if retry_failed else Status.FAILED
            return Status.DONE

    # Records

    def add(self, record: Record) -> None:
        """Add a record to the next part."""
        with self._lock:
            self._pending.append((self.index.add(record.id), record))
            self._add_columns(record.row, record.kept or record.dropped)

    def is_due(self) -> bool:
        """Return whether to commit; what is not written to a folder need not wait."""
        if self.folder is None:
            return bool(self._pending)
        return self._timer.is_due(len(self._pending))

    def commit(self) -> list[Record]:
        """Write the records that were added to a part, which survives whatever happens now.

        Returns:
            The records.
        """
        pending = self._pending
        if pending and self.parts is not None:
            lines = [record.to_json() for _, record in pending]
            number, offset = self.parts.write(lines), 0
            with self._lock:
                for (slot, record), line in zip(pending, lines, strict=True):
                    failed, empty = bool(record.kind), record.is_empty
                    self.index.set_record(slot, record.stamp, number, offset, failed, empty)
                    offset += len(line)
        self._pending = []
        self._timer.restart()
        return [record for _, record in pending]

    def find_record(self, id: str) -> Record | None:
        """Return the last record of an id, or None."""
        with self._lock:
            slot = self.index.find(id)
            if slot is None or self.index.parts[slot] == NO_PART:
                return None
            return self._read_record(self._position(slot))

    def find_slot(self, id: str) -> int:
        """Return the slot of an id, which the source contains or a record has."""
        with self._lock:
            return self.index.add(id)

    def find_caption(self, slot: int) -> Position | None:
        """Return where the last record of a slot is, if that has a text."""
        with self._lock:
            index = self.index
            if index.parts[slot] == NO_PART or index.failed[slot] or index.empty[slot]:
                return None
            return self._position(slot)

    def read_record(self, position: Position) -> Record:
        """Return a record."""
        with self._lock:
            return self._read_record(position)

    def _position(self, slot: int) -> Position:
        return self.index.parts[slot], self.index.offsets[slot]

    def _read_record(self, position: Position) -> Record:
        assert self.parts is not None  # there are no positions without parts
        return self.parts.read(position)

    def iter_records(self, seen_only: bool) -> Iterator[Record]:
        """Yield the last record of each id: those of this run's source in its order, then others.

        Args:
            seen_only: Whether to leave out the others, which the source does not contain any more.
        """
        for slot in self.index.order(seen_only):
            with self._lock:
                record = self._read_record(self._position(slot))
            yield record

    def count_gone(self) -> int:
        """Return the number of captions of ids that the source of this run has not contained."""
        index = self.index
        return sum(index.positions[slot] == NO_POSITION for slot in index.captioned)

    def iter_failures(self, seen_only: bool) -> Iterator[Failure]:
        """Yield the failures, in the same order."""
        if not any(self.index.failed):
            return
        for slot in self.index.order(seen_only):
            if self.index.failed[slot]:
                with self._lock:
                    failure = self._read_record(self._position(slot)).failure
                assert failure is not None
                yield failure

    def read_last_part(self) -> list[Record]:
        """Return the records of the last part, of which a killed run may not have written all."""
        return self.parts.read_last() if self.parts else []
