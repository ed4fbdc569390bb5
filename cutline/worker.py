"""Worker processes: they leave signals to their parent, and end when it ends."""

import atexit
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from multiprocessing import (
    active_children,
    connection,
    current_process,
    get_context,
    parent_process,
)
from typing import Any

from cutline.errors import ImageError, WorkerError
from cutline.interrupt import STOP_SIGNALS
from cutline.messages import first_line, one_line

MAX_DEATHS = 3
"""processes that may die while they work on the same thing, before it is blamed"""
END_TIMEOUT = 5.0  # seconds to wait for a process that has closed its connection, or was killed


class WorkerProcess:
    """A process that runs a function, and a connection to it.

    It leaves all stop signals to this process, and may start processes of its own.

    Attributes:
        connection: This end of the connection. Reading from it raises EOFError or OSError once the
            process has ended.
    """

    def __init__(self, function: Callable[..., object], *args: object) -> None:
        """Start the process.

        Args:
            function: What it runs, a function of a module.
            *args: Arguments of the function, after the other end of the connection.

        Raises:
            WorkerError: The process cannot be started.
        """
        end_workers_at_exit()
        context = get_context("spawn")
        self.connection, other_end = context.Pipe()
        self._process = context.Process(target=_run, args=(function, other_end, *args), daemon=True)
        try:
            with _block_stop_signals():
                self._process.start()
        except RuntimeError:
            raise WorkerError(
                "a process cannot be started by a script that the new process would run again: "
                'put what the script does below `if __name__ == "__main__":`'
            ) from None
        except OSError as error:
            raise WorkerError(
                f"a process cannot be started ({first_line(error)}): use fewer processes, or end "
                "other programs"
            ) from None
        other_end.close()

    def explain_end(self) -> str:
        """Return why the connection was closed, such as "was killed by SIGKILL"."""
        self._process.join(END_TIMEOUT)
        return _describe_exit(self._process.exitcode)

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()

    def close(self) -> None:
        """End the process at once, wait for its end, and close the connection."""
        self._process.kill()
        self._process.join(END_TIMEOUT)
        self.connection.close()


def blame_image(name: str, reason: str) -> ImageError:
    """Return the error of an image that MAX_DEATHS processes died with.

    Args:
        name: The image.
        reason: What became of the process, such as "was killed by SIGKILL".
    """
    return ImageError(
        f"{one_line(name)}: the process that captioned it {reason}, perhaps for lack of memory; "
        "check the image and memory, and try again"
    )


def _run(function: Callable[..., object], *args: Any) -> None:
    init_worker(*STOP_SIGNALS)
    current_process().daemon = False  # it may start processes, which end when it is killed
    function(*args)


@contextmanager
def _block_stop_signals() -> Iterator[None]:
    """Start a process with its stop signals blocked: it takes seconds until it ignores them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _describe_exit(code: int | None) -> str:
    if code is None:
        return "does not answer"
    if code >= 0:
        return f"ended with exit code {code}"
    with suppress(ValueError):  # a real-time signal has no name
        return f"was killed by {signal.Signals(-code).name}"
    return f"was killed by signal {-code}"


def init_worker(*ignored: int) -> None:
    """Initialize a worker process, which must be started by `multiprocessing`.

    If the parent is killed, this process ends at once, whatever it is doing.

    Args:
        *ignored: Signals besides Ctrl-C that are left to the parent, because a terminal or a job
            scheduler sends them to all processes.
    """
    for number in (signal.SIGINT, *ignored):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="cutline-parent", daemon=True).start()


@cache
def end_workers_at_exit() -> None:
    """Let no worker that still waits for data keep this process from ending.

    At exit, `multiprocessing` waits for workers after a SIGTERM, which they may ignore.
    """
    atexit.register(_kill_workers)


def _kill_workers() -> None:
    for worker in active_children():
        if worker.daemon:
            worker.kill()


def _end_with_parent() -> None:
    if parent := parent_process():
        connection.wait([parent.sentinel])
        os._exit(1)
