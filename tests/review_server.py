"""`cutline review` in a process of its own."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

REPOSITORY = Path(__file__).parents[1]


class ReviewServer:
    """A process; use it as a context manager, which ends it with Ctrl-C."""

    def __init__(self, data: Path, *flags: str) -> None:
        command = [sys.executable, "-m", "cutline", "review", str(data), "--no-browser", *flags]
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        self.lines: list[str] = []
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if match := re.search(r"review at (http://\S+)", line):
                self.address = match[1]
                break
        else:
            raise AssertionError("".join(self.lines))
        self.client = httpx.Client(base_url=self.address, timeout=60)

    def __enter__(self) -> "ReviewServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Return the JSON of an answer, which must be a success."""
        response = self.client.request(method, path, json=body)
        assert response.status_code == 200, response.text
        return response.json()

    def stop(self, number: int = signal.SIGINT) -> int:
        """Send a signal, and return the exit code; what was printed is in `lines`."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for the end, and return the exit code."""
        self.client.close()
        assert self.process.stderr is not None
        if not self.process.stderr.closed:
            with self.process.stderr as stderr:
                self.lines += stderr.readlines()
        return self.process.wait(20)
