"""Commands that are killed or stopped at random moments, before they end, on any machine."""

import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from forked import become_foreground, run_main, start

MOST_IMAGES = 4
"""images that a process gets before its source blocks"""
PAUSE = 0.02
"""seconds between two images"""
DEADLINE = 60.0
"""seconds after which nothing more is awaited"""
SLOW = ["--batch-size", "1"]


def stop_at_random(words: Sequence[str], state: Path, numbers: Sequence[int], seed: int) -> None:
    """Start a command again and again, and send it a signal.

    One of three processes gets it while it may still load, the others after they have written a
    part, while they go on with the few images that they get.

    Args:
        words: The command line, which needs more images than all these processes get.
        state: The folder where parts of what is done are written.
        numbers: The signal for each process.
        seed: Seed of the moments.
    """
    rng = random.Random(seed)
    for turn, number in enumerate(numbers):
        count = rng.randint(2, MOST_IMAGES)
        if turn % 3:
            process = start_and_wait(words, state, count)
            time.sleep(rng.uniform(0, count * PAUSE))
        else:
            process = start_slowly(words, count)
            time.sleep(rng.uniform(0, 0.3))
        assert stop(process, number) in (-number, 128 + number)


def start_and_wait(words: Sequence[str], state: Path, count: int = MOST_IMAGES) -> BaseProcess:
    """Start a command as `start_slowly` does, and wait until it has written a part."""
    before = list_parts(state)
    process = start_slowly(words, count)
    deadline = time.monotonic() + DEADLINE
    while process.is_alive() and list_parts(state) == before:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return process


def start_slowly(words: Sequence[str], count: int = MOST_IMAGES) -> BaseProcess:
    """Run `cutline WORDS…` in a new process, whose source blocks after `count` images.

    It writes what is done as often as it can.
    """
    ready, sender = multiprocessing.Pipe(duplex=False)
    with ready, sender:
        process = start(_run_slowly, [*words, *SLOW], count, sender)
        assert ready.poll(DEADLINE)
    return process


def stop(process: BaseProcess, number: int = signal.SIGTERM) -> int | None:
    """Send a signal to a process, and return its exit code."""
    assert process.pid
    os.kill(process.pid, number)
    process.join(DEADLINE)
    return process.exitcode


def list_parts(state: Path) -> set[str]:
    """Return the names of the parts in the folder of a run or index."""
    return {path.name for path in state.glob("part-*")}


def _run_slowly(words: list[str], count: int, ready: Connection) -> None:
    become_foreground()
    ready.send(None)
    from cutline.bulk import parts
    from cutline.bulk.run import CaptionRun
    from cutline.retrieval.run import IndexRun

    parts.MIN_PART_SECONDS = 0
    for run in (CaptionRun, IndexRun):
        run._select = _block_after(count, run._select)  # type: ignore[attr-defined]
    run_main(words)


def _block_after(count: int, select: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    def select_slowly(*arguments: Any) -> Iterator[Any]:
        for number, sample in enumerate(select(*arguments)):
            if number == count:
                threading.Event().wait()
            time.sleep(PAUSE)
            yield sample

    return select_slowly
