"""`start_server`: a real server, in a process of its own."""

import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from random_captioner import save_captioner

from cutline.captioner import Captioner

REPOSITORY = Path(__file__).parents[1]
START_SECONDS = 60


@dataclass(frozen=True)
class RunningServer:
    """A server that has loaded its model.

    Attributes:
        url: Its address, such as http://127.0.0.1:40123.
        captioner: The same captioner, in this process.
        process: The process, which tests may send signals.
        log: Lines that it has written to stderr.
    """

    url: str
    captioner: Captioner
    process: subprocess.Popen[str]
    log: list[str]


@contextmanager
def start_server(folder: Path, *flags: str) -> Iterator[RunningServer]:
    """Run `cutline serve` with a random captioner, at a free port, until the context ends.

    Args:
        folder: Gets the captioner, in a folder `tiny`, which also names the model.
        *flags: Further flags.
    """
    model = folder / "tiny"
    captioner = save_captioner(model)
    words = ("--model", str(model), "--device", "cpu", "--precision", "fp32", *flags)
    with run_serve(*words) as (url, process, log):
        yield RunningServer(url, captioner, process, log)


@contextmanager
def run_serve(*flags: str) -> Iterator[tuple[str, subprocess.Popen[str], list[str]]]:
    """Run `cutline serve` at a free port; yield its address, the process and its log."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cutline", "serve", "--port", "0", *flags],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
    )
    log: list[str] = []
    reader = threading.Thread(target=collect_lines, args=(process, log), daemon=True)
    reader.start()
    try:
        wait_until_loaded(process, log)
        url = re.search(r"https?://\S+", "\n".join(log))
        assert url, log
        yield url[0], process, log
    finally:
        process.kill()
        process.wait()
        reader.join()
        assert process.stderr
        process.stderr.close()


def collect_lines(process: subprocess.Popen[str], log: list[str]) -> None:
    """Read what a process writes to stderr, until it ends."""
    assert process.stderr
    log.extend(line.rstrip("\n") for line in process.stderr)


def wait_until_loaded(process: subprocess.Popen[str], log: list[str]) -> None:
    """Wait until the log says that the model is loaded."""
    end = time.monotonic() + START_SECONDS
    while not any(line.endswith("is loaded") for line in log):
        assert process.poll() is None, log
        assert time.monotonic() < end, log
        time.sleep(0.01)


def read_url(url: str, data: object = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Return the status, the headers (names in lower case) and the body of a response.

    Args:
        url: The address.
        data: What to send: bytes, or what becomes JSON; nothing makes it a GET.
        **headers: Headers; `_` in their names stands for `-`.
    """
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if data is not None and not isinstance(data, bytes):
        data = json.dumps(data).encode()
        named = {"Content-Type": "application/json"} | named
    request = urllib.request.Request(url, data, named)
    try:
        response = urllib.request.urlopen(request, timeout=START_SECONDS)
    except urllib.error.HTTPError as error:
        response = error
    with response:
        lower = {name.lower(): value for name, value in response.headers.items()}
        return response.status, lower, response.read()
