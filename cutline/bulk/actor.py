"""`CaptionActor`, a captioner in a process of a cluster."""

import itertools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue

import torch

from cutline.bulk.engine import CaptionJob, Models, Result, stream_results
from cutline.data import Sample


class CaptionActor:
    """Captions the batches of concurrent calls in one stream.

    The images of a batch take the slots of those of the batch before, so that the model neither
    runs with a few images only nor waits for the cluster.
    """

    def __init__(self, job: CaptionJob, device: str, num_threads: int, folder: Path) -> None:
        """Store what `load` needs.

        Args:
            job: The settings.
            device: The device, in place of that of the settings.
            num_threads: Number of threads that the model runs with on a CPU.
            folder: What relative paths are relative to, if it exists on this node.
        """
        self._job, self._device, self._num_threads = job, device, num_threads
        self._folder = folder
        self._models: Models | None = None
        self._received: SimpleQueue[tuple[Sample, Future[Result]]] = SimpleQueue()
        self._running: dict[int, Future[Result]] = {}

    def load(self) -> None:
        """Load the models.

        Raises:
            CutlineError: One cannot be loaded.
        """
        with suppress(OSError):
            os.chdir(self._folder)
        torch.set_num_threads(self._num_threads)
        self._models = self._job.load(self._device)

    def run(self) -> None:
        """Caption what the calls of `caption` have received, without end.

        Raises:
            ConfigError: The model cannot do what a setting asks for.
        """
        assert self._models is not None
        batch_size = self._job.inference.batch_size
        for result in stream_results(self._models, self._job, self._read(), batch_size):
            assert result.index is not None
            self._running.pop(result.index).set_result(result)

    def _read(self) -> Iterator[Sample]:
        for index in itertools.count():
            sample, self._running[index] = self._received.get()
            yield sample

    def caption(self, samples: Sequence[Sample]) -> list[Result]:
        """Return the result of each sample, in order, once `run` has captioned them."""
        futures: list[Future[Result]] = [Future() for _ in samples]
        for pair in zip(samples, futures, strict=True):
            self._received.put(pair)
        return [future.result() for future in futures]
