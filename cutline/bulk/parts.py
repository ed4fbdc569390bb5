"""`Parts`: records in numbered files, written whole or not at all. `CommitTimer` tells when."""

import re
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TypeAlias

from cutline.bulk.record import Record
from cutline.files import atomic_write, remove_partial

Position: TypeAlias = tuple[int, int]
"""where a record is: number of the part, and position in it in bytes"""
MAX_OPEN = 32
"""parts that are open for reading at the same time"""
PART_NAME = re.compile(r"part-(\d{8})\.jsonl")
MAX_PART_RECORDS = 1000
MIN_PART_SECONDS, MAX_PART_SECONDS = 0.5, 30.0
"""seconds of work that a killed run loses: at first, and after an hour"""


class CommitTimer:
    """Tells when to write the next part: after some seconds, more of them in a longer run."""

    def __init__(self) -> None:
        """Start with the run."""
        self._start = self._last_commit = time.monotonic()

    def is_due(self, num_pending: int) -> bool:
        """Return whether to write so many records now."""
        now = time.monotonic()
        wait = min(MAX_PART_SECONDS, max(MIN_PART_SECONDS, (now - self._start) / 120))
        is_late = now - self._last_commit >= wait
        return num_pending > 0 and (is_late or num_pending >= MAX_PART_RECORDS)

    def restart(self) -> None:
        """Count the seconds from now."""
        self._last_commit = time.monotonic()


class Parts:
    """The parts in a folder. Records are lines of JSON; parts are numbered from 1."""

    def __init__(self, folder: Path) -> None:
        """Find the parts; remove what a killed run has left of the next one."""
        self._folder = folder
        self._open: OrderedDict[int, IO[bytes]] = OrderedDict()
        names = filter(None, (PART_NAME.fullmatch(path.name) for path in folder.iterdir()))
        self.numbers = sorted(int(name[1]) for name in names)
        remove_partial([self.path(self._next_number)])

    @property
    def _next_number(self) -> int:
        return self.numbers[-1] + 1 if self.numbers else 1

    def path(self, number: int) -> Path:
        """Return the file of a part."""
        return self._folder / f"part-{number:08}.jsonl"

    def write(self, lines: Sequence[bytes]) -> int:
        """Write the next part, and return its number."""
        number = self._next_number
        with atomic_write(self.path(number)) as temporary:
            temporary.write_bytes(b"".join(lines))
        self.numbers.append(number)
        return number

    def read(self, position: Position) -> Record:
        """Return the record at a position."""
        number, offset = position
        file = self._open.pop(number, None) or self.path(number).open("rb")
        self._open[number] = file
        if len(self._open) > MAX_OPEN:
            self._open.popitem(last=False)[1].close()
        file.seek(offset)
        return Record.from_json(file.readline())

    def read_last(self) -> list[Record]:
        """Return the records of the last part."""
        return list(self.iter_part(self.numbers[-1])) if self.numbers else []

    def iter_part(self, number: int) -> Iterator[Record]:
        """Yield the records of a part."""
        with self.path(number).open("rb") as file:
            yield from map(Record.from_json, file)

    def close(self) -> None:
        """Close the files that are open for reading."""
        while self._open:
            self._open.popitem()[1].close()
