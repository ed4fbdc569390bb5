"""The engine that captions in several processes, one per device.

A process that dies is replaced, and the samples that it had are captioned again. It may have died
of one of them, so each is captioned alone then: the one that processes die of again is an error.
"""

import itertools
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from operator import attrgetter
from typing import Any

from cutline.bulk.device_process import DeviceProcess
from cutline.bulk.job import Job, Result
from cutline.bulk.reader import SampleReader
from cutline.data import Sample
from cutline.errors import CutlineError, WorkerError
from cutline.worker import MAX_DEATHS, blame_image

logger = logging.getLogger(__name__)

BATCHES_AHEAD = 4
"""batches of samples that a process has been sent and has not returned"""
MAX_FRUITLESS_DEATHS = 10
"""deaths in a row, without any result, after which no process is started again"""


def caption_in_processes(
    samples: Iterator[Sample], job: Job, devices: Sequence[str]
) -> Iterator[tuple[Sample, Result]]:
    """Caption samples in several processes.

    Args:
        samples: The samples, which a thread of its own reads.
        job: The settings.
        devices: The device of each process. Several processes on the CPU share its cores.

    Yields:
        Each sample with its caption or its error, as they are done. An image that processes died of
        is an ImageError.

    Raises:
        CutlineError: The model cannot be loaded, or processes die whatever they caption.
    """
    first = list(itertools.islice(samples, 1))
    if not first:
        return
    limit = BATCHES_AHEAD * job.inference.batch_size
    with (
        _start_processes(job, devices, limit) as processes,
        SampleReader(itertools.chain(first, samples), limit * len(devices)) as reader,
    ):
        yield from _Dispatcher(processes, reader).caption()


@contextmanager
def _start_processes(job: Job, devices: Sequence[str], limit: int) -> Iterator[list[DeviceProcess]]:
    """Start the processes, and end them with the block."""
    processes: list[DeviceProcess] = []
    try:
        for device in devices:
            processes.append(DeviceProcess(job, device, devices.count(device), limit))
        yield processes
    finally:
        for process in processes:  # all of them before the end of the first is awaited
            process.kill()
        for process in processes:
            process.close()


class _Dispatcher:
    """Sends samples to processes, and receives their results."""

    def __init__(self, processes: list[DeviceProcess], reader: SampleReader) -> None:
        self._processes, self._reader = processes, reader
        self._num_deaths = 0  # since the last result

    def caption(self) -> Iterator[tuple[Sample, Result]]:
        """Yield all samples with their results, as they are done."""
        while not self._reader.ended or any(process.is_busy for process in self._processes):
            for process in self._wait():
                if process is None:
                    self._send_next()
                    continue
                for result in self._receive(process):
                    self._reader.release()
                    yield result
        self._reader.raise_error()

    def _wait(self) -> list[DeviceProcess | None]:
        """Wait for messages; return the processes that have one, and None for a new sample."""
        senders: dict[Any, DeviceProcess | None] = {
            process.connection: process for process in self._processes
        }
        if not self._reader.ended and any(process.room for process in self._processes):
            senders[self._reader.arrivals] = None
        return [senders[connection] for connection in wait(senders)]

    def _send_next(self) -> None:
        process = max(self._processes, key=attrgetter("room"))
        if process.room and (sample := self._reader.take()):
            process.send(sample)

    def _receive(self, process: DeviceProcess) -> list[tuple[Sample, Result]]:
        message = process.receive()
        if message is None:
            return []
        if isinstance(message, str):
            return self._replace(process, message)
        if message.index is None:
            assert isinstance(message, CutlineError)
            raise message
        self._num_deaths = 0
        return [(process.finish(message.index), message)]

    def _replace(self, process: DeviceProcess, reason: str) -> list[tuple[Sample, Result]]:
        """Replace a process that has died; return the samples that it died of."""
        name = f"the process that captions on {process.device}"
        self._num_deaths += 1
        if not process.is_ready and process.num_failed_starts + 1 >= MAX_DEATHS:
            raise WorkerError(
                f"{name} {reason} before its model was loaded, perhaps for lack of memory: "
                "use fewer processes or a smaller model"
            )
        if self._num_deaths >= MAX_FRUITLESS_DEATHS:
            raise WorkerError(
                f"{name} {reason}, as others did before, and no image was captioned between "
                f"{self._num_deaths} such ends: lower batch_size, or check memory and the device"
            )
        logger.warning("%s %s; it is started again", name, reason)
        return [(sample, blame_image(sample.name, reason)) for sample in process.replace()]
