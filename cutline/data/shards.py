"""Tar shards: find them."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from cutline.data.find import find_index, match_paths
from cutline.data.names import natural_sort_key
from cutline.data.sample import is_url
from cutline.data.walk import scan_images
from cutline.errors import ConfigError, DataError
from cutline.messages import format_text

SHARD_SUFFIXES = (".tar", ".tar.gz", ".tgz")
COMMAND = re.compile(r"\s*pipe:", re.IGNORECASE)
"""how a shell command that writes a shard to its output begins"""
MAX_SHARDS = 10_000_000
"""shards that a pattern with braces may stand for"""
_INNER_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)")


def is_shards(path: str | Path) -> bool:
    """Return whether a path refers to tar shards.

    These are tar files, patterns or URLs, a `pipe:` command, and a folder of tar files without
    loose images.
    """
    # Not Path.expanduser(), which would damage URLs.
    specs = [os.path.expanduser(spec) for spec in str(path).split("::")]  # noqa: PTH111
    return any(map(_is_shard_spec, specs))


def _is_shard_spec(spec: str) -> bool:
    if COMMAND.match(spec):
        return True
    if os.path.isdir(spec):  # noqa: PTH112  # Path.is_dir() raises if the name is too long
        has_shards = bool(list_tar_files(spec)) and not find_index(Path(spec))
        return has_shards and not any(scan_images(Path(spec)))
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
    shards = (shard for spec in _expand_specs(urls) for shard in _find_shards(spec))
    return list(dict.fromkeys(shards))


def reject_commands(urls: str) -> None:
    """Raise ConfigError if one of the shards that `urls` refers to is a command."""
    for command in filter(COMMAND.match, _expand_specs(urls)):
        raise ConfigError(
            f"{format_text(command)}: a shell command; "
            "if you trust it, pass --allow-pipe (in Python, allow_pipe=True)"
        )


def _expand_specs(urls: str) -> Iterator[str]:
    """Yield the files, folders, patterns, URLs and commands in `urls`."""
    for spec in urls.split("::"):
        yield from _expand_braces(os.path.expanduser(spec))  # noqa: PTH111


def _expand_braces(spec: str) -> list[str]:
    if "{" not in spec or os.path.exists(spec):  # noqa: PTH110
        return [spec]
    try:
        from braceexpand import braceexpand
    except ImportError:
        raise not_installed(spec, "braceexpand") from None
    try:
        if _count_alternatives(spec) > MAX_SHARDS:
            raise ValueError(f"they stand for more than {MAX_SHARDS:,} shards")
        return list(braceexpand(spec))
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{format_text(spec)}: the braces are invalid ({error}); "
            "write them as in {000..099}.tar"
        ) from None


def _count_alternatives(spec: str) -> int:
    """Return how many texts a pattern with braces stands for, at most."""
    count = _INNER_BRACES.sub("", spec).count(",") + 1
    for content in _INNER_BRACES.findall(spec):
        limits = _RANGE.match(content)
        count *= abs(int(limits[2]) - int(limits[1])) + 1 if limits else content.count(",") + 1
    return count


def _find_shards(pattern: str) -> list[str]:
    if is_remote(pattern) or os.path.isfile(pattern):  # noqa: PTH113
        return [pattern]
    files = filter(os.path.isfile, match_paths(pattern))
    shards = list_tar_files(pattern) or sorted(files, key=natural_sort_key)
    if not shards:
        raise DataError(
            f"{format_text(pattern)}: no shards found; give .tar files, a folder of them, "
            "or a pattern such as 'shards/{000..099}.tar'"
        )
    # A file called `pipe:….tar` in the current folder is not a command.
    return [f"./{shard}" if is_remote(shard) else shard for shard in shards]


def list_tar_files(folder: str) -> list[str]:
    """Return the tar files in a folder in natural order."""
    files = [str(path) for path in Path(folder).glob("*.tar") if path.is_file()]
    return sorted(files, key=natural_sort_key)


def is_remote(shard: str) -> bool:
    """Return whether a shard is a URL or a command, not a local file."""
    return bool(COMMAND.match(shard)) or is_url(shard)


def list_local_shards(urls: str) -> list[str]:
    """Return the shards that `urls` refers to, as `list_shards` does.

    Raises:
        DataError: A shard is a URL or a command, or there are none.
    """
    shards = list_shards(urls)
    for shard in filter(is_remote, shards):
        raise DataError(
            f"{format_text(shard)}: only training with `data.stream` reads URLs and commands; "
            "download the shard"
        )
    return shards


def not_installed(shard: str, package: str) -> ConfigError:
    """Return the error for a shard that needs a package which is not installed."""
    return ConfigError(
        f"{format_text(shard)}: needs {package}, which is not installed: "
        "pip install 'cutline[shards]'"
    )
