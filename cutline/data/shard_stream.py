"""Stream tar shards for training, from front to back: local files, URLs and commands."""

import itertools
import logging
import random
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import IO, cast

from cutline.data.sample import Sample
from cutline.data.shards import COMMAND, is_remote, list_shards, not_installed, reject_commands
from cutline.data.tar import TAR_ERRORS, Members, join_members, read_members
from cutline.data.tar_reader import TarSource
from cutline.errors import DataError
from cutline.messages import format_text

logger = logging.getLogger(__name__)

MAX_BUFFER_BYTES = 2 << 30
"""size of the images in a shuffle buffer"""
_EXIT_STATUS = re.compile(r"\bexit \d+")
# No quotes and spaces, whatever the program that webdataset starts does with its arguments.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'`\\\x00-\x1f]+")
Group = tuple[str, str, Members]  # shard, key, members of the key


def stream_shards(
    urls: str,
    *,
    seed: int,
    epoch: int,
    reader: int,
    num_readers: int,
    shuffle_buffer: int,
    allow_pipe: bool = False,
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
            (0 or 1: the order within shards is kept). It is smaller for large images.
        allow_pipe: Whether `pipe:` commands are run.

    Yields:
        Samples with the bytes of their images.

    Raises:
        DataError: A shard cannot be read.
        ConfigError: A shard is a command, and `allow_pipe` is false.
    """
    if not allow_pipe:
        reject_commands(urls)
    # Every reader shuffles the list of shards in the same way, so that taking every
    # `num_readers`-th one gives them disjoint shards. With fewer shards than readers some would
    # get none: then each one reads all shards and takes every `num_readers`-th sample.
    shards = list_shards(urls)
    random.Random(f"{seed} {epoch}").shuffle(shards)
    if len(shards) >= num_readers:
        groups = _stream_groups(shards[reader::num_readers], allow_pipe)
    else:
        groups = itertools.islice(_stream_groups(shards, allow_pipe), reader, None, num_readers)
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


def _stream_groups(shards: list[str], allow_pipe: bool) -> Iterator[Group]:
    for shard in shards:
        yield from iter_groups(shard, allow_pipe)


def iter_groups(
    shard: str, allow_pipe: bool = False, open_shard: Callable[[str], IO[bytes]] | None = None
) -> Iterator[Group]:
    """Yield the members of a shard, key by key, while it is read from front to back.

    The members of a key must follow each other, or they are several groups.

    Args:
        shard: The shard.
        allow_pipe: Whether a `pipe:` command is run.
        open_shard: Opens the shard (default: as training does).

    Raises:
        DataError: The shard cannot be read, or not to its end.
        ConfigError: It is a command, and `allow_pipe` is false.
    """
    try:
        stream = open_shard(shard) if open_shard else _open_shard(shard, allow_pipe)
        try:
            source = TarSource(stream, seekable=False)
            by_key = itertools.groupby(read_members(source, shard), key=itemgetter(0))
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
            f"{format_text(shard)}: the shard cannot be read ({reason}); "
            "check that it exists, copy it again, or remove it"
        ) from None


def _open_shard(shard: str, allow_pipe: bool) -> IO[bytes]:
    if not is_remote(shard):
        return Path(shard).open("rb")
    try:
        from webdataset.gopen import gopen, rewrite_url  # type: ignore[import-untyped]
    except ImportError:
        raise not_installed(shard, "webdataset") from None
    if command := COMMAND.match(shard):
        shard = f"pipe:{shard[command.end() :]}"
    elif not _URL.fullmatch(shard):
        raise OSError("not a valid URL: percent-encode its special characters")
    if not allow_pipe:  # webdataset can rewrite URLs to commands, if the environment says so
        reject_commands(rewrite_url(shard))
    try:
        return cast("IO[bytes]", gopen(shard))
    except ValueError as error:  # unknown URL scheme
        raise OSError(str(error)) from None


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

    Once the buffer is full, by number or by the bytes of its images, a random one is yielded.
    """
    buffer: list[Sample] = []
    num_bytes = 0
    for sample in samples:
        buffer.append(sample)
        num_bytes += _count_bytes(sample)
        while buffer and (len(buffer) >= buffer_size or num_bytes > MAX_BUFFER_BYTES):
            index = rng.randrange(len(buffer))
            buffer[index], buffer[-1] = buffer[-1], buffer[index]
            num_bytes -= _count_bytes(buffer[-1])
            yield buffer.pop()
    rng.shuffle(buffer)
    yield from buffer


def _count_bytes(sample: Sample) -> int:
    return len(sample.image) if isinstance(sample.image, bytes) else 0
