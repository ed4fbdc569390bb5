"""Server processes that are measured: `cutline serve`, and the plain server."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from results import progress

STARTING_SECONDS = 300
_ADDRESS = re.compile(r"listening at (http://\S+)")


@dataclass(frozen=True)
class RunningServer:
    """A server process that is ready."""

    process: subprocess.Popen[bytes]
    address: str

    def read_memory(self) -> float:
        """Return the resident memory in MiB (Linux)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def read_cpu_seconds(self) -> float:
        """Return the CPU time (Linux)."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def run_cutline(model: Path, log: Path, *flags: str) -> Iterator[RunningServer]:
    """Run `cutline serve` with a model until the block ends."""
    words = ["-m", "cutline", "serve", "--model", str(model), "--port", "0", *flags]
    with run_server_process(words, log) as server:
        yield server


@contextmanager
def run_plain(model: Path, log: Path) -> Iterator[RunningServer]:
    """Run the plain server with a model until the block ends."""
    words = [str(Path(__file__).with_name("plain_server.py")), str(model)]
    with run_server_process(words, log) as server:
        yield server


@contextmanager
def run_server_process(words: Sequence[str], log: Path) -> Iterator[RunningServer]:
    """Run a Python process that serves until the block ends.

    Raises:
        RuntimeError: It ended before it was ready; the message is what it wrote.
    """
    progress.print(f"starting {' '.join(words)}")
    with log.open("wb") as file:
        process = subprocess.Popen([sys.executable, *words], stdout=file, stderr=file)
    try:
        yield RunningServer(process, wait_until_ready(process, log))
    finally:
        process.terminate()
        process.wait()


def wait_until_ready(process: subprocess.Popen[bytes], log: Path) -> str:
    """Return the address of a server, once it takes requests."""
    end = time.monotonic() + STARTING_SECONDS
    while process.poll() is None and time.monotonic() < end:
        if found := _ADDRESS.search(log.read_text("utf-8")):
            try:
                with urlopen(f"{found[1]}/readyz"):
                    return found[1]
            except URLError:  # HTTPError, too
                pass
        time.sleep(0.05)
    raise RuntimeError(log.read_text("utf-8"))
