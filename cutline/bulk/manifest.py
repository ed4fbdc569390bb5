"""`Manifest`: what a run has done so far, in a folder, so that no later run does it again."""

import json
import re
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeAlias

from filelock import FileLock, Timeout

from cutline.bulk.index import NO_PART, NO_POSITION, SlotIndex, hash_stamp
from cutline.bulk.record import Failure, Record
from cutline.errors import ConfigError, CutlineError, DataError
from cutline.files import atomic_write, remove_partial
from cutline.messages import format_value

VERSION = 1
Position: TypeAlias = tuple[int, int]
"""where a record is: number of the part, and position in it in bytes"""
MAX_PART_RECORDS = 1000
MIN_PART_SECONDS, MAX_PART_SECONDS = 0.5, 30.0
"""seconds of work that a killed run loses: at first, and after an hour"""
MAX_OPEN_PARTS = 32
_PART = re.compile(r"part-(\d{8})\.jsonl")


class Status(Enum):
    """What a run has to do with a sample."""

    NEW = "new"
    DONE = "done"
    FAILED = "failed"
    REPEATED = "repeated"
    """the source of this run contained the id before"""


class Manifest:
    """The records of a run, in parts that are written whole, and the settings that they hold for.

    Use it as a context manager; no two processes can open the same folder. One thread may claim ids
    while another adds records.

    Attributes:
        folder: The folder; None to keep records only until they are returned by `commit`.
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
        self.index = SlotIndex()
        self.columns: dict[str, None] = {}
        self._lock = threading.Lock()
        self._pending: list[tuple[int, Record]] = []
        self._next_position = 0
        self._next_part = 1
        self._open_parts: OrderedDict[int, IO[bytes]] = OrderedDict()
        self._start = self._last_commit = time.monotonic()
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
        self._created = [path for path in (self.folder, *self.folder.parents) if not path.exists()]
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file_lock = _lock_folder(self.folder)
        try:
            self._check_settings(self.folder / "manifest.json")
            self._read_parts(self.folder)
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
        for file in self._open_parts.values():
            file.close()
        self._open_parts.clear()
        if self._file_lock is not None:
            self._file_lock.release()
        if isinstance(error, CutlineError) and self._created and not self.has_records:
            self._remove_created()

    def _remove_created(self) -> None:
        """Leave no trace of a run that has not even begun."""
        shutil.rmtree(self._created[0], ignore_errors=True)
        with suppress(OSError):  # other files are there
            for folder in self._created[1:]:
                folder.rmdir()

    @property
    def has_records(self) -> bool:
        """Return whether there are records, be they committed or not."""
        return self._next_part > 1 or bool(self._pending)

    def _check_settings(self, path: Path) -> None:
        # As they are read again: with lists instead of tuples.
        settings = json.loads(json.dumps({"version": VERSION, **self._settings}))
        if not path.exists():
            with atomic_write(path) as temporary:
                temporary.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
            return
        recorded = _read_settings(path)
        names = dict.fromkeys([*recorded, *settings])
        differences = [
            f"{name} was {_describe(recorded, name)}, and is {_describe(settings, name)}"
            for name in names
            if recorded.get(name) != settings.get(name)
        ]
        if differences:
            raise ConfigError(
                f"{path.parent}: the run there has other settings ({'; '.join(differences)}); "
                "use the same settings, name another output, or start again with --new-run"
            )

    def _read_parts(self, folder: Path) -> None:
        parts = sorted(name for path in folder.iterdir() if _PART.fullmatch(name := path.name))
        for name in parts:
            number = int(name[5:13])
            self._next_part = number + 1
            with (folder / name).open("rb") as file:
                self._read_part(number, file)
        self.index.compact()
        remove_partial([self._part_path(self._next_part), folder / "manifest.json"])

    def _read_part(self, number: int, file: IO[bytes]) -> None:
        offset = 0
        for line in file:
            try:
                values = json.loads(line)
                slot = self.index.add(values["id"])
                stamp = values.get("stamp", "")
                self.index.set_record(slot, stamp, number, offset, "kind" in values)
                self.columns.update(dict.fromkeys(values.get("row", ())))
            except (ValueError, KeyError, TypeError, AttributeError):
                raise DataError(
                    f"{file.name}: damaged at byte {offset:,}; remove this file, and its images "
                    "are captioned again"
                ) from None
            offset += len(line)

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
                return Status.REPEATED
            self.index.positions[slot] = self._next_position
            self._next_position += 1
            if self.index.parts[slot] == NO_PART:
                return Status.NEW
            if stamp and self.index.stamps[slot] != hash_stamp(stamp):
                return Status.NEW
            if self.index.failed[slot]:
                return Status.NEW if retry_failed else Status.FAILED
            return Status.DONE

    # Records

    def add(self, record: Record) -> None:
        """Add a record to the next part."""
        with self._lock:
            self._pending.append((self.index.add(record.id), record))
            self.columns.update(dict.fromkeys(record.row))

    def is_due(self) -> bool:
        """Return whether to commit: after some seconds, more of them in a longer run.

        What is not written to a folder need not wait.
        """
        if self.folder is None:
            return bool(self._pending)
        now = time.monotonic()
        wait = min(MAX_PART_SECONDS, max(MIN_PART_SECONDS, (now - self._start) / 120))
        full = len(self._pending) >= MAX_PART_RECORDS
        return bool(self._pending) and (full or now - self._last_commit >= wait)

    def commit(self) -> list[Record]:
        """Write the records that were added to a part, which survives whatever happens now.

        Returns:
            The records.
        """
        with self._lock:
            pending = self._pending
        if pending and self.folder is not None:
            number, offset = self._next_part, 0
            lines = [record.to_json() for _, record in pending]
            with atomic_write(self._part_path(number)) as temporary:
                temporary.write_bytes(b"".join(lines))
            self._next_part += 1
            with self._lock:
                for (slot, record), line in zip(pending, lines, strict=True):
                    self.index.set_record(slot, record.stamp, number, offset, bool(record.kind))
                    offset += len(line)
        self._pending = []
        self._last_commit = time.monotonic()
        return [record for _, record in pending]

    def _part_path(self, number: int) -> Path:
        assert self.folder is not None
        return self.folder / f"part-{number:08}.jsonl"

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
        """Return where the last record of a slot is, if that is a caption."""
        with self._lock:
            if self.index.parts[slot] == NO_PART or self.index.failed[slot]:
                return None
            return self._position(slot)

    def read_record(self, position: Position) -> Record:
        """Return a record."""
        with self._lock:
            return self._read_record(position)

    def _position(self, slot: int) -> Position:
        return self.index.parts[slot], self.index.offsets[slot]

    def _read_record(self, position: Position) -> Record:
        part, offset = position
        file = self._open_parts.pop(part, None) or self._part_path(part).open("rb")
        self._open_parts[part] = file
        if len(self._open_parts) > MAX_OPEN_PARTS:
            self._open_parts.popitem(last=False)[1].close()
        file.seek(offset)
        return Record.from_json(file.readline())

    def iter_records(self, seen_only: bool) -> Iterator[Record]:
        """Yield the last record of each id: those of this run's source in its order, then others.

        Args:
            seen_only: Whether to leave out the others, which the source does not contain any more.
        """
        for slot in self.index.order(seen_only):
            with self._lock:
                record = self._read_record(self._position(slot))
            yield record

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
        if self.folder is None or self._next_part == 1:
            return []
        with self._part_path(self._next_part - 1).open("rb") as file:
            return [Record.from_json(line) for line in file]


def _describe(settings: Mapping[str, Any], name: str) -> str:
    if name not in settings:
        return "the default"
    return "not given" if settings[name] is None else format_value(settings[name])


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(settings, dict):
            return settings
    except ValueError:
        pass
    raise DataError(f"{path}: damaged; start again with --new-run")


def _lock_folder(folder: Path) -> FileLock:
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise DataError(
            f"{folder}: another run writes there; wait for it, or name another output"
        ) from None
    return lock


def remove_manifest(folder: Path, forget: Callable[[Record], None]) -> None:
    """Remove the folder of a manifest, if it exists.

    Args:
        folder: The folder.
        forget: Called with each record, to undo what was written for it.

    Raises:
        DataError: It holds other files than those of a manifest, or another run uses it.
    """
    if not folder.exists():
        return
    if not (folder / "manifest.json").is_file() and any(folder.iterdir()):
        raise DataError(f"{folder}: not the state of a run; move it away, or name another output")
    lock = _lock_folder(folder)
    try:
        for path in sorted(folder.glob("part-*.jsonl")):
            with path.open("rb") as file, suppress(ValueError, TypeError):  # damaged
                for line in file:
                    forget(Record.from_json(line))
    finally:
        lock.release()
    shutil.rmtree(folder)
