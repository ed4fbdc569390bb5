"""The process of one device, which is replaced when it dies."""

import pickle
import queue
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TypeAlias

import torch

from cutline.bulk.engine import CaptionJob, Result, stream_results
from cutline.data import Sample
from cutline.errors import CutlineError
from cutline.messages import first_line
from cutline.worker import MAX_DEATHS, WorkerProcess

Message: TypeAlias = Result | str | None
"""what a process sends: None when its model is loaded; results, whose `index` is the number of
their sample; an error without `index`, which ends all; why it ends otherwise"""


@dataclass(eq=False, slots=True)
class _Task:
    """A sample to caption."""

    sample: Sample
    num_deaths: int = 0
    """processes that have died while they had it"""

    @property
    def is_suspect(self) -> bool:
        """Return whether it is captioned alone, to find out whether processes die of it."""
        return self.num_deaths > 0


class DeviceProcess:
    """The process of one device, and those that replace it.

    Attributes:
        device: Its device.
        is_ready: Whether the process has loaded the model.
        num_failed_starts: Number of processes in a row before this one that have not.
    """

    def __init__(self, job: CaptionJob, device: str, num_sharing: int, limit: int) -> None:
        """Start a process.

        Args:
            job: The settings.
            device: The device.
            num_sharing: Number of processes on this device.
            limit: Number of samples that a process has at a time.
        """
        self.device, self.num_failed_starts = device, 0
        self._arguments, self._limit = (job, device, num_sharing), limit
        self._waiting: deque[_Task] = deque()  # those of processes that died
        self._start()

    def _start(self) -> None:
        self._process = WorkerProcess(_run_captioner, *self._arguments)
        self.is_ready, self._num_sent = False, 0
        self._running: dict[int, _Task] = {}  # those that were sent, by their number

    @property
    def connection(self) -> Connection:
        """Return the connection to the process, which changes when it is replaced."""
        return self._process.connection

    @property
    def is_busy(self) -> bool:
        """Return whether any samples have no result yet."""
        return bool(self._running or self._waiting)

    @property
    def room(self) -> int:
        """Return how many more samples it takes."""
        suspects = any(task.is_suspect for task in self._running.values())
        is_open = self.is_ready and not self._waiting and not suspects
        return self._limit - len(self._running) if is_open else 0

    def send(self, sample: Sample) -> None:
        """Caption a sample, for which there must be room."""
        self._send(_Task(sample))

    def receive(self) -> Message:
        """Return the next message."""
        try:
            message: Message = self.connection.recv()
        except (EOFError, OSError):
            return self._process.explain_end()
        if message is None:
            self.is_ready = True
            self.num_failed_starts = 0
            self._send_waiting()
        return message

    def finish(self, index: int) -> Sample:
        """Return the sample of a result."""
        task = self._running.pop(index)
        self._send_waiting()
        return task.sample

    def replace(self) -> list[Sample]:
        """Replace the process, which has died.

        Its samples are captioned again, one at a time.

        Returns:
            The sample that MAX_DEATHS processes died with, if there is one; it is given up.
        """
        self._process.close()
        self.num_failed_starts += not self.is_ready
        tasks = list(self._running.values())
        for task in tasks:
            task.num_deaths += 1
        # One that was alone comes last: another kill at a bad moment hits another one.
        self._waiting.extend(task for task in tasks if task.num_deaths < MAX_DEATHS)
        self._start()
        return [task.sample for task in tasks if task.num_deaths >= MAX_DEATHS]

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()

    def close(self) -> None:
        """End the process at once, and wait for its end."""
        self._process.close()

    def _send_waiting(self) -> None:
        while self._waiting and self._may_send(self._waiting[0]):
            self._send(self._waiting.popleft())

    def _may_send(self, task: _Task) -> bool:
        alone = any(each.is_suspect for each in (task, *self._running.values()))
        return len(self._running) < (1 if alone else self._limit)

    def _send(self, task: _Task) -> None:
        self._running[self._num_sent] = task
        self._num_sent += 1
        with suppress(OSError):  # it has died, as `receive` will find
            self.connection.send(task.sample)


def _run_captioner(connection: Connection, job: CaptionJob, device: str, num_sharing: int) -> None:
    """Caption the samples that come, in a process of its own."""
    torch.set_num_threads(max(1, torch.get_num_threads() // num_sharing))
    received: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    samples = map(pickle.loads, iter(received.get, None))
    try:
        models = job.load(device)
        results = stream_results(models, job, samples, job.inference.batch_size)
        connection.send(None)
        # It reads at once what is sent, since the sender receives nothing while it sends.
        threading.Thread(target=_receive, args=(connection, received), daemon=True).start()
        for result in results:
            connection.send(result)
    except CutlineError as error:
        _send_last(connection, error)
    except Exception as error:
        _send_last(connection, f"failed ({type(error).__name__}: {first_line(error)})")


def _receive(connection: Connection, received: "queue.SimpleQueue[bytes | None]") -> None:
    with suppress(EOFError, OSError):
        while True:
            received.put(connection.recv_bytes())
    received.put(None)


def _send_last(connection: Connection, message: Message) -> None:
    with suppress(OSError):  # nobody receives it
        connection.send(message)
