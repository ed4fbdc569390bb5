"""What is said to the person: on stderr, so that pipes work."""

import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")


def stderr() -> "Console":
    """A console on stderr."""
    from rich.console import Console

    return Console(stderr=True)


def progress(items: Iterable[T], total: int, text: str) -> Iterator[T]:
    """Pass `items` on, with a bar on stderr where somebody looks."""
    from rich.progress import Progress

    console = stderr()
    # rich would take stdout along to stderr, which is right on a screen and wrong in a pipe
    shown = console.is_terminal and is_main_process()
    bars = Progress(
        console=console, transient=True, disable=not shown, redirect_stdout=sys.stdout.isatty()
    )
    with bars:
        yield from bars.track(items, total, description=text)


def program() -> str:
    """What to type to run this program again."""
    return "cutline" if shutil.which("cutline") else f"{sys.argv[0]}"


def is_main_process() -> bool:
    """Whether this is the only process, or the first of those that `torchrun` started: it alone says how things went."""
    return os.environ.get("RANK", "0") == "0"


def warn(sentence: str) -> None:
    """Say something to the person, not to the pipe."""
    who = "cutline" if is_main_process() else f"cutline, process {os.environ['RANK']}"
    sys.stderr.write(f"{who}: {sentence}\n")
