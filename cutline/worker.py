"""Worker processes: they leave signals to their parent, and end when it ends."""

import atexit
import os
import signal
import threading
from functools import cache
from multiprocessing import active_children, connection, parent_process


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
