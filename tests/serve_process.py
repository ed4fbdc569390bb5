"""`cutline serve` in a process of its own."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen


@contextmanager
def serve(model: Path, *flags: str) -> Iterator[str]:
    """Start a server, and yield its address once its model is loaded; stop it on leaving."""
    command = [sys.executable, "-m", "cutline", "serve", "--model", model, "--port", "0"]
    with subprocess.Popen(
        [*command, "--device", "cpu", "--precision", "fp32", *flags],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    ) as process:
        try:
            assert process.stderr
            line = process.stderr.readline()
            address = re.search(r"https?://\S+", line)
            assert address, line + process.stderr.read()
            wait_until_ready(address[0])
            yield address[0]
        finally:
            process.send_signal(signal.SIGTERM)
            stderr = process.communicate(timeout=30)[1]
    assert process.returncode == 0, stderr


def wait_until_ready(address: str) -> None:
    """Wait until a server is ready."""
    for _ in range(3000):
        try:
            urlopen(f"{address}/readyz").close()
        except HTTPError as error:  # 503
            error.close()
            time.sleep(0.02)
        else:
            return
    raise TimeoutError(f"{address} is not ready")
