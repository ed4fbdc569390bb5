"""`cutline review` in a process of its own."""

import os
import re
import signal
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from forked import start_command

SECONDS = 60


class ReviewServer:
    """A process; use it as a context manager, which ends it with Ctrl-C."""

    def __init__(self, data: Path, *flags: str) -> None:
        self._folder = TemporaryDirectory()
        self._log = Path(self._folder.name, "log.txt")
        words = ["review", str(data), "--no-browser", *flags]
        self.process = start_command(words, self._log)
        end = time.monotonic() + SECONDS
        while not (match := re.search(r"review at (http://\S+)\n", self.log)):
            assert self.process.is_alive(), self.log
            assert time.monotonic() < end, self.log
            time.sleep(0.01)
        self.address = match[1]
        self.client = httpx.Client(base_url=self.address, timeout=SECONDS)

    @property
    def log(self) -> str:
        """Return what it has printed."""
        return self._log.read_text(encoding="utf-8") if self._log.exists() else ""

    def __enter__(self) -> "ReviewServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._folder.cleanup()

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Return the JSON of an answer, which must be a success."""
        response = self.client.request(method, path, json=body)
        assert response.status_code == 200, response.text
        return response.json()

    def send_signal(self, number: int) -> None:
        """Send a signal, if the process has not ended."""
        if self.process.is_alive():
            assert self.process.pid
            os.kill(self.process.pid, number)

    def stop(self, number: int = signal.SIGINT) -> int:
        """Send a signal, and return the exit code; what was printed is in `log`."""
        self.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for the end, and return the exit code."""
        self.process.join(20)
        self.client.close()  # not before: another thread may use it until the server is gone
        assert self.process.exitcode is not None, self.log
        return self.process.exitcode
