"""`fork_server`: a real server, in a process that starts soon; see `forked`."""

import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from forked import become_foreground, redirect_output, run_main, start

START_SECONDS = 60


@dataclass(frozen=True)
class ForkedServer:
    """A server.

    Attributes:
        url: Its address.
        process: The process, which tests may send signals.
        temporary: The folder of its temporary files.
    """

    url: str
    process: BaseProcess
    temporary: Path
    _log: Path

    @property
    def pid(self) -> int:
        """Return the number of the process."""
        assert self.process.pid
        return self.process.pid

    @property
    def log(self) -> str:
        """Return what it has written to stderr."""
        return self._log.read_text()


@contextmanager
def fork_server(
    folder: Path,
    model: Path,
    *flags: str,
    until: str = " is loaded",
    run: Callable[[list[str]], None] = run_main,
) -> Iterator[ForkedServer]:
    """Run `cutline serve` at a free port, until the context ends.

    Args:
        folder: Gets its log and temporary files.
        model: The captioner.
        *flags: Further flags.
        until: What it writes when the context begins.
        run: Runs the command in the process.
    """
    words = ("serve", "--model", str(model), "--device", "cpu", "--port", "0", *flags)
    with fork_command(folder, *words, until=until, run=run) as server:
        yield server


@contextmanager
def fork_command(
    folder: Path,
    *words: str,
    until: str = " is loaded",
    run: Callable[[list[str]], None] = run_main,
) -> Iterator[ForkedServer]:
    """Run a command that serves, until the context ends; see `fork_server`."""
    log, temporary = folder / "log.txt", folder / "temporary"
    log.unlink(missing_ok=True)
    temporary.mkdir(parents=True, exist_ok=True)
    process = start(_serve, run, list(words), str(log), str(temporary))
    try:
        end = time.monotonic() + START_SECONDS
        while not (log.exists() and until in log.read_text()):
            assert process.is_alive(), log.exists() and log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.01)
        url = re.search(r"https?://\S+", log.read_text())
        assert url
        yield ForkedServer(url[0], process, temporary, log)
    finally:
        process.kill()
        process.join()


def _serve(run: Callable[[list[str]], None], words: list[str], log: str, temporary: str) -> None:
    become_foreground()
    os.environ["TMPDIR"], tempfile.tempdir = temporary, None
    redirect_output(Path(log))
    run(words)
