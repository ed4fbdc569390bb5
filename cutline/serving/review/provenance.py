"""`Provenance`: which captions runs of `cutline caption` have written, as their manifests say."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from filelock import FileLock

from cutline.bulk.destination import STATE_FOLDER, Destination
from cutline.bulk.parts import Parts
from cutline.bulk.record import Record
from cutline.bulk.state import has_state, lock_state
from cutline.bulk.text_edit import encode_text
from cutline.errors import DataError


@dataclass(frozen=True, slots=True)
class Origin:
    """What a manifest has recorded of a caption."""

    texts: frozenset[str]
    """what was written: captions in a table, or the content of a text file"""
    confidence: float | None
    part: Path
    """the file of the record, and where it is there"""
    offset: int

    def read_columns(self) -> dict[str, Any]:
        """Return the columns of the record, such as `words`."""
        with self.part.open("rb") as file:
            file.seek(self.offset)
            return Record.from_json(file.readline()).row


class Provenance:
    """What the manifests beside some data have recorded; no run can go on while it is open."""

    def __init__(self, states: Iterable[Path]) -> None:
        """Read manifests.

        Args:
            states: Their folders.

        Raises:
            DataError: A run uses one of them, or it is damaged.
        """
        self._origins: dict[str, Origin] = {}
        self._locks: list[FileLock] = []
        try:
            for state in states:
                self._locks.append(lock_state(state))
                for key, origin in _iter_origins(state):
                    self._origins[key] = origin
        except BaseException:
            self.close()
            raise

    @classmethod
    def of_file(cls, path: Path) -> Self:
        """Return what is recorded of a captions file; its rows are known by ids and names."""
        state = Destination("file", path).state
        return cls([state] if state and has_state(state) else [])

    @classmethod
    def of_folder(cls, folder: Path) -> Self:
        """Return what is recorded of text files, which are known by their paths."""
        folder = folder.resolve()
        states = (path for each in (folder, *folder.parents) for path in _list_states(each))
        return cls(states)

    def close(self) -> None:
        """Let runs go on."""
        while self._locks:
            self._locks.pop().release()

    def find(self, key: str) -> Origin | None:
        """Return what is recorded of an id, the name of an image or the path of a text file."""
        return self._origins.get(key)


def _list_states(folder: Path) -> list[Path]:
    """Return the folders of the manifests of text files beside images."""
    return sorted(filter(has_state, folder.glob(f"{STATE_FOLDER}/*")))


def _iter_origins(state: Path) -> Iterator[tuple[str, Origin]]:
    parts = Parts(state)
    for number in parts.numbers:
        path, offset = parts.path(number), 0
        with path.open("rb") as file:
            for line in file:
                try:
                    record = Record.from_json(line)
                except (ValueError, TypeError):
                    raise DataError(f"{path}: damaged at byte {offset:,}; remove it") from None
                yield from _describe_record(record, state, path, offset)
                offset += len(line)


def _describe_record(
    record: Record, state: Path, part: Path, offset: int
) -> Iterator[tuple[str, Origin]]:
    """Yield what a record says by each name under which it may be looked up."""
    texts, confidence = frozenset(record.texts), record.row.get("confidence")
    if record.edit is None:
        origin = Origin(texts, confidence, part, offset)
        for name in {record.id, *(record.row.get(key, "") for key in ("image", "file_name"))}:
            yield name, origin
    elif not record.edit.without:  # else there are captions of somebody else in the file, too
        content = encode_text(record.edit.text).decode("utf-8", "surrogateescape")
        root = state.parent.parent  # of the images
        yield str(root / record.edit.path), Origin(frozenset([content]), confidence, part, offset)
