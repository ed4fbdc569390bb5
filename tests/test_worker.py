"""Worker processes end with their parent, however it ends."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from proc import is_running, wait_for_end

from cutline.worker import init_worker

PARENT = """
import multiprocessing, sys, time
sys.path.insert(0, {folder!r})
from test_worker import work

if __name__ == "__main__":
    context = multiprocessing.get_context({method!r})
    workers = [context.Process(target=work, args=({folder!r},)) for _ in range(3)]
    for worker in workers:
        worker.start()
    print(*[worker.pid for worker in workers], flush=True)
    time.sleep(100)
"""


def work(folder: str) -> None:
    init_worker(signal.SIGTERM)
    (Path(os.environ["STARTED"]) / str(os.getpid())).touch()
    while True:  # never idle
        sum(range(10_000))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_busy_workers_end_when_their_parent_is_killed(tmp_path: Path, method: str) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT.format(folder=str(Path(__file__).parent), method=method))
    parent = subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "STARTED": str(tmp_path)},
    )
    assert parent.stdout
    pids = [int(word) for word in parent.stdout.readline().split()]
    deadline = time.monotonic() + 60
    while not all((tmp_path / str(pid)).exists() for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for pid in pids:
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
    time.sleep(0.1)
    assert all(map(is_running, pids))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_for_end(pids, deadline - time.monotonic())


def test_a_worker_without_work_ends_too() -> None:
    worker = multiprocessing.get_context("spawn").Process(target=init_worker)
    worker.start()
    worker.join(60)
    assert worker.exitcode == 0
