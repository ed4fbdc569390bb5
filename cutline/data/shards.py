"""Tar shards: find them, read them all at once, or stream them for training."""

import glob
import itertools
import logging
import os
import random
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from cutline.data.folder import find_index, list_images, natural_sort_key
from cutline.data.sample import Sample
from cutline.data.tar import TAR_ERRORS, Members, join_members, open_stream, read_members, read_tar
from cutline.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

SHARD_SUFFIXES = (".tar", ".tar.gz", ".tgz")
_EXIT_STATUS = re.compile(r"\bexit \d+")
Group = tuple[str, str, Members]  # shard, key, members of the key


def is_shards(path: str | Path) -> bool:
    """Return whether a path refers to tar shards.

    These are tar files, patterns or URLs, a `pipe:` command, and a folder of tar files without
    loose images.
    """
    # Not Path.expanduser(), which would damage URLs.
    specs = [os.path.expanduser(spec) for spec in str(path).split("::")]  # noqa: PTH111
    return any(map(_is_shard_spec, specs))


def _is_shard_spec(spec: str) -> bool:
    if spec.startswith("pipe:"):
        return True
    if os.path.isdir(spec):  # noqa: PTH112  # Path.is_dir() raises if the name is too long
        folder = Path(spec)
        return bool(_list_folder(spec)) and not find_index(folder) and not list_images(folder)
    return spec.lower().partition("?")[0].endswith(SHARD_SUFFIXES)


def list_shards(urls: str) -> list[str]:
    """Return the shards that `urls` refers to, without duplicates.

    Args:
        urls: Files, folders, patterns such as `shards/{000..099}.tar` or `shards/*.tar`, URLs,
            `pipe:` commands, or several of these separated by `::`.

    Raises:
        DataError: A local file, folder or pattern has no shards; URLs and commands are not tried.
        ConfigError: `urls` has braces, and braceexpand is not installed.
    """
    shards = [
        shard
        for spec in urls.split("::")
        for pattern in _expand_braces(os.path.expanduser(spec))  # noqa: PTH111
        for shard in _find_shards(pattern)
    ]
    return list(dict.fromkeys(shards))


def _expand_braces(spec: str) -> list[str]:
    if "{" not in spec or os.path.exists(spec):  # noqa: PTH110
        return [spec]
    try:
        from braceexpand import braceexpand
    except ImportError:
        raise _not_installed(spec, "braceexpand") from None
    try:
        return list(braceexpand(spec))
    except ValueError as error:
        raise DataError(
            f"{spec}: the braces are invalid ({error}); write them as in {{000..099}}.tar"
        ) from None


def _find_shards(pattern: str) -> list[str]:
    if is_remote(pattern) or Path(pattern).is_file():
        return [pattern]
    # Not Path.glob(), which does not take absolute patterns.
    paths = glob.glob(pattern, recursive=True)  # noqa: PTH207
    files = [path for path in paths if Path(path).is_file()]
    shards = _list_folder(pattern) or sorted(files, key=natural_sort_key)
    if not shards:
        raise DataError(
            f"{pattern}: no shards found; give .tar files, a folder of them, "
            "or a pattern such as 'shards/{000..099}.tar'"
        )
    return shards


def _list_folder(folder: str) -> list[str]:
    files = [str(path) for path in Path(folder).glob("*.tar") if path.is_file()]
    return sorted(files, key=natural_sort_key)


def is_remote(shard: str) -> bool:
    """Return whether a shard is a URL or a command, not a local file."""
    return shard.startswith("pipe:") or "://" in shard


def read_shards(urls: str) -> list[Sample]:
    """Read all samples of local, uncompressed shards, as `read_tar` does.

    Raises:
        DataError: A shard cannot be read, or is a URL or a command.
    """
    shards = list_shards(urls)
    for shard in filter(is_remote, shards):
        raise DataError(
            f"{shard}: only training with `data.stream` reads URLs and commands; download the shard"
        )
    return [sample for shard in shards for sample in read_tar(shard)]


def stream_shards(
    urls: str, *, seed: int, epoch: int, reader: int, num_readers: int, shuffle_buffer: int
) -> Iterator[Sample]:
    """Yield the samples of one epoch that belong to one of several readers.

    Every sample belongs to exactly one reader. The assignment and the order depend only on the
    arguments. The members of a key must follow each other. Samples without an image or a
    caption are skipped, and counted in the log at the end.

    Args:
        urls: The shards, as `list_shards` takes them.
        seed: Seed of the order.
        epoch: Number of the epoch; each has its own order.
        reader: Index of this reader, from 0.
        num_readers: Readers that share the shards: data loading workers of all processes.
        shuffle_buffer: Size of the buffer in samples, from which the next one is drawn at random
            (0 or 1: the order within shards is kept).

    Yields:
        Samples with the bytes of their images.

    Raises:
        DataError: A shard cannot be read.
    """
    # Every reader shuffles the list of shards in the same way, so that taking every
    # `num_readers`-th one gives them disjoint shards. With fewer shards than readers some would
    # get none: then each one reads all shards and takes every `num_readers`-th sample.
    shards = list_shards(urls)
    random.Random(f"{seed} {epoch}").shuffle(shards)
    if len(shards) >= num_readers:
        groups = _stream_groups(shards[reader::num_readers])
    else:
        groups = itertools.islice(_stream_groups(shards), reader, None, num_readers)
    count = _SampleCount()
    samples = _join_groups(groups, count)
    yield from _shuffle(samples, shuffle_buffer, random.Random(f"{seed} {epoch} {reader}"))
    if count.skipped:
        logger.warning(
            "%s: %d samples; skipped %d without image or caption", urls, count.read, count.skipped
        )
    else:
        logger.info("%s: %d samples", urls, count.read)


@dataclass
class _SampleCount:
    """Numbers of samples that a stream has read and skipped."""

    read: int = 0
    skipped: int = 0


def _stream_groups(shards: list[str]) -> Iterator[Group]:
    return itertools.chain.from_iterable(map(_stream_shard, shards))


def _stream_shard(shard: str) -> Iterator[Group]:
    """Yield the members of a shard, key by key, while it is read from front to back."""
    try:
        stream = _open_shard(shard)
        try:
            with open_stream(stream) as tar:
                by_key = itertools.groupby(read_members(tar), key=lambda member: member[0])
                for key, members in by_key:
                    yield shard, key, {extension: content for _, extension, content in members}
            # A tar file may be padded after its end mark. A command that writes it would be killed
            # by SIGPIPE, and look as if it had failed, if the stream were closed before its end.
            while stream.read(1 << 20):
                pass
            stream.close()  # raises if the command has failed
        finally:
            with suppress(OSError):
                stream.close()
    except TAR_ERRORS as error:
        # webdataset reports a failed command, such as curl, in three lines.
        exit_status = _EXIT_STATUS.search(str(error))
        reason = f"its command ended with {exit_status[0]}" if exit_status else error
        raise DataError(
            f"{shard}: the shard cannot be read ({reason}); "
            "check that it exists, copy it again, or remove it"
        ) from None


def _open_shard(shard: str) -> IO[bytes]:
    if not is_remote(shard):
        return Path(shard).open("rb")
    try:
        from webdataset.gopen import gopen  # type: ignore[import-untyped]
    except ImportError:
        raise _not_installed(shard, "webdataset") from None
    try:
        return cast("IO[bytes]", gopen(shard))
    except ValueError as error:  # unknown URL scheme
        raise OSError(str(error)) from None


def _not_installed(shard: str, package: str) -> ConfigError:
    return ConfigError(
        f"{shard}: needs {package}, which is not installed: pip install 'cutline[shards]'"
    )


def _join_groups(groups: Iterator[Group], count: _SampleCount) -> Iterator[Sample]:
    for shard, key, members in groups:
        try:
            sample = join_members(shard, key, members)
        except DataError as error:  # one bad sample of a million must not end a run
            logger.warning("%s", error)
            sample = None
        if sample and sample.captions:
            count.read += 1
            yield sample
        else:
            count.skipped += 1


def _shuffle(samples: Iterator[Sample], buffer_size: int, rng: random.Random) -> Iterator[Sample]:
    """Yield samples in random order, with at most `buffer_size` of them in memory.

    Once the buffer is full, each new sample either replaces a random one in the buffer, which is
    yielded, or is yielded itself.
    """
    buffer = list(itertools.islice(samples, max(0, buffer_size - 1)))
    for sample in samples:
        if buffer:
            index = rng.randrange(len(buffer) + 1)
            if index < len(buffer):
                buffer[index], sample = sample, buffer[index]
        yield sample
    rng.shuffle(buffer)
    yield from buffer
