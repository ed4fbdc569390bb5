"""Processes of Linux, as /proc shows them."""

import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def find_descendants(pid: int) -> list[int]:
    """Return the processes that a process has started, and those that they have started."""
    found = [pid]
    for each in found:
        for file in Path(f"/proc/{each}/task").glob("*/children"):
            with suppress(OSError):  # it has ended
                found += map(int, file.read_text().split())
    return found[1:]


def is_running(pid: int) -> bool:
    """Return whether a process exists and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_for_end(pids: Iterable[int], seconds: float) -> None:
    """Wait until processes have ended, which must take no longer than some seconds."""
    deadline = time.monotonic() + seconds
    while any(map(is_running, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
