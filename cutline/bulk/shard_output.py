"""`ShardOutput`: tar shards, which a thread of their own builds, and what each was built from."""

import json
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cutline.bulk.manifest import Manifest
from cutline.bulk.output import Output
from cutline.bulk.parts import Position
from cutline.bulk.shard_captions import caption_member_extension
from cutline.data.sample import stamp_image
from cutline.data.tar_writer import TarWriter, create_tar
from cutline.data.write import not_writable
from cutline.files import atomic_write, remove_partial

MAX_BUILDS = 2
"""shards that are built or wait for it; further ones make the run wait"""


class ShardOutput(Output):
    """Tar shards in a folder, or a single one. Subclasses say what is in them.

    Each shard is built from what the manifest and the source say. What that was is kept beside the
    manifest: a shard is built again if it changes, or if the shard is not the file that was built.
    So a run that is killed at any moment loses nothing.
    """

    def __init__(self, path: Path, extension: str, is_single: bool) -> None:
        """Choose where captions go.

        Args:
            path: The folder, or the single shard.
            extension: Extension of the members that have captions.
            is_single: Whether it is a single shard.

        Raises:
            ConfigError: Other members have the extension.
        """
        self._path, self._is_single = path, is_single
        self._extension = caption_member_extension(extension)
        self._manifest = Manifest(None)
        self._state = Path()
        self._lock = threading.RLock()
        self._is_finished = self._is_closed = False
        self._pool = ThreadPoolExecutor(1, "cutline-shards")
        self._last_build: Future[None] | None = None
        self._free = threading.Semaphore(MAX_BUILDS)
        self._error: BaseException | None = None
        self._num_built = 0

    def resume(self, manifest: Manifest) -> None:
        """Open the state."""
        assert manifest.folder is not None
        self._manifest, self._state = manifest, manifest.folder
        shutil.rmtree(self._temporary, ignore_errors=True)

    @property
    def _temporary(self) -> Path:
        """Return the folder of files that are removed at the end of the run."""
        return self._state / "temporary"

    def close(self) -> None:
        """End the shard that is being built, which the next run builds again, and build no more."""
        with self._lock:
            self._is_finished = self._is_closed = True
        self._pool.shutdown()
        if self._state.name:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def describe(self) -> list[str]:
        """Return where shards were written, and how many."""
        if self._is_single:
            return [f"{self._path}: {'written' if self._num_built else 'as it was'}"]
        noun = "shard" if self._num_built == 1 else "shards"
        return [f"{self._path}: {self._num_built:,} {noun} written"]

    # Building

    def _start_build(self, build: Callable[[], None]) -> None:
        """Build a shard in the thread that does so; wait if it has others to build.

        The lock must not be held, because that thread needs it. Nothing is built after `close`.
        """
        self._free.acquire()
        with self._lock:
            if self._is_closed:
                self._free.release()
            else:
                self._last_build = self._pool.submit(self._run_build, build)

    def _run_build(self, build: Callable[[], None]) -> None:
        try:
            if not self._error:
                self._check_open()
                build()
        except BaseException as error:
            self._error = error
        finally:
            self._free.release()

    def _check_open(self) -> None:
        """Raise CancelledError after `close`."""
        if self._is_closed:
            raise CancelledError

    def _raise_error(self, wait: bool) -> None:
        """Raise the error of a shard that could not be written, after which none is built.

        Args:
            wait: Whether to wait for all shards first.
        """
        if wait and self._last_build:
            self._last_build.result()
        if self._error:
            raise self._error

    @contextmanager
    def _create(self, path: Path) -> Iterator[TarWriter]:
        """Write a shard."""
        remove_partial([path, self._state_path(path)])
        with create_tar(path, self._check_open) as tar:
            yield tar
        self._num_built += 1

    # What shards were built from

    def _read_content(self, path: Path) -> Any:
        """Return what a shard was built from; None if it is not there, or something else is."""
        try:
            state = json.loads(self._state_path(path).read_bytes())
            return state["content"] if state["stamp"] == stamp_image(str(path)) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _write_content(self, path: Path, content: Any) -> None:
        """Note what a shard was built from, in types of JSON."""
        state = {"stamp": stamp_image(str(path)), "content": content}
        state_path = self._state_path(path)
        try:
            with atomic_write(state_path) as temporary:
                temporary.write_text(json.dumps(state), encoding="utf-8")
        except OSError as error:
            raise not_writable(str(state_path), error) from None

    def _read_positions(self, path: Path) -> list[Position] | None:
        """Return the records that a shard was built from; None if that is not known.

        A part that was removed gives its number to another, with other records at the same
        positions; the old ones get positions that no record has.
        """
        content = self._read_content(path)
        if not isinstance(content, dict):
            return None
        positions, parts = content["positions"], content["parts"]
        now = self._stamp_parts(positions)
        return [
            (part, offset) if now[str(part)] == parts.get(str(part)) else (-1, index)
            for index, (part, offset) in enumerate(positions)
        ]

    def _write_positions(self, path: Path, positions: Sequence[Position]) -> None:
        """Note the records that a shard was built from."""
        content = {"positions": positions, "parts": self._stamp_parts(positions)}
        self._write_content(path, content)

    def _stamp_parts(self, positions: Iterable[Position]) -> dict[str, str]:
        """Return the size and time of each part of the manifest that has one of the records."""
        parts, numbers = self._manifest.parts, sorted({part for part, _ in positions})
        assert parts is not None
        return {str(number): stamp_image(str(parts.path(number))) for number in numbers}

    def _state_path(self, path: Path) -> Path:
        root = self._path.parent if self._is_single else self._path
        relative = path.relative_to(root)
        return self._state / "shards" / relative.with_name(f"{relative.name}.json")
