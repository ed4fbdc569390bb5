"""Progress bars: iterators that yield items unchanged."""

import os
import sys
from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    """Yields items unchanged, and may show how many of them are done."""

    def __call__(self, items: Iterable[T], total: int, description: str) -> Iterator[T]:
        """Yield `items`, of which there are `total`; `description` names the work."""


def no_progress(items: Iterable[T], total: int, description: str) -> Iterator[T]:
    """Yield `items` and show nothing."""
    yield from items


def progress_bar(items: Iterable[T], total: int, description: str) -> Iterator[T]:
    """Yield `items` with a progress bar on stderr.

    The bar appears only if stderr is a terminal, and only in the main process of `torchrun`.
    """
    from rich.console import Console
    from rich.progress import Progress as RichProgress

    console = Console(stderr=True)
    if not (console.is_terminal and is_rank_zero()):
        yield from items
        return
    # rich redirects stdout to stderr, which is right in a terminal and wrong in a pipe
    bars = RichProgress(console=console, transient=True, redirect_stdout=sys.stdout.isatty())
    with bars:
        yield from bars.track(items, total, description=description)


def is_rank_zero() -> bool:
    """Return whether this is the main process, according to the environment that `torchrun` sets.

    Unlike `cutline.distributed.is_main_process`, it needs no torch and no process group.
    """
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"
