"""`NewShardOutput`: tar shards of images that come from anywhere, with their captions."""

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tarfile import TarError

from cutline.bulk.held_image import HeldImage, SavedImage, hold_sample
from cutline.bulk.manifest import Manifest
from cutline.bulk.parts import Position
from cutline.bulk.record import Failure, Record
from cutline.bulk.shard_groups import add_sample, open_old_shard
from cutline.bulk.shard_output import ShardOutput
from cutline.bulk.shard_plan import PlannedSample, ShardPlan
from cutline.data import Sample
from cutline.data.tar_writer import TarWriter
from cutline.errors import DataError, ImageError
from cutline.messages import one_line


class NewShardOutput(ShardOutput):
    """New shards of so many images each, in the order in which they were captioned first.

    An image stays in its shard. A shard is written when it is full, the last one at every stop. It
    is built from the shard that is there and from what changed, so that only images which are in no
    shard yet are held.
    """

    def __init__(
        self, path: Path, extension: str, shard_size: int | None, suffix: str = ""
    ) -> None:
        """Choose where shards are written.

        Args:
            path: The folder, or the single shard.
            extension: Extension of the members that have captions.
            shard_size: Images in a shard; None for a single one.
            suffix: End of the names of a part of the collection, such as -00003-of-00016.

        Raises:
            ConfigError: Other members have the extension.
        """
        super().__init__(path, extension, is_single=shard_size is None)
        self._shard_size, self._suffix = shard_size or sys.maxsize, suffix
        self._plan = ShardPlan(self._manifest, self._shard_size)
        # Shards that are not as they should be, with the slots whose images are not there yet.
        self._missing: dict[int, set[int]] = {}
        self._arriving: dict[int, HeldImage] = {}
        self._held: dict[int, HeldImage] = {}  # of recorded captions
        self._failures: dict[str, Failure] = {}  # by id

    def resume(self, manifest: Manifest) -> None:
        """Find the shards that are not as they should be."""
        super().resume(manifest)
        self._plan = ShardPlan(manifest, self._shard_size)
        for number in range(len(self._plan)):
            expected = [position for _, position in self._plan.iter_shard(number)]
            if self._read_shard(number) != expected:
                self._missing[number] = self._find_missing(number)

    # The thread that reads

    def note(self, sample: Sample, done: bool) -> None:
        """Hold the image of a sample until its shard is written."""
        build = None
        with self._lock:
            if done and not self._missing:
                return
            slot = self._manifest.find_slot(sample.id)
            number = self._plan.number_of(slot)
            if self._is_finished or (done and slot not in self._missing.get(number, ())):
                return
            held = hold_sample(sample, self._temporary / str(slot))
            if done:
                self._held[slot] = held
                self._missing[number].discard(slot)
                build = self._make_build_if_ready(number)
            else:
                self._arriving[slot] = held
        if build:
            self._start_build(build)

    def prepare(self, sample: Sample) -> Sample:
        """Return a sample that has been noted so that its image is kept when it is fetched."""
        with self._lock:
            held = self._arriving.get(self._manifest.find_slot(sample.id))
        if held and isinstance(held.image, SavedImage):
            return replace(sample, image=held.image)
        return sample

    # The thread that writes

    def write(self, records: Sequence[Record]) -> None:
        """Write the shards that these records complete."""
        with self._lock:
            touched = {number for record in records if (number := self._note_record(record)) >= 0}
            builds = list(filter(None, map(self._make_build_if_ready, sorted(touched))))
        for build in builds:
            self._start_build(build)
        self._raise_error(wait=False)

    def _note_record(self, record: Record) -> int:
        """Note a record, and return the number of its shard; -1 if it never had a caption."""
        slot = self._manifest.find_slot(record.id)
        if held := self._arriving.pop(slot, None):
            if record.kind or record.is_empty:
                held.release()
            else:
                self._held[slot] = held
        number = self._plan.number_of(slot)
        if number >= 0:
            if number not in self._missing:
                self._missing[number] = self._find_missing(number)
            self._missing[number].discard(slot)
        return number

    def finish(self, manifest: Manifest, complete: bool) -> None:
        """Write all shards that are not as they should be, with the images that are there."""
        with self._lock:
            self._is_finished = True
            if self._is_single:
                self._missing.setdefault(0, set())
            for number in self._plan.find_outdated() if complete else ():
                self._missing.setdefault(number, set())
        for number in sorted(self._missing):
            with self._lock:
                build = self._make_build(number, seen_only=complete)
            self._start_build(build)
        self._raise_error(wait=True)
        if complete and not self._is_single:
            self._remove_excess()

    def iter_failures(self) -> Iterator[Failure]:
        """Yield the images that could not be read again, and are in no shard."""
        yield from self._failures.values()

    def _remove_excess(self) -> None:
        """Remove shards beyond the last one, from before --new-run or with another shard size."""
        name = re.compile(rf"(\d{{5,}}){re.escape(self._suffix)}\.tar")
        for path in self._path.glob(f"*{self._suffix}.tar"):
            match = name.fullmatch(path.name)
            if match and int(match[1]) >= len(self._plan):
                path.unlink()

    # What is there

    def _path_of(self, number: int) -> Path:
        return self._path if self._is_single else self._path / f"{number:05}{self._suffix}.tar"

    def _read_shard(self, number: int) -> list[Position]:
        """Return the records that a shard was built from."""
        return self._read_positions(self._path_of(number)) or []

    def _find_missing(self, number: int) -> set[int]:
        """Return the slots whose images are neither in the shard nor held."""
        there = set(self._read_shard(number))
        return {
            slot
            for slot, position in self._plan.iter_shard(number)
            if position not in there and slot not in self._held
        }

    def _make_build_if_ready(self, number: int) -> Callable[[], None] | None:
        if self._missing.get(number, True) or not self._plan.is_full(number):
            return None
        return self._make_build(number, seen_only=False)

    def _make_build(self, number: int, seen_only: bool) -> Callable[[], None]:
        """Return a function that builds a shard of what is there now."""
        del self._missing[number]
        samples = list(self._plan.iter_shard(number, seen_only))
        images = {slot: self._held[slot] for slot, _ in samples if slot in self._held}
        return partial(self._build, self._path_of(number), samples, images, is_final=seen_only)

    # The thread that builds

    def _build(
        self,
        path: Path,
        samples: Sequence[PlannedSample],
        images: Mapping[int, HeldImage],
        is_final: bool,
    ) -> None:
        """Build a shard, unless it is as it should be, or is to be left until more is there.

        Args:
            path: The shard.
            samples: What it should contain.
            images: Images by slots.
            is_final: Whether no more will be there.
        """
        known = self._read_positions(path)
        old = known or []
        there = set(old)
        available = [each for each in samples if each.position in there or each.slot in images]
        # A file that was not built here may have what is not available.
        is_foreign = known is None and path.exists()
        is_enough = len(available) == len(samples) or ((is_final or not is_foreign) and available)
        if not samples and not self._is_single:
            path.unlink(missing_ok=True)
        elif is_enough and known != [position for _, position in available]:
            self._write_positions(path, self._write_shard(path, old, available, images))
        with self._lock:
            for slot, image in images.items():
                self._held.pop(slot, None)
                image.release()

    def _write_shard(
        self,
        path: Path,
        old: Sequence[Position],
        samples: Sequence[PlannedSample],
        images: Mapping[int, HeldImage],
    ) -> list[Position]:
        """Write a shard; return the records that are in it.

        Raises:
            DataError: It cannot be written, or the old one is damaged.
        """
        written: list[Position] = []
        try:
            with self._create(path) as tar, open_old_shard(path, old) as shard:
                keys = shard.keep(position for _, position in samples)
                for slot, position in samples:
                    if position in shard:
                        shard.copy(position, tar)
                        written.append(position)
                    elif self._add(tar, position, images[slot], keys):
                        written.append(position)
        except TarError as error:
            raise DataError(f"{path}: damaged ({error}); remove it, and try again") from None
        return written

    def _add(self, tar: TarWriter, position: Position, image: HeldImage, keys: set[str]) -> bool:
        record = self._manifest.read_record(position)
        try:
            add_sample(tar, record, image.read(record.stamp), image.name, keys, self._extension)
        except ImageError as error:
            reason = f"{one_line(str(error))}; left out of the shard"
            self._failures[record.id] = Failure(record.id, "image", reason)
            return False
        self._failures.pop(record.id, None)
        return True
