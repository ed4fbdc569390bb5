"""Tar shards: which there are, and what they hold; read whole, or streamed for training on what no disk holds."""

import glob
import itertools
import logging
import os
import random
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, cast

from cutline.data.folder import find_index, list_images, natural_order
from cutline.data.sample import Sample
from cutline.data.tar import BROKEN, Content, make_sample, open_stream, read_members, read_tar
from cutline.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

SHARD_SUFFIXES = (".tar", ".tar.gz", ".tgz")
_EXIT = re.compile(r"\bexit \d+")
Group = tuple[str, str, dict[str, Content]]  # shard, key, members by kind


def is_shards(path: str | Path) -> bool:
    """Whether `path` means tar shards: such files, patterns or URLs, a `pipe:` command, or a folder of them without loose images."""
    return any(
        _means_shards(os.path.expanduser(piece)) for piece in str(path).split("::")
    )  # a Path would spoil URLs


def _means_shards(piece: str) -> bool:
    if piece.startswith("pipe:"):
        return True
    if os.path.isdir(piece):  # a Path raises for names that are too long
        return (
            bool(_in_folder(piece)) and not find_index(Path(piece)) and not list_images(Path(piece))
        )
    return piece.lower().partition("?")[0].endswith(SHARD_SUFFIXES)


def list_shards(urls: str) -> list[str]:
    """The shards that `urls` mean, each once: files, folders, patterns such as `shards/{000..099}.tar` and `shards/*.tar`, URLs, `pipe:`
    commands, or several of these with `::` between them. Raises DataError where nothing is there (URLs and commands are not tried).
    """
    pieces = [os.path.expanduser(piece) for piece in urls.split("::")]
    found = [
        shard for piece in pieces for pattern in _expand_braces(piece) for shard in _find(pattern)
    ]
    return list(dict.fromkeys(found))


def _expand_braces(piece: str) -> list[str]:
    if "{" not in piece or os.path.exists(piece):
        return [piece]
    try:
        from braceexpand import braceexpand
    except ImportError:
        raise _missing(piece) from None
    try:
        return list(braceexpand(piece))
    except ValueError as error:
        raise DataError(
            f"{piece}: braces that mean nothing ({error}); write them as in {{000..099}}.tar"
        ) from None


def _find(pattern: str) -> list[str]:
    if is_remote(pattern) or Path(pattern).is_file():
        return [pattern]
    hits = glob.glob(pattern, recursive=True)  # Path.glob cannot take absolute patterns
    found = _in_folder(pattern) or sorted(
        (hit for hit in hits if Path(hit).is_file()), key=natural_order
    )
    if not found:
        raise DataError(
            f"{pattern}: no shards there; give .tar files, a folder of them, or a pattern such as 'shards/{{000..099}}.tar'"
        )
    return found


def _in_folder(folder: str) -> list[str]:
    return sorted(
        (str(path) for path in Path(folder).glob("*.tar") if path.is_file()), key=natural_order
    )


def is_remote(shard: str) -> bool:
    """Whether a shard is no file of this machine's, but a URL or a command."""
    return shard.startswith("pipe:") or "://" in shard


def read_shards(urls: str) -> list[Sample]:
    """Every image of local, uncompressed shards, as `read_tar` reads them. Raises DataError."""
    shards = list_shards(urls)
    for shard in filter(is_remote, shards):
        raise DataError(
            f"{shard}: only a training run reads such shards, from front to back; download it for anything else"
        )
    return [sample for shard in shards for sample in read_tar(shard)]


def stream_shards(
    urls: str, *, seed: int, epoch: int, part: int, parts: int, shuffle: int
) -> Iterator[Sample]:
    """The samples of one of `parts` that read the shards together, with the bytes of their images.

    Shards come in a new order every epoch, dealt out to the parts; where there are fewer shards than parts, every part reads them all
    and takes every `parts`-th sample. Either way each sample is read by one part, once. Samples come in random order within a buffer of
    `shuffle` of them (0 or 1: as they lie). Everything follows from seed, epoch, part and parts.

    Samples without an image or a caption are passed over, and counted in the log at the end. A key's members must follow each other.
    Raises DataError naming a shard that cannot be read.
    """
    shards = list_shards(urls)
    random.Random(f"{seed} {epoch}").shuffle(shards)
    alone = len(shards) >= parts
    groups = itertools.chain.from_iterable(map(_stream, shards[part::parts] if alone else shards))
    tally: Counter[str] = Counter()
    samples = _complete(groups if alone else itertools.islice(groups, part, None, parts), tally)
    yield from _shuffled(samples, shuffle, random.Random(f"{seed} {epoch} {part}"))
    if tally["skipped"]:
        logger.warning(
            "%s: %d samples, and %d passed over that lack image or caption",
            urls,
            tally["read"],
            tally["skipped"],
        )
    else:
        logger.info("%s: %d samples", urls, tally["read"])


def _stream(shard: str) -> Iterator[Group]:
    try:
        stream = _open(shard)
        try:
            with open_stream(stream) as tar:
                for key, members in itertools.groupby(
                    read_members(tar), key=lambda member: member[0]
                ):
                    yield shard, key, {kind: content for _, kind, content in members}
            while stream.read(1 << 20):  # to the end, or the command that writes it would fail
                pass
            stream.close()  # says whether the command has failed
        finally:
            with suppress(OSError):
                stream.close()
    except BROKEN as error:
        command = _EXIT.search(
            str(error)
        )  # webdataset's words for a command that failed, curl's among them, take three lines
        why = f"its command gave {command[0]}" if command else error
        raise DataError(
            f"{shard}: the shard cannot be read ({why}); check that it is there, copy it again, or leave it out"
        ) from None


def _open(shard: str) -> IO[bytes]:
    if not is_remote(shard):
        return Path(shard).open("rb")
    try:
        from webdataset.gopen import gopen  # type: ignore[import-untyped]
    except ImportError:
        raise _missing(shard) from None
    try:
        return cast("IO[bytes]", gopen(shard))
    except ValueError as error:  # a scheme it does not know
        raise OSError(str(error)) from None


def _missing(shard: str) -> ConfigError:
    return ConfigError(
        f"{shard}: shards called so need a package that is not here: pip install 'cutline[shards]'"
    )


def _complete(groups: Iterator[Group], tally: Counter[str]) -> Iterator[Sample]:
    for shard, key, members in groups:
        try:
            sample = make_sample(shard, key, members)
        except DataError as error:
            logger.warning("%s", error)
            sample = None
        if sample and sample.captions:
            tally["read"] += 1
            yield sample
        else:
            tally["skipped"] += 1


def _shuffled(samples: Iterator[Sample], size: int, rng: random.Random) -> Iterator[Sample]:
    """A buffer is filled; each sample that comes takes the place of a random one, which goes."""
    buffer = list(itertools.islice(samples, max(0, size - 1)))
    for sample in samples:
        if buffer:
            place = rng.randrange(len(buffer) + 1)
            if place < len(buffer):
                buffer[place], sample = sample, buffer[place]
        yield sample
    rng.shuffle(buffer)
    yield from buffer
