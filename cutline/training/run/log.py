"""What a run says while it goes: lines of JSON in its folder, and a progress bar."""

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

from cutline.files import write_text
from cutline.training.run.tensorboard import TensorBoardLog

LogLine = dict[str, Any]
T = TypeVar("T")


def read_log(path: str | Path) -> list[LogLine]:
    """The lines of a run's log; a last line that a killed process left half written is dropped."""
    lines = []
    for text in Path(path).read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


class RunLog:
    """Writes `log.jsonl` and shows the bar, on stderr."""

    def __init__(
        self,
        path: Path | None,
        board: TensorBoardLog | None,
        step: int,
        total_steps: int,
        show: bool,
    ) -> None:
        """path: of the file; None in all processes but the first. step: where the run goes on from; later lines are dropped."""
        self.path, self.board = path, board
        kept = (
            [line for line in read_log(path) if line["step"] <= step]
            if path and path.exists()
            else []
        )
        if path:
            write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
        self.console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
        )
        self.bars = Bars(
            *columns,
            console=self.console,
            disable=not show,
            refresh_per_second=2,
            redirect_stdout=False,
        )
        self.training = self.bars.add_task("training", completed=step, total=total_steps, note="")
        self.since, self.pictures, self.tokens = time.monotonic(), 0, 0
        self.skipped = {line["skipped"] for line in kept if "skipped" in line}

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bars.stop()
        if self.board:
            self.board.close()

    def advance(self, step: int, pictures: int, tokens: int) -> None:
        """A step is done."""
        self.pictures, self.tokens = self.pictures + pictures, self.tokens + tokens
        self.bars.update(self.training, completed=step)

    def write(self, line: LogLine) -> None:
        """Append a line to the log."""
        if self.path:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        if self.board:
            self.board.write(line)

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """Time that is not training."""
        begin = time.monotonic()
        yield
        self.since += time.monotonic() - begin

    def train_line(self, line: LogLine) -> None:
        """Append a line on training, with the speed since the last one."""
        seconds = max(1e-9, time.monotonic() - self.since)
        speed, tokens = self.pictures / seconds, self.tokens / seconds
        self.since, self.pictures, self.tokens = time.monotonic(), 0, 0
        self.bars.update(self.training, note=f"loss {line['loss']:.3f}  {speed:.1f} images/s")
        self.write(
            {**line, "pictures_per_second": round(speed, 2), "tokens_per_second": round(tokens, 1)}
        )

    def watch(self, results: Iterable[T], total: int) -> Iterator[T]:
        """Pass on what a validation finds, with a bar of its own."""
        bar = self.bars.add_task("validating", total=total, note="")
        for result in results:
            yield result
            self.bars.advance(bar)
        self.bars.remove_task(bar)

    def skip(self, step: int, sentences: Iterable[str]) -> None:
        """Name images that could not be read, each once."""
        for sentence in sentences:
            if sentence not in self.skipped:
                self.skipped.add(sentence)
                self.write({"step": step, "skipped": sentence})
                self.say(f"skipped: {sentence}")

    def say(self, text: str) -> None:
        """A line for people, above the bar."""
        if not self.bars.disable:
            self.console.print(text, highlight=False, markup=False, soft_wrap=True)
