"""Runs that write tar shards, with an engine without a model; and runs that are killed."""

import os
import signal
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import forked
from fake_engine import FakeEngine

from cutline.bulk import parts
from cutline.bulk.manifest import Manifest
from cutline.bulk.output import Output
from cutline.bulk.record import Failure
from cutline.bulk.run import CaptionRun, Counts
from cutline.config import RunConfig
from cutline.data import Sample
from cutline.data.tar import iter_tar, join_members, read_members
from cutline.data.tar_reader import TarSource
from cutline.data.tar_writer import TarWriter
from cutline.data.tolerant import raise_errors
from cutline.errors import CutlineError


@dataclass
class FinishedRun:
    """What came of a run."""

    counts: Counts
    complete: bool
    failures: list[Failure]
    output: Output


def read_tar(path: str) -> list[Sample]:
    """Return the samples of an uncompressed tar file."""
    return list(raise_errors(iter_tar(path)))


def read_files(folder: Path) -> Iterator[Sample]:
    """Yield the images in a folder."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield Sample(str(path), (), path.relative_to(folder).as_posix())


def read_shards(folder: Path, output: Output) -> Iterator[Sample | CutlineError]:
    """Yield the samples of the shards in a folder."""
    for path in sorted(folder.rglob("*.t*")):
        prefix = path.relative_to(folder).as_posix()
        if not path.is_file() or not output.begin_shard(str(path), prefix):
            continue
        for sample in read_tar(str(path)) if path.suffix == ".tar" else read_compressed(path):
            key = sample.id.removeprefix(f"{path.name}/")
            yield Sample(sample.image, sample.captions, f"{prefix}/{key}")
        output.end_shard()


def read_compressed(path: Path) -> Iterator[Sample]:
    """Yield the samples of a compressed shard."""
    with path.open("rb") as file:
        members = read_members(TarSource(file, seekable=False), str(path))
        for key, group in groupby(members, key=itemgetter(0)):
            found = {extension: content for _, extension, content in group}
            if sample := join_members(str(path), key, found):
                yield sample


def run(
    output: Output,
    state: Path,
    samples: Iterator[Sample | CutlineError],
    config: RunConfig | None = None,
    stop_after: int = -1,
) -> FinishedRun:
    """Run once, to the end or until so many results have come."""
    with Manifest(state) as manifest:
        caption_run = CaptionRun(manifest, output, config or RunConfig())
        try:
            caption_run.run(samples, FakeEngine(stop_after=stop_after))
        except KeyboardInterrupt:
            assert stop_after >= 0
        return FinishedRun(
            caption_run.counts, caption_run.complete, [*caption_run.iter_failures()], output
        )


def read_all(path: Path) -> dict[str, bytes]:
    """Return the members of a tar file with Python's own reader; each name must be there once."""
    with tarfile.open(path) as archive:
        members = [member for member in archive if member.isfile()]
        contents = {member.name: archive.extractfile(member).read() for member in members}
    assert len(contents) == len(members)
    return contents


def run_killed(operation: int, target: object, *args: object) -> bool:
    """Call `target` in a process that is killed at a file operation; return whether it was."""
    process = forked.start(_kill_at, operation, target, *args)
    process.join(60)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def _kill_at(operation: int, target, *args) -> None:  # type: ignore[no-untyped-def]
    """Call `target`; kill this process when it is about to open, rename or write something."""
    count = 0

    def note() -> None:
        nonlocal count
        count += 1
        if count == operation:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(event: str, values: tuple[object, ...]) -> None:
        is_written = event == "open" and isinstance(values[2], int) and values[2] & os.O_CREAT
        if is_written or event in ("os.rename", "os.remove"):
            note()

    original = TarWriter._write

    def write(self: TarWriter, data: bytes) -> None:
        original(self, data[: len(data) // 2])
        self._file.flush()
        note()
        original(self, data[len(data) // 2 :])

    TarWriter._write = write  # type: ignore[method-assign]
    parts.MAX_PART_RECORDS = 4  # so that there is more than one part
    sys.addaudithook(audit)
    target(*args)
