"""`ShardCopyOutput`: the tar shards of the source, with captions."""

import hashlib
import json
import os
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from cutline.bulk.index import is_in_part
from cutline.bulk.manifest import Manifest
from cutline.bulk.parts import Position
from cutline.bulk.record import Failure, Record
from cutline.bulk.shard_captions import CaptionedCopy, find_layout, list_members
from cutline.bulk.shard_output import ShardOutput
from cutline.bulk.text_names import path_for_id
from cutline.config import Existing
from cutline.data import Sample
from cutline.data.sample import stamp_image
from cutline.data.shards import SHARD_SUFFIXES
from cutline.data.tar import TAR_ERRORS
from cutline.data.tar_reader import TarSource
from cutline.data.tar_seekable import open_local_shard, open_seekable_tar
from cutline.errors import ConfigError
from cutline.messages import first_line, format_text


@dataclass
class _Shard:
    """A shard of the source, from when it is read until its copy is written."""

    path: str
    prefix: str
    copy: Path
    temporary: Path
    """where the source is kept from when it is first fetched until its copy is written"""
    stamp: str
    slots: "array[int]" = field(default_factory=lambda: array("q"))
    """samples that have captions, or will have them"""
    num_waiting: int = 0
    """samples that are not recorded yet"""
    is_read: bool = False
    captioned: set[str] | None = None
    """keys that have a caption in the source, if they are known"""

    def key_of(self, id: str) -> str:
        """Return the key of a sample, given its id."""
        return id[len(self.prefix) + 1 :]


class ShardCopyOutput(ShardOutput):
    """Copies of the tar shards of the source, with all their members, and captions.

    A copy is written when all samples of its shard are recorded; a single one at every stop.
    """

    def __init__(
        self,
        path: Path,
        extension: str,
        existing: Existing,
        *,
        is_single: bool = False,
        part: tuple[int, int] = (0, 1),
        open_shard: Callable[[str], IO[bytes]] = open_local_shard,
    ) -> None:
        """Choose where captions go, and what becomes of texts in the source.

        Args:
            path: The folder, or the single shard.
            extension: Extension of the members that have captions.
            existing: What becomes of a member that exists.
            is_single: Whether it is a single shard.
            part: I and N of part I/N of the collection, which has whole shards.
            open_shard: Opens a shard of the source, which may be compressed, for reading from front
                to back.

        Raises:
            ConfigError: Other members have the extension.
        """
        super().__init__(path, extension, is_single)
        self._existing, self._part, self._open_shard = existing, part, open_shard
        self._prefixes: set[str] = set()
        self._current: _Shard | None = None
        self._waiting: dict[int, _Shard] = {}  # by the slots of samples that are not recorded yet
        self._num_done = 0
        self._failures: list[Failure] = []

    # The thread that reads

    def begin_shard(self, path: str, prefix: str) -> bool:
        """Return whether this part of the collection has the shard.

        Raises:
            ConfigError: The shard would be replaced by its copy.
        """
        if prefix in self._prefixes or not is_in_part(prefix, self._part):
            return False
        copy = self._path if self._is_single else self._path / name_copy(prefix)
        if copy.exists() and os.path.exists(path) and copy.samefile(path):  # noqa: PTH110
            raise ConfigError(f"{path}: the source; name another folder as output")
        if self._current and not self._current.is_read:  # its end could not be read
            self._current.temporary.unlink(missing_ok=True)
        temporary = self._temporary / str(len(self._prefixes))
        self._prefixes.add(prefix)
        self._current = _Shard(path, prefix, copy, temporary, stamp_image(path))
        return True

    def end_shard(self) -> None:
        """Write the copy of the shard if all of its samples are recorded."""
        shard = self._current
        if shard is None:
            return
        with self._lock:
            shard.is_read = True
            is_ready = shard.num_waiting == 0 and not self._is_finished
        if is_ready:
            self._start_build(partial(self._build, shard))

    def part_key(self, sample: Sample) -> str:
        """Return the shard, all of whose samples belong to the same part."""
        return self._find_shard(sample).prefix

    def skips(self, sample: Sample) -> bool:
        """Return whether the shard has a text for the image, which is kept."""
        if self._existing != "skip":
            return False
        shard = self._find_shard(sample)
        if shard.captioned is None:
            shard.captioned = self._find_captioned(shard)
        return shard.key_of(sample.id) in shard.captioned

    def note(self, sample: Sample, done: bool) -> None:
        """Note that the copy of the shard will have a caption of the sample."""
        shard, slot = self._find_shard(sample), self._manifest.find_slot(sample.id)
        with self._lock:
            shard.slots.append(slot)
            if not done:
                shard.num_waiting += 1
                self._waiting[slot] = shard

    def _find_shard(self, sample: Sample) -> _Shard:
        """Return the shard of a sample that has just been read."""
        shard = self._current
        if shard is None or not sample.id.startswith(f"{shard.prefix}/"):
            raise ConfigError(
                f"{sample.name}: not in a tar shard, as other images are; caption it on its own"
            )
        return shard

    def _find_captioned(self, shard: _Shard) -> set[str]:
        try:
            with self._open(shard) as source:
                members = list_members(source, shard.path, is_whole=False)
        except (*TAR_ERRORS, CancelledError):  # which whoever reads the images reports
            return set()
        return set(find_layout(members, self._extension).texts)

    # The thread that writes

    def write(self, records: Sequence[Record]) -> None:
        """Write the copies of shards of which these are the last samples."""
        ready: list[_Shard] = []
        with self._lock:
            for record in records:
                shard = self._waiting.pop(self._manifest.find_slot(record.id), None)
                if shard:
                    shard.num_waiting -= 1
                    if shard.is_read and not shard.num_waiting:
                        ready.append(shard)
        for shard in ready:
            self._start_build(partial(self._build, shard))
        self._raise_error(wait=False)

    def finish(self, manifest: Manifest, complete: bool) -> None:
        """Wait for the copies; write a single one in any case."""
        with self._lock:
            self._is_finished = True
        if self._is_single and self._current:
            self._start_build(partial(self._build, self._current))
        self._raise_error(wait=True)

    def describe(self) -> list[str]:
        """Return where shards were written, how many, and how many are to come."""
        num_left = 0 if self._is_single else len(self._prefixes) - self._num_done
        (text,) = super().describe()
        return [f"{text}, {num_left:,} not complete yet" if num_left else text]

    def iter_failures(self) -> Iterator[Failure]:
        """Yield shards that could not be read again."""
        yield from self._failures

    # The thread that builds

    def _build(self, shard: _Shard) -> None:
        """Write the copy of a shard, unless it has been written from the same."""
        try:
            self._update_copy(shard)
        finally:
            shard.temporary.unlink(missing_ok=True)

    def _update_copy(self, shard: _Shard) -> None:
        with self._lock:
            slots = list(shard.slots)
        positions = list(filter(None, map(self._manifest.find_caption, slots)))
        content = self._describe_content(shard, positions)
        if self._read_content(shard.copy) != content:
            records = map(self._manifest.read_record, positions)
            captions = {shard.key_of(record.id): record.row["caption"] for record in records}
            try:
                self._write_copy(shard, captions)
            except TAR_ERRORS as error:
                reason = f"{format_text(shard.path)}: cannot be read again ({first_line(error)})"
                self._failures.append(Failure(shard.prefix, "data", reason))
                return
            self._write_content(shard.copy, content)
        self._num_done += 1

    def _describe_content(self, shard: _Shard, positions: Sequence[Position]) -> str:
        parts = self._stamp_parts(positions)
        values = [shard.stamp, self._extension, self._existing, positions, parts]
        return hashlib.sha256(json.dumps(values).encode()).hexdigest()

    def _open(self, shard: _Shard) -> AbstractContextManager[TarSource]:
        return open_seekable_tar(shard.path, self._open_shard, shard.temporary, self._check_open)

    def _write_copy(self, shard: _Shard, captions: Mapping[str, str]) -> None:
        with self._open(shard) as source:
            members = list_members(source, shard.path, is_whole=not shard.stamp)
            copy = CaptionedCopy(source, members, shard.path, self._extension, self._existing)
            with self._create(shard.copy) as tar:
                copy.write(tar, captions)


def name_copy(prefix: str) -> PurePosixPath:
    """Return the path of a shard's copy, given what the ids of its samples begin with."""
    suffix = next(filter(prefix.lower().endswith, SHARD_SUFFIXES), "")
    length = len(prefix) - len(suffix)
    stem = path_for_id(prefix[:length])
    return stem.with_name(f"{stem.name}{prefix[length:] or '.tar'}")
