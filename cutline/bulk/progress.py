"""Progress of a run: a bar in a terminal, else a line a minute."""

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

T = TypeVar("T")

LINE_SECONDS = 60.0


class RunCounts(Protocol):
    """What became of the samples of a run."""

    @property
    def total(self) -> int:
        """Return the number of samples that are dealt with."""

    @property
    def processed(self) -> int:
        """Return the number of samples that were worked on."""

    @property
    def skipped(self) -> int:
        """Return the number of samples that needed no work."""

    @property
    def all_failed(self) -> int:
        """Return the number of failures."""


class RunProgress:
    """Shows how many samples are done, how fast, how many failed, and the time left.

    Use it as a context manager.
    """

    def __init__(
        self,
        console: "Console",
        show_line: Callable[[str], None],
        count: Callable[[], int | None],
        label: str = "captioning",
    ) -> None:
        """Choose where to show it.

        Args:
            console: The terminal, if it is one.
            show_line: Shows a line, where there is no terminal.
            count: Counts the samples of the source, in a thread of its own; None if unknown.
            label: What is going on.
        """
        self._label = label
        self._console, self._show_line, self._count = console, show_line, count
        self._total: int | None = None
        self._start = self._last_line = time.monotonic()
        self._bar_task: TaskID | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._open_bar()
        threading.Thread(target=self._count_samples, name="cutline-count", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar_task is not None:
            self._bars.stop()

    def _open_bar(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._bars = Progress(
            TextColumn("{task.fields[label]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            console=self._console,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),  # never results of a pipe
        )
        self._bars.start()
        self._bar_task = self._bars.add_task("", total=None, label=self._label)

    def _count_samples(self) -> None:
        try:
            self._total = self._count()
        except Exception:  # the run reports what cannot be read
            self._total = None

    def update(self, counts: RunCounts) -> None:
        """Show how far the run is."""
        if self._bar_task is not None:
            self._bars.update(
                self._bar_task,
                completed=counts.total,
                total=self._total,
                description=self._describe(counts),
            )
        elif time.monotonic() - self._last_line >= LINE_SECONDS:
            self._last_line = time.monotonic()
            total = f" of {self._total:,}" if self._total else ""
            self._show_line(f"{counts.total:,}{total} images, {self._describe(counts)}")

    def track(self, items: Iterable[T], total: int, description: str) -> Iterator[T]:
        """Yield items of what follows the run, with a bar in a terminal: a `Progress`."""
        if self._bar_task is None:
            yield from items
            return
        task = self._bars.add_task("", total=total, label=description)
        for item in items:
            yield item
            self._bars.advance(task)

    def _describe(self, counts: RunCounts) -> str:
        seconds = max(time.monotonic() - self._start, 1e-3)
        rate = counts.processed / seconds
        parts = [f"{rate:.3g} images/s"]
        if counts.all_failed:
            parts.append(f"{counts.all_failed:,} failed")
        if counts.skipped:
            parts.append(f"{counts.skipped:,} skipped")
        if self._total and rate:
            parts.append(f"{format_seconds(max(0, self._total - counts.total) / rate)} left")
        return ", ".join(parts)


def format_seconds(seconds: float) -> str:
    """Return a duration as h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
