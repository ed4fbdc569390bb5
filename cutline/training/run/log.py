"""The log of a run: `log.jsonl`, TensorBoard, and progress bars on stderr."""

import itertools
import json
import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress

from cutline.errors import CutlineError
from cutline.files import write_text
from cutline.messages import one_line
from cutline.training.run.tensorboard import TensorBoardLog

LogLine = dict[str, Any]
T = TypeVar("T")
_TRAINING = '"loss": '
"""key that only lines about training have"""


def read_log(path: str | Path, max_training: int | None = None) -> list[LogLine]:
    """Return the lines of a run's `log.jsonl`, up to one that a crash left incomplete.

    Args:
        path: The log.
        max_training: Lines about training, at most, that are spread evenly over the log (default:
            all lines). The others are not parsed, which saves most of the time and memory that a
            long log takes.
    """
    count = _count_lines(path) if max_training else 0
    stride, lines = math.ceil(count / (max_training or 1)), []
    with Path(path).open(encoding="utf-8", errors="replace") as file:
        for following, text in zip(itertools.count(count - 1, -1), file, strict=False):
            if stride > 1 and following % stride and _TRAINING in text:
                continue
            try:
                line = json.loads(text)
            except ValueError:
                break
            if not isinstance(line, dict):
                break
            lines.append(line)
    return lines


def _count_lines(path: str | Path) -> int:
    with Path(path).open("rb") as file:
        return sum(1 for _ in file)


class RunLog:
    """Writer of `log.jsonl` and TensorBoard event files, with progress bars."""

    def __init__(
        self,
        path: Path | None,
        tensorboard: TensorBoardLog | None,
        step: int,
        total_steps: int,
        show_progress: bool,
        unit: str = "token",
    ) -> None:
        """Open the log, and drop the lines after `step`, which are written again.

        Args:
            path: `log.jsonl`; None to write no file, as in all processes but the main one.
            tensorboard: Event files to write too.
            step: Last step of which the log has all lines, 0 for an evaluation before training;
                -1 for a new run.
            total_steps: Steps of the whole run.
            show_progress: Whether to show progress bars and messages on stderr.
            unit: What `advance` counts besides images.
        """
        self.unit = unit
        self.path, self.tensorboard = path, tensorboard
        self.error: CutlineError | None = None
        """why a line could not be written"""
        old_lines = read_log(path) if path and path.exists() else []
        # A killed run may have logged steps after its last saved state. They are repeated now.
        lines = [line for line in old_lines if line["step"] <= step]
        if path:
            write_text(path, "".join(json.dumps(line) + "\n" for line in lines))
        self.skipped = {line["skipped"] for line in lines if "skipped" in line}
        self.console = Console(stderr=True)
        self.bars = _make_bars(self.console, show_progress)
        done = max(0, step)
        self.bar = self.bars.add_task("training", completed=done, total=total_steps, note="")
        self._reset_speed()

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()
        if self.tensorboard:
            self.tensorboard.close()

    def advance(self, step: int, num_images: int, num_targets: int) -> None:
        """Show that `step` steps are done, and count the images and targets of the last one."""
        self.num_images += num_images
        self.num_targets += num_targets
        self.bars.update(self.bar, completed=step)

    def write(self, line: LogLine) -> None:
        """Append a line to the log.

        If it cannot be written, `error` says so: only the main process has a file, and the others
        must end with it.
        """
        try:
            if self.path:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
            if self.tensorboard:
                self.tensorboard.write(line)
        except OSError as error:
            self.error = CutlineError(
                f"{self.path}: cannot be written ({error.strerror}); free some disk space, and "
                "resume with --resume"
            )

    def raise_error(self) -> None:
        """Raise the error of a line that could not be written, if there is one."""
        if self.error:
            raise self.error

    def log_training(self, line: LogLine) -> None:
        """Append a line about training, with the speed since the last such line."""
        seconds = max(1e-9, time.monotonic() - self.start)
        image_speed, target_speed = self.num_images / seconds, self.num_targets / seconds
        self._reset_speed()
        self.bars.update(self.bar, note=f"loss {line['loss']:.3f}  {image_speed:.1f} images/s")
        speed = {
            "pictures_per_second": round(image_speed, 2),  # keys of the log stay as they are
            f"{self.unit}s_per_second": round(target_speed, 1),
        }
        self.write(line | speed)

    def log_skipped(self, step: int, messages: Iterable[str]) -> None:
        """Append a line for each image that cannot be read, once per run."""
        for message in messages:
            if message not in self.skipped:
                self.skipped.add(message)
                self.write({"step": step, "skipped": message})
                self.print(f"skipped: {message}")

    def print(self, text: str) -> None:
        """Print a message above the progress bars."""
        if not self.bars.disable:
            self.console.print(one_line(text), highlight=False, markup=False, soft_wrap=True)

    def track(self, items: Iterable[T], total: int, description: str) -> Iterator[T]:
        """Yield `items` with a progress bar of their own; a `cutline.progress.Progress`."""
        bar = self.bars.add_task(description, total=total, note="")
        for item in items:
            yield item
            self.bars.advance(bar)
        self.bars.remove_task(bar)

    @contextmanager
    def exclude_time(self) -> Iterator[None]:
        """Exclude the time spent inside, such as on evaluation, from the training speed."""
        start = time.monotonic()
        yield
        self.start += time.monotonic() - start

    def _reset_speed(self) -> None:
        self.start, self.num_images, self.num_targets = time.monotonic(), 0, 0


def _make_bars(console: Console, visible: bool) -> RichProgress:
    return RichProgress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
        console=console,
        disable=not visible,
        refresh_per_second=2,
        redirect_stdout=False,
    )
